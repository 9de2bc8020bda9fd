"""From what was asked to what will be done: provider, place, preview; refuses what cannot work before it costs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from decimal import Decimal

from orchestrator.cli import preflight
from orchestrator.config.prices import load_prices
from orchestrator.engine import accounting
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import VolumeRow
from orchestrator.plan import PhaseRun, accepted_keys, kinds, resolve, wanted
from orchestrator.plan.preview import Market, Preview, preview
from orchestrator.report import history
from orchestrator.transport.code import Code
from orchestrator.words.errors import GpuplanError, NoMachine, ProviderUnavailable, UsageError
from orchestrator.words.lifecycle import Outcome, RunState
from orchestrator.words.model import Plan
from orchestrator.words.ports import Capability, Offer, Provider
from orchestrator.words.spec import RunSpec, WorldSpec
from orchestrator.world.home import Home
from orchestrator.world.real import real
from orchestrator.world.world import World


@dataclass(frozen=True, slots=True)
class Proposal:
    """A run that can begin. `up_to_date`: when everything in it was done last; "": there is something to do."""

    spec: RunSpec
    preview: Preview
    volume: str = ""  # the volume that is there already; "": there is none yet
    up_to_date: str = field(default="")


def propose(world: World, spec: RunSpec, code: Code, *, only: bool, check: bool) -> Proposal:
    """Choose provider and place, compute the preview, check stores and secrets. Nothing is created."""
    home, ledger = world.home, world.ledger
    phases = resolve(spec.plan, spec.asked)
    require_free(home, ledger, spec)
    done, as_of = _done(ledger, spec, code)
    open_steps = [s for p in phases for s in p.steps if s.id not in done or spec.force]
    if only and (pulled := [s.id for s in open_steps if s.pulled_in]):
        raise UsageError(f"steps of other phases are missing: {', '.join(pulled)}", remedy="run without --only")
    if not open_steps and done and not check and _finished(home, ledger, spec, phases):
        return Proposal(spec, preview(spec.plan, phases, Market(done=done)), up_to_date=as_of)
    world.require_secrets({name for step in open_steps for name in step.secrets})
    _require_stores(spec, phases)
    volume = _volume(ledger, spec)
    if volume:
        _require_own(home, volume, spec)
    choice = preflight.choose(
        phases,
        _providers(world, spec, volume),
        spot=spec.spot,
        spot_or_demand=spec.spot_or_demand,
        place=volume.place or None if volume else spec.place,
    )
    for url in spec.stores:
        world.store(url).check()
    market = _market(ledger, spec.plan, phases, choice, frozenset() if spec.force else done, len(spec.stores))
    market = replace(market, spent_usd=accounting.accrued_with_earlier(ledger, spec.run))
    seen = () if spec.force else tuple(sorted(done))
    there = spec.world.model_copy(update={"provider": choice.provider.name})
    chosen = spec.model_copy(update={"world": there, "place": choice.place, "seen_done": seen})
    return Proposal(chosen, preview(spec.plan, phases, market), volume.name if volume else "")


def _finished(home: Home, ledger: Ledger, spec: RunSpec, phases: tuple[PhaseRun, ...]) -> bool:
    """Whether the last run of each phase came to a good end, with its artifacts in every store that is asked for.

    Steps that are done are not all: a deliverable may have failed, or the upload been cut short.
    """
    runs = [row.id for row in reversed(ledger.runs.all()) if _same(home, row.id, spec)]
    for phase in phases:
        name = phase.phase.name
        row = next((p for run in runs for p in ledger.phases.all(run=run, name=name)), None)
        if row is None or row.outcome != Outcome.SUCCEEDED:
            return False
        manifest = home.run_folder(row.run) / f"manifest-{name}.json"
        wanted = {f["name"] for f in json.loads(manifest.read_text())} if manifest.exists() else set()
        if phase.phase.artifacts and not wanted:
            return False
        for store in spec.stores:
            if wanted - {a.name for a in ledger.artifacts.all(run=row.run, store=store, state="VERIFIED")}:
                return False
    return True


def _same(home: Home, run: str, spec: RunSpec) -> bool:
    """Whether that run was of the same plan, at the same place."""
    other = _frozen(home, run)
    return other is not None and (other.plan.name, other.plan.folder, other.cloud, other.world.ssh_host) == (
        spec.plan.name, spec.plan.folder, spec.cloud, spec.world.ssh_host,
    )  # fmt: skip


def require_free(home: Home, ledger: Ledger, spec: RunSpec) -> None:
    """UsageError while another run of this plan has not ended: both would write to the same volume."""
    wanted = _labels(spec)
    for row in ledger.runs.all():
        name = row.id
        if name == spec.run or row.state == RunState.DONE or (other := _frozen(home, name)) is None:
            continue
        if (other.cloud, other.world.ssh_host) != (spec.cloud, spec.world.ssh_host) or not wanted & _labels(other):
            continue
        if not home.is_driven(name):
            raise UsageError(
                f"{name} was left unfinished, and works on the same volume",
                remedy=f"gpuplan resume {name} goes on with it, gpuplan down {name} ends what it left",
            )
        raise UsageError(
            f"{name} is running, and works on the same volume",
            remedy=f"gpuplan logs -f {name} looks on, gpuplan down {name} ends it",
        )


def _require_own(home: Home, volume: VolumeRow, spec: RunSpec) -> None:
    """UsageError when a plan in another folder made this volume: two plans of one name are not one plan."""
    maker = _frozen(home, volume.run)
    if maker and not spec.plan.settings.plan and maker.plan.folder != spec.plan.folder:
        made_in = maker.plan.folder or "gpuplan itself"
        raise UsageError(
            f"the volume {volume.name} was made by the plan in {made_in}; this one is in "
            f"{spec.plan.folder or 'gpuplan itself'}",
            remedy="give this plan a name of its own in its gpuplan.yaml (plan: NAME); "
            f"if it is the same plan and was moved: plan: {spec.plan.name}",
        )


def _frozen(home: Home, run: str) -> RunSpec | None:
    """What a run was; None where it cannot be read: it must not stand in the way of others."""
    try:
        return RunSpec.load(home.run_folder(run))
    except UsageError:
        return None


def _labels(spec: RunSpec) -> set[str]:
    """What the volumes of the asked phases are known by."""
    return {spec.label(p.volume) for p in spec.plan.phases if p.volume and p.name in spec.asked}


def _require_stores(spec: RunSpec, phases: tuple[PhaseRun, ...]) -> None:
    """UsageError when a deliverable is to be uploaded and there is nowhere to."""
    for phase in phases:
        if any(d.uploaded for d in phase.phase.deliverables) and not spec.stores:
            raise UsageError(
                f"{phase.phase.name} saves its artifacts, and no store is configured",
                remedy="--store s3://bucket/prefix (or gs://…), or stores: in the configuration",
            )


def _providers(world: World, spec: RunSpec, volume: VolumeRow | None) -> list[Provider]:
    """The providers to ask, best first: the one that was named, the one that has the volume, or the settings'."""
    names = [spec.world.provider] if spec.world.provider else list(spec.plan.settings.providers)
    if volume and volume.provider not in names:
        raise NoMachine(
            f"the plan's volume {volume.name} is at {volume.provider}", remedy=f"--provider {volume.provider}"
        )
    if volume:
        names = [volume.provider]
    found, missing = [], []
    for name in names:
        try:
            found.append(world.provider(name))
        except UsageError as error:
            missing.append(error)
    if not found:
        raise missing[0]
    return found


