"""The command that needs no run: reap, from any computer that has the provider's key."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import Json, choose_world, open_home, print_json
from orchestrator.report.console import say
from orchestrator.words.errors import StillRunning

if TYPE_CHECKING:
    from orchestrator.engine.reaper import Found
    from orchestrator.ledger import Ledger


def reap(
    *,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="NAME", help="Only this one; left out: all whose key is set.")
    ] = None,
    json: Json = False,
) -> None:
    """End this owner's machines whose deadline has passed, wherever they were rented; list everything else of ours.

    Volumes are deleted only after a question, and what another owner rented is never touched.
    """
    from orchestrator.engine import reaper
    from orchestrator.providers import CREDENTIALS
    from orchestrator.words.lifecycle import MachineState
    from orchestrator.words.spec import WorldSpec

    home, ledger = open_home()
    rehearsal = os.environ.get("GPUPLAN_REHEARSAL", "")
    world = choose_world(home, ledger, WorldSpec(provider="", dry_run=bool(rehearsal), rehearsal=rehearsal), "")
    if rehearsal:
        say("in the rehearsed cloud that GPUPLAN_REHEARSAL names", err=True)
    asked, _ = world.providers([provider] if provider else list(CREDENTIALS))
    done = reaper.reap(asked, world.clock, home.owner(), _of_ended_runs(ledger), partial(_agreed, json=json))
    for one, proof in done.ended:
        if one.kind == "machine":
            ledger.gone(one.name, "gpuplan reap", MachineState.DESTROYED, proof.at.timestamp())
    ended, left, others = [one for one, _ in done.ended], done.left, done.others
    if json:
        print_json({"ended": [f.name for f in ended], "left": left, "others": [_plain(f) for f in others]})
    else:
        _tell(ended, others, home.owner())
    if left:
        raise StillRunning("these may still cost money: " + "; ".join(left), remedy="gpuplan reap tries again")


def _of_ended_runs(ledger: Ledger) -> frozenset[str]:
    """Machines that this computer's ledger knows to be left over: a create that came true after its run had ended."""
    from orchestrator.words.lifecycle import RunState

    over = {r.id for r in ledger.runs.all(state=RunState.DONE)}
    return frozenset(m.name for m in ledger.machines.all() if m.run in over)


def _agreed(volume: Found, *, json: bool) -> bool:
    """Whether somebody at the terminal wants the volume deleted with what is on it."""
    if json or not sys.stdin.isatty():
        return False
    return typer.confirm(f"{words(volume)}: delete it, with what is on it?")


def _tell(ended: list[Found], others: list[Found], owner: str) -> None:
    for one in ended:
        say(f"ended: {one.name}")
    if not ended:
        say("no machine of this owner is past its deadline")
    for one in others:
        whose = "" if one.owner == owner else f", owner {one.owner or 'unknown'}"
        say(f"left alone: {words(one)}{whose}")


def words(found: Found) -> str:
    """Provider, kind, name, price and deadline in one line."""
    from orchestrator.report.figures import money

    price = "" if found.price_hour is None else f", {money(found.price_hour)} an hour"
    due = f", to be gone by {found.deadline.astimezone():%Y-%m-%d %H:%M}" if found.deadline else ""
    return f"{found.provider} {found.kind} {found.name}{price}{due}"


def _plain(found: Found) -> dict[str, object]:
    return asdict(found) | {
        "price_hour": None if found.price_hour is None else str(found.price_hour),
        "deadline": found.deadline.isoformat() if found.deadline else None,
    }
