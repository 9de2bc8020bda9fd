"""`doctor --live` from the price to the last word: what it may cost, one question, one small run a provider."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from orchestrator.cli.common import print_json
from orchestrator.cli.driving import DriveOptions, open_views
from orchestrator.cli.live.answers import Answer, answers
from orchestrator.cli.live.probe import PHASE, Probe, priced, printed
from orchestrator.cli.live.watcher import Watcher
from orchestrator.cli.live.wire import Wire
from orchestrator.report.console import say
from orchestrator.words.errors import ExitCode, NoMachine, OverBudget, ProviderUnavailable, UsageError
from orchestrator.words.observed import Observed
from orchestrator.words.provider import Capability

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.words.model import Plan
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home
    from orchestrator.world.world import World

TAG = "doctor-live"
CAP_USD = Decimal(1)  # at each provider, where nothing is said
KIB = 1024


@dataclass(frozen=True)
class LiveOptions:
    """The flags. `cap`: USD at each provider; `out`: where the fixtures go, None: the home, but of a rehearsal."""

    cap: Decimal
    provider: str | None
    out: Path | None
    dry_run: bool
    yes: bool
    json: bool


@dataclass(frozen=True)
class Prices:
    """What there is to ask, before anything is rented."""

    probes: tuple[Probe, ...]
    without: tuple[Asked, ...]  # providers that have no machine now
    missing: dict[str, str]  # those that cannot be asked, and why
    time_scale: float  # of the world that will be asked


@dataclass
class Asked:
    """One provider, and what came of it. `exit`: as a run's; `why`: what was wrong."""

    provider: str
    exit: ExitCode = ExitCode.DONE
    why: str = ""
    run: str = ""
    usd: Decimal = Decimal(0)
    answers: tuple[Answer, ...] = ()
    fixture: Path | None = None

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "provider": self.provider, "exit": int(self.exit), "why": self.why, "run": self.run,
            "usd": f"{self.usd:.4f}", "answers": [asdict(one) for one in self.answers],
            "fixture": str(self.fixture) if self.fixture else None,
        }  # fmt: skip


def ask_live(home: Home, ledger: Ledger, plan: Plan, options: LiveOptions) -> None:
    """Ask each provider whose key is set. Exit: the highest exit code of all of them.

    OverBudget: one of them may cost more than the cap; nothing was rented.
    """
    prices = _prices(home, ledger, plan, options)
    asked = list(prices.without)
    for name, why in prices.missing.items():
        say(f"{name} is not asked: {why}", err=options.json)
    if prices.probes:
        _confirm(prices.probes, options)
    for probe in prices.probes:
        asked.append(one := _ask(home, ledger, plan, probe, options, prices.time_scale))
        _tell(one, options)
        if one.exit in {ExitCode.INTERRUPTED, ExitCode.STILL_RUNNING}:
            break
    worst = max(one.exit for one in asked)
    if options.json:
        found = [one.document() for one in asked]
        done = worst == ExitCode.DONE
        print_json({"ok": done, "dry_run": options.dry_run, "providers": found, "missing": prices.missing})
    if worst != ExitCode.DONE:
        raise typer.Exit(int(worst))


def _prices(home: Home, ledger: Ledger, plan: Plan, options: LiveOptions) -> Prices:
    """Ask for prices alone. UsageError: no key is set."""
    from orchestrator.cli.offering import asked_world

    probes: list[Probe] = []
    without: list[Asked] = []
    with asked_world(home, ledger, plan, dry_run=options.dry_run) as (world, _):
        names = [options.provider] if options.provider else list(plan.settings.providers)
        providers, missing = world.providers(names)
        for provider in providers:
            try:
                probes.append(priced(provider, plan, options.cap))
            except (NoMachine, ProviderUnavailable) as error:
                without.append(one := Asked(provider.name, ExitCode.NO_MACHINE, str(error)))
                _tell(one, options)
        return Prices(tuple(probes), tuple(without), missing, world.clock.time_scale)


def _confirm(probes: Sequence[Probe], options: LiveOptions) -> None:
    """Show what it may cost, and ask. UsageError: nobody is there to; Exit: no."""
    for probe in probes:
        volume = ", a small volume" if probe.has_volume else ""
        what = f"{probe.offer.gpu} in {probe.offer.place} at ${probe.offer.price_hour:.4f} an hour{volume}"
        say(f"{probe.provider}: {what}; a few cents, at most ${probe.usd:.2f} at its deadline", err=options.json)
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to confirm", remedy="--yes rents without asking")
    if not typer.confirm("Rent, ask and end them?", err=options.json):
        say("nothing was rented", err=options.json)
        raise typer.Exit


