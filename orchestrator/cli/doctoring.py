"""The command that looks whether everything a run needs is there: doctor."""

from __future__ import annotations

from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import ConfigFile, Json, PlanName, Yes, open_home, print_json, read_plan
from orchestrator.report.console import say
from orchestrator.words.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.cli.checks import Finding
    from orchestrator.words.model import Plan


def doctor(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Of the rehearsed clouds on this computer.")] = False,
    store: Annotated[
        list[str] | None, typer.Option("--store", metavar="URL", help="A store to look at, in place of the settings'.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Rent one small machine at each provider, ask what no document says, end it.")
    ] = False,
    max_usd: Annotated[
        str | None,
        typer.Option("--max-usd", metavar="USD", help="With --live: the most that it may cost at each provider (1)."),
    ] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="NAME", help="With --live: only this one.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="With --live: where the answers go, in place of GPUPLAN_HOME."),
    ] = None,
    yes: Yes = False,
    notify: Annotated[bool, typer.Option("--notify", help="Send a test message to who is told of runs.")] = False,
    plan: PlanName = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Look whether keys, credit, stores, hub, clock and disk will do, and what is left anywhere.

    Each line says ok, or what is wrong and what to do; exit code 2 when something is wrong. No machine and no volume is
    created; in each store a small object is written and removed. Without a plan here, the shipped one is looked at.
    With --live a machine is rented at each provider whose key is set, after a question, and ended again.
    """
    from orchestrator.cli.checks import Patient, examine
    from orchestrator.cli.offering import asked_world
    from orchestrator.cli.terms import withheld

    if not live and (max_usd or provider or out or yes):
        raise UsageError("--max-usd, --provider, --out and --yes belong to --live", remedy="add it, or leave them out")
    home, ledger = open_home()
    loaded = _plan(plan, config)
    if live:
        from orchestrator.cli.live.command import CAP_USD, LiveOptions, ask_live
        from orchestrator.config import read_budget

        cap = (max_usd and read_budget(max_usd)) or CAP_USD
        ask_live(home, ledger, loaded, LiveOptions(cap, provider, out, dry_run, yes, json))
        return
    found: list[Finding] = []
    with asked_world(home, ledger, loaded, dry_run=dry_run) as (world, spec):
        unseen = () if store else withheld(home, loaded, spec.stores)
        looked = examine(Patient(world, loaded, tuple(store or ()) or spec.stores, unseen))
        for one in chain(looked, told(loaded, rehearsed=dry_run) if notify else ()):
            found.append(one)
            if not json:
                _tell(one)
    wrong = [one for one in found if one.ok is False]
    if json:
        print_json({"ok": not wrong, "plan": loaded.name, "checks": [asdict(one) for one in found]})
    elif wrong:
        say(f"{len(wrong)} of {len(found)} are wrong")
    else:
        say("all is well")
    if wrong:
        raise typer.Exit(int(ExitCode.USAGE))


def told(plan: Plan, *, rehearsed: bool) -> Iterator[Finding]:
    """Send a test message to each address of `notify:`: whether it was taken. None is shown."""
    from orchestrator.cli.checks import Finding
    from orchestrator.world import notifier

    if not plan.settings.notify:
        yield Finding("notify", None, "nobody is told of a run: notify: in the settings names who is")
        return
    try:
        addresses = notifier.addresses(plan.settings.notify, rehearsed=rehearsed)
    except UsageError as error:
        yield Finding("notify", False, error.message, error.remedy)
        return
    if not addresses:
        yield Finding("notify", None, "a rehearsal tells nobody outside this computer")
    for number, address in enumerate(addresses, 1):
        taken = notifier.by_apprise(address, f"gpuplan: a test of {plan.name}", "Sent by gpuplan doctor --notify.")
        said = "a test message was taken" if taken else "a test message was not taken"
        yield Finding(f"notify {number}", taken, said, "" if taken else "look at the address: the service says no")


def _plan(named: str | None, config: Path | None) -> Plan:
    """The plan here; where there is none, the shipped one."""
    from orchestrator.config import ConfigErrors

    try:
        return read_plan(named, config)
    except ConfigErrors:
        raise
    except UsageError:
        if named is not None:
            raise
        return read_plan("shipped", config)


def _tell(one: Finding) -> None:
    from orchestrator.cli.checks import WORDS

    say(f"{WORDS[one.ok]:5}  {one.name}: {one.detail}")
    if one.remedy and one.ok is not True:
        say(f"       {one.remedy}")