def _volume(ledger: Ledger, spec: RunSpec) -> VolumeRow | None:
    """The plan's volume, where an earlier run left it; None: there is none yet."""
    living = [r for r in accounting.living_volumes(ledger, spec) if r.label in _labels(spec)]
    return living[-1] if living else None


def _done(ledger: Ledger, spec: RunSpec, code: Code) -> tuple[frozenset[str], str]:
    """The steps whose records held when the volume was last seen, and when that was."""
    volume = _volume(ledger, spec)
    if volume is None:
        return frozenset(), ""
    keys = accepted_keys(spec.plan, code.files)
    rows = [r for r in ledger.records.all(volume=volume.name) if r.key in keys.get(r.step, ())]
    services = {f"{p.name}/{s.name}" for p in spec.plan.phases for s in p.steps if s.ready}
    done = frozenset(r.step for r in rows)
    return (done | services if done else done), history.as_text(max((r.at or 0.0 for r in rows), default=0.0))


def _market(
    ledger: Ledger,
    plan: Plan,
    phases: tuple[PhaseRun, ...],
    choice: preflight.Choice,
    done: frozenset[str],
    stores: int,
) -> Market:
    sizes = {p.phase.volume.size_gb for p in phases if p.phase.volume}
    provider = choice.provider
    has_volume = sizes and Capability.VOLUMES in provider.capabilities
    return Market(
        offers=choice.offers,
        dearest=choice.dearest,
        cpu=_cheapest_cpu(provider, choice.place),
        volume_price_hour=provider.volume_price_hour(max(sizes)) if has_volume else Decimal(0),
        earlier=history.earlier(ledger, plan),
        rates=history.rates(ledger, plan),
        metrics=history.metrics(ledger),
        done=done,
        stores=stores,
    )


def _cheapest_cpu(provider: Provider, place: str | None) -> Offer | None:
    """A CPU machine at that place, for the figure of what needs no GPU; None: not sold, or not to be asked."""
    try:
        offers = provider.offers(gpus=0, spot=False)
    except GpuplanError:
        return None
    return next((o for o in offers if o.available and place in (None, o.place)), None)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A preview, and whose prices it is made with."""

    preview: Preview
    prices_from: str


def estimate(
    home: Home, ledger: Ledger, plan: Plan, asked: tuple[str, ...], *, provider: str | None, spot: bool
) -> Estimate:
    """What a run would take, at the prices of a provider whose key is set, else at the dated list in configs/.

    NoMachine: the provider that was named does not serve it.
    """
    phases, world = resolve(plan, asked), real(home, ledger, WorldSpec(provider=""))
    for name in [provider] if provider else plan.settings.providers:
        try:
            found = world.provider(name)
            choice = preflight.choose(phases, [found], spot=spot, spot_or_demand=False, place=None)
        except (UsageError, NoMachine, ProviderUnavailable):
            if provider:
                raise
            continue
        return Estimate(preview(plan, phases, _market(ledger, plan, phases, choice, frozenset(), 1)), f"{name}, now")
    prices = load_prices()
    sizes = [p.phase.volume.size_gb for p in phases if p.phase.volume]
    offers = {}
    for p in plan.phases:
        for kind in kinds(p, spot=spot, spot_or_demand=False):
            if fitting := wanted(p, prices.offers(p.machine, spot=kind), [kind], place=None):
                offers[p.name] = fitting[0]
    market = Market(
        offers=offers,
        cpu=prices.cpu_offer(),
        volume_price_hour=prices.volume_hour(max(sizes)) if sizes else Decimal(0),
        earlier=history.earlier(ledger, plan),
        rates=history.rates(ledger, plan),
        metrics=history.metrics(ledger),
        stores=1,
    )
    return Estimate(preview(plan, phases, market), f"{prices.provider}'s list of {prices.read_on}: no key is set")
