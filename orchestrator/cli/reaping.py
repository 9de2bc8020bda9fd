"""The command that needs no run: reap, from any computer that has the provider's key."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import Json, choose_world, open_home, print_json
from orchestrator.cli.flags import seconds
from orchestrator.report.console import say
from orchestrator.words.errors import StillRunning, UsageError

if TYPE_CHECKING:
    from orchestrator.engine.reaper import Found, Reaped
    from orchestrator.ledger import Ledger
    from orchestrator.words.provider import Provider
    from orchestrator.words.waiting import Clock
    from orchestrator.world.home import Home


def reap(
    *,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="NAME", help="Only this one; left out: all whose key is set.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Do it again and again until Ctrl-C.")] = False,
    every: Annotated[
        str | None, typer.Option("--every", metavar="TIME", help="With --watch: how often; 10m, if left out.")
    ] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Print how cron or systemd does it, on another computer; do nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """End this owner's machines whose deadline has passed, wherever they were rented; list everything else of ours.

    Volumes are deleted only after a question, and what another owner rented is never touched.
    """
    from orchestrator.providers import CREDENTIALS
    from orchestrator.words.spec import WorldSpec

    if json and (watch or install):
        raise UsageError("--json prints one document", remedy="leave --watch and --install out")
    if every and not watch:
        raise UsageError("--every says how often --watch looks", remedy="gpuplan reap --watch --every 10m")
    home, ledger = open_home()
    if install:
        from orchestrator.cli.reap_schedule import instructions

        say(instructions(home.owner()))
        return
    rehearsal = os.environ.get("GPUPLAN_REHEARSAL", "")
    world = choose_world(home, ledger, WorldSpec(provider="", dry_run=bool(rehearsal), rehearsal=rehearsal), "")
    if rehearsal:
        say("in the rehearsed cloud that GPUPLAN_REHEARSAL names", err=True)
    asked, _ = world.providers([provider] if provider else list(CREDENTIALS))
    if watch:
        _again_and_again(home, ledger, asked, world.clock, seconds("--every", every or "10m"))
        return
    done = _once(home, ledger, asked, world.clock, partial(_agreed, json=json))
    ended, left, others = [one for one, _ in done.ended], done.left, done.others
    if json:
        print_json({"ended": [f.name for f in ended], "left": left, "others": [_plain(f) for f in others]})
    else:
        _tell(ended, others, home.owner())
    _raise_what_is(left)


def _once(home: Home, ledger: Ledger, asked: list[Provider], clock: Clock, agreed: Callable[[Found], bool]) -> Reaped:
    """Look once, and let the ledger know."""
    from orchestrator.engine import reaper
    from orchestrator.words.lifecycle import MachineState

    done = reaper.reap(asked, clock, home.owner(), _of_ended_runs(ledger), agreed)
    for one, proof in done.ended:
        if one.kind == "machine":
            ledger.gone(one.name, "gpuplan reap", MachineState.DESTROYED, proof.at.timestamp())
    return done


def _again_and_again(home: Home, ledger: Ledger, asked: list[Provider], clock: Clock, pause_s: float) -> None:
    """Until Ctrl-C or SIGTERM: what was ended is said, all else when it changes.

    StillRunning: the last look left something, or somebody could not be asked. No volume is deleted: nobody is asked.
    """
    from orchestrator.world.signals import told_to_stop

    say(f"looking at {' and '.join(one.name for one in asked)} until Ctrl-C")
    seen: list[str] = []
    with told_to_stop() as told:
        while True:
            done = _once(home, ledger, asked, clock, lambda _volume: False)
            now = [f"may still cost money: {why}" for why in done.left]
            now += [f"left alone: {words(one)}{_whose(one, home.owner())}" for one in done.others]
            for line in [*(f"ended: {one.name}" for one, _ in done.ended), *(one for one in now if one not in seen)]:
                say(f"{datetime.now().astimezone():%Y-%m-%d %H:%M} {line}")
            seen = now
            if told.wait(clock.scaled(pause_s)):
                break
    _raise_what_is(done.left)


def _raise_what_is(left: list[str]) -> None:
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
        say(f"left alone: {words(one)}{_whose(one, owner)}")


def _whose(one: Found, owner: str) -> str:
    return "" if one.owner == owner else f", owner {one.owner or 'unknown'}"


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
