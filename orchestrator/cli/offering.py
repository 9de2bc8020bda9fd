"""The command that looks at what is for sale: offers."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import ConfigFile, Json, PlanName, choose_world, open_home, print_json, read_plan
from orchestrator.report.console import say
from orchestrator.words.errors import NoMachine, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.cli.market import ProviderOffers
    from orchestrator.ledger import Ledger
    from orchestrator.words.model import Plan
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home
    from orchestrator.world.world import World


def offers(
    phases: Annotated[
        list[str], typer.Argument(metavar="PHASE...|all", help="For one run of these: a volume puts them at one place.")
    ],
    *,
    provider: Annotated[str | None, typer.Option("--provider", metavar="NAME", help="Only this one.")] = None,
    spot: Annotated[bool, typer.Option("--spot", help="Interruptible machines only.")] = False,
    spot_or_demand: Annotated[
        bool, typer.Option("--spot-or-demand", help="Interruptible machines, on-demand ones where none is to be had.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Of the rehearsed clouds on this computer.")] = False,
    plan: PlanName = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show the machines that would be tried for these phases, in order, and why others would not. Rents nothing.

    Prices and stock are the providers' own, now. Where nothing is to be had, the next place is tried, then the next
    type, then the next provider, as long as no volume fixes the place.
    """
    from orchestrator.cli.market import Survey
    from orchestrator.cli.proposal import living_volume
    from orchestrator.engine.resting import resting
    from orchestrator.plan import resolve
    from orchestrator.report import offers as shown

    if spot and spot_or_demand:
        raise UsageError("--spot and --spot-or-demand exclude each other")
    home, ledger = open_home()
    loaded = read_plan(plan, config, phases)
    runs = resolve(loaded, tuple(phases))
    with asked_world(home, ledger, loaded, dry_run=dry_run) as (world, spec):
        volume = living_volume(ledger, spec.model_copy(update={"asked": tuple(r.phase.name for r in runs)}))
        survey = Survey(
            loaded, runs, spot, spot_or_demand, volume.place or None if volume else None,
            resting(ledger, spec, world.clock),
        )  # fmt: skip
        names = [volume.provider] if volume else [provider] if provider else list(loaded.settings.providers)
        if volume and provider not in (None, volume.provider):
            raise NoMachine(
                f"the plan's volume {volume.name} is at {volume.provider}", remedy=f"--provider {volume.provider}"
            )
        asked, missing = world.providers(names)
        found = [survey.of(one) for one in asked]
    if json:
        print_json(shown.document(found, missing, volume.name if volume else ""))
    else:
        shown.show(found, missing, volume.name if volume else "", out=sys.stdout)
    if not any(one.why == "" for one in found):
        raise NoMachine("nobody serves all of it now", remedy=_remedy(found))


def _remedy(found: list[ProviderOffers]) -> str:
    fits = any(crew.left_out for one in found for crew in one.crews)
    return "what is left out, and why, is above" if fits else "gpuplan doctor says whether keys and accounts will do"


@contextmanager
def asked_world(home: Home, ledger: Ledger, plan: Plan, *, dry_run: bool) -> Iterator[tuple[World, RunSpec]]:
    """The world to ask, and the run that would be begun in it; a rehearsed one ends with the question."""
    import shutil

    from orchestrator.cli.drafting import draft
    from orchestrator.cli.flags import RunOptions

    options = RunOptions(dry_run, False, False, None, "", None, "", (), (), False, None, (), None)
    spec = draft(home, plan, tuple(phase.name for phase in plan.phases), options)
    folder = home.run_folder(spec.run)
    folder.mkdir(parents=True, mode=0o700)
    world = None
    try:
        if dry_run:
            say("of the rehearsed clouds on this computer", err=True)
        world = choose_world(home, ledger, spec.world, spec.run)
        yield world, spec
    finally:
        if world:
            world.leave(spec.run)
        shutil.rmtree(folder, ignore_errors=True)