def _ask(home: Home, ledger: Ledger, plan: Plan, probe: Probe, options: LiveOptions, time_scale: float) -> Asked:
    """Rent, look on, end, as a run does it; what was seen."""
    from orchestrator.cli.drafting import draft
    from orchestrator.cli.flags import RunOptions
    from orchestrator.cli.running import prepared

    wire = Wire()
    wanted = RunOptions(
        options.dry_run, False, False, probe.provider, "", None, "", (), (), False, None, (), None, (TAG,)
    )  # fmt: skip
    spec = draft(home, probe.plan(plan, options.cap, time_scale), (PHASE,), wanted)
    spec = spec.model_copy(update={"place": probe.offer.place, "fleeting": True})
    how = DriveOptions(yes=True, json=options.json, detach=False)
    try:
        world, spec = prepared(home, ledger, spec, how, amend=wire.amend)
    except (NoMachine, OverBudget, ProviderUnavailable) as error:
        return Asked(probe.provider, max(error.exit_code, ExitCode.NO_MACHINE), str(error))
    one, seen = _driven(world, spec, how, wire)
    one.answers = tuple(answers(seen, world.provider(probe.provider), plan.settings.boot_seconds))
    folder = options.out or (None if options.dry_run else home.fixtures)
    if folder and one.exit == ExitCode.DONE:
        one.fixture = seen.save(folder)
    return one


def _driven(world: World, spec: RunSpec, how: DriveOptions, wire: Wire) -> tuple[Asked, Observed]:
    """The run's whole life, somebody looking on; how it ended, and what was seen."""
    from orchestrator.engine import accounting
    from orchestrator.report import pages
    from orchestrator.runner import drive
    from orchestrator.world import tidy

    name, ledger = spec.world.provider, world.ledger
    provider = world.provider(name)  # one for all: it keeps the vendor's pace
    kept = replace(world, provider=lambda _name: provider, leave=lambda _run: None)  # looked at to the very end
    try:
        with open_views(how) as view, Watcher(kept, spec) as watcher:
            result = drive(kept, spec, view, attended=False)
    finally:
        world.leave(spec.run)
    if spec.world.throwaway:
        tidy.clear(tidy.litter(world.home, ledger))
    if result.exit_code != ExitCode.DONE:
        pages.end(ledger, spec, err=how.json)
    why = "; ".join(result.left) or ledger.phases.get(run=spec.run, name=PHASE).error
    one = Asked(name, result.exit_code, why, spec.run, accounting.accrued(ledger, spec.run))
    return one, _observed(world, spec, watcher, wire, whole=result.exit_code == ExitCode.DONE)


def _observed(world: World, spec: RunSpec, watcher: Watcher, wire: Wire, *, whole: bool) -> Observed:
    """All that was seen. `whole`: the machine lived as long as it was to."""
    provider = world.provider(spec.world.provider)
    said = printed(world.home.run_folder(spec.run))
    rows = [row for row in world.ledger.machines.all(run=spec.run) if row.accepted_at]
    row = rows[-1] if rows else None
    volume = spec.plan.phase(PHASE).volume
    kib = said.get("disk_kib") if volume else None
    asked_for = whole and Capability.PRIVATE_NETWORK in provider.capabilities
    return Observed(
        provider=provider.name,
        seen_on=datetime.now(UTC).date().isoformat(),
        rehearsed=spec.world.dry_run,
        machine=f"{row.type_id} in {row.place}" if row else "",
        image=spec.plan.settings.images.get(provider.name, ""),
        price_hour=row.price_hour if row else None,
        private_never=asked_for and "private_s" not in watcher.seen,
        volume_gb=volume.size_gb if volume else None,
        volume_tier=watcher.tier,
        disk_gb=(Decimal(kib) * KIB / 10**9).quantize(Decimal("0.01")) if isinstance(kib, int) else None,
        quotas=watcher.facts.quotas,
        bids=watcher.facts.bids,
        firewall=watcher.facts.firewall,
        torch=str(said.get("torch", "")),
        replies=wire.replies,
        **watcher.seen,
    )


def _tell(one: Asked, options: LiveOptions) -> None:
    """A provider's answers, for people."""
    if options.json:
        return
    how = f"asked for ${one.usd:.4f}, and ended" if one.exit == ExitCode.DONE else one.why or one.exit.name
    say(f"{one.provider}{f' ({one.run})' if one.run else ''}: {how}")
    for answer in one.answers:
        say(f"  {answer.question}: {answer.answer}" + (f" ({answer.means})" if answer.means else ""))
    if one.fixture:
        say(f"  written to {one.fixture}: rehearsals that find it in GPUPLAN_HOME do as it says")
    if one.exit == ExitCode.STILL_RUNNING:
        say(f"  gpuplan down {one.run} ends what is left")
