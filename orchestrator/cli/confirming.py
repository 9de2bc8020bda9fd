"""The preview, and the question before anything is rented."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.common import print_json
from orchestrator.cli.driving import DriveOptions, discard_output
from orchestrator.report.console import say
from orchestrator.words.errors import NoMachine, OverBudget, UsageError

if TYPE_CHECKING:
    from decimal import Decimal

    from orchestrator.cli.proposal import Proposal
    from orchestrator.plan import Preview
    from orchestrator.transport.code import Code
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.world import World


def agreed_on(
    world: World,
    spec: RunSpec,
    code: Code,
    options: DriveOptions,
    *,
    only: bool = False,
    check: bool = False,
    up_to: Decimal | None = None,
) -> RunSpec:
    """The run with provider and place, once it was shown and somebody said yes. Exit: there is nothing to do.

    `up_to`: a run before it was agreed to that may cost so much; one that costs no more at worst is not asked about,
    and tries nothing that failed a while ago. NoCapacity: nobody serves it, for as long as it may wait.
    """
    from orchestrator.cli import failover, terms
    from orchestrator.cli.proposal import check_stores, propose
    from orchestrator.report import pages
    from orchestrator.words.spec import Expected

    json = options.json

    def ask(*, first: bool) -> Proposal:
        again = up_to is not None
        return propose(world, spec, code, only=only, check=check, strictly=again, chain=again and first)

    proposal, left = failover.waiting(world.clock, spec.wait_s, ask)
    if proposal.up_to_date:
        say(f"{spec.plan.called}: up to date as of {proposal.up_to_date}", err=json)
        if json:
            known = {"plan": spec.plan.name, "up_to_date": proposal.up_to_date}
            print_json({"run": None, "state": "DONE", "outcome": "succeeded", **known})
        raise typer.Exit
    try:
        pages.preview(
            proposal.preview, proposal.spec, proposal.volume, code, proposal.passed_over, proposal.leaving, err=json
        )
        agreed = terms.show(world.home, proposal.spec, err=json)
    except BrokenPipeError:
        if not options.yes:
            raise
        discard_output()  # nobody reads; what was asked for is done all the same
        agreed = ""
    if proposal.preview.over_budget:
        raise OverBudget("; ".join(proposal.preview.over_budget), remedy=_cheaper(proposal.preview))
    if short := proposal.preview.short_of_credit:
        raise NoMachine(f"{proposal.spec.world.provider}: {short}", remedy="add credit, or ask for less")
    worst = proposal.preview.worst_usd
    asks = not options.yes and (up_to is None or worst is None or worst > up_to)
    if asks and not sys.stdin.isatty():
        raise UsageError("nobody is there to confirm", remedy="--yes runs without asking")
    if asks and not typer.confirm("Run it?", err=json):
        say("nothing was rented", err=json)
        if json:
            print_json({"run": None, "plan": spec.plan.name, "state": "PLANNED", "outcome": None})
        raise typer.Exit
    unseen = terms.withheld(world.home, spec.plan, proposal.spec.stores)
    if agreed:
        terms.agree(world.home, agreed, proposal.spec.stores)
    check_stores(world, unseen)  # the others were looked at before
    chosen = proposal.spec.model_copy(update={"wait_s": left, "worst_usd": worst})
    if spec.world.dry_run:
        return chosen
    expected = {p.phase: Expected(hours=p.estimated_hours, usd=p.estimated_usd) for p in proposal.preview.phases}
    return chosen.model_copy(update={"expected": expected})


def _cheaper(found: Preview) -> str:
    """What to do where the budget does not do."""
    if found.estimated_usd is not None and found.worst_usd is not None and found.worst_usd > found.estimated_usd:
        return "raise the budget, or ask for less; max_usd_hour in a phase leaves dearer machines out"
    return "raise the budget, or ask for less"
