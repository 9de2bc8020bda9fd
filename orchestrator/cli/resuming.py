"""The command that goes on with a run: resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import driving, running
from orchestrator.cli.common import Detach, EventsFile, Json, RunName, Yes, find_run, open_home, open_world
from orchestrator.report.console import say
from orchestrator.words.errors import UsageError
from orchestrator.words.lifecycle import Outcome, RunState

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.words.model import Plan
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home
    from orchestrator.world.world import World


def resume(
    run: RunName = None,
    *,
    budget: Annotated[
        str | None,
        typer.Option("--max-usd", "--budget", metavar="USD", help="Another cap, of the run and those before it."),
    ] = None,
    yes: Yes = False,
    detach: Detach = False,
    json: Json = False,
    json_events: EventsFile = None,
) -> None:
    """Go on with a run: a dead process's where it was, an ended one's as RUN.2 on the same frozen plan."""
    home, ledger = open_home()
    spec = find_run(home, ledger, run, exactly=True)
    options = driving.DriveOptions(yes=yes, json=json, detach=detach, events=json_events)
    row = ledger.runs.maybe(id=spec.run)  # None: killed before its first row
    if row and row.state == RunState.DONE:
        if row.outcome == Outcome.SUCCEEDED:
            say(f"{spec.run} is done; nothing to resume", err=True)
            driving.show_end(ledger, spec, json=json)
            return
        spec = spec.model_copy(
            update={
                "run": home.following(spec.run, ledger),
                "previous": spec.run,
                "created_at": ledger.now(),
                "plan": _with_budget(spec.plan, budget),
                "force": (),
                "world": spec.world.model_copy(update={"faults": ()}),
            }
        )
        running.begin(home, ledger, spec, options)
        return
    if budget is not None:
        raise UsageError(
            f"{spec.run} has not ended: its budget is the one that was agreed to",
            remedy=f"gpuplan down {spec.run} ends it, then gpuplan resume {spec.run} --max-usd {budget} goes on",
        )
    take_up(home, ledger, spec, options)


def take_up(home: Home, ledger: Ledger, spec: RunSpec, options: driving.DriveOptions) -> None:
    """Go on with a run that has not ended. UsageError: something is not here that it needs."""
    from orchestrator.world import sharing

    sharing.require_here(spec)
    row = ledger.runs.maybe(id=spec.run)
    if row is None or row.state != RunState.TEARING_DOWN:
        sharing.require_key(ledger, home, spec)
    world = open_world(home, ledger, spec)
    if row is None or row.state != RunState.TEARING_DOWN:  # what is only ended needs none
        _require_open_secrets(world, spec)
    running.carry_out(world, spec, options)


def _with_budget(plan: Plan, budget: str | None) -> Plan:
    """The plan with another cap; None: with its own. ConfigErrors: that is no amount."""
    if budget is None:
        return plan
    from orchestrator.config import read_budget

    return plan.model_copy(update={"settings": plan.settings.model_copy(update={"budget_usd": read_budget(budget)})})


def _require_open_secrets(world: World, spec: RunSpec) -> None:
    """UsageError unless every secret is set that a step still to do needs; the machines that wait are named."""
    from orchestrator.plan import resolve

    done = {s.id for s in world.ledger.steps.all(run=spec.run) if s.state.is_done}
    steps = [s for p in resolve(spec.plan, spec.asked) for s in p.steps if s.id not in done]
    world.require_secrets({name for step in steps for name in step.secrets})
