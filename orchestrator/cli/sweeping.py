"""`gpuplan down --all`: everything of this owner, whatever this computer's ledger knows of it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.common import choose_world, print_json
from orchestrator.report.console import say
from orchestrator.words.errors import GpuplanError, StillRunning, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.engine.reaper import Found
    from orchestrator.ledger import Ledger
    from orchestrator.words.provider import Provider
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home
    from orchestrator.world.world import World


@dataclass
class Everything:
    """What there is of this owner. `keyless`: providers that cannot be asked; `silent`: that did not answer."""

    runs: list[RunSpec]
    machines: list[tuple[Provider, Found]] = field(default_factory=list)
    volumes: list[tuple[Provider, Found]] = field(default_factory=list)
    keyless: list[UsageError] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)


def end_all(
    home: Home, ledger: Ledger, end: Callable[[RunSpec], list[str]], *, volumes: bool, yes: bool, json: bool
) -> None:
    """Show it, ask once, and end it: runs that have not ended, then machines (and `volumes`) by their names.

    `end` ends one run, and returns what could not be ended, in words.

    UsageError: nobody is there to ask, or no provider can be. StillRunning: what could not be ended, or asked about.
    """
    world = _world(home, ledger)
    found = _look(home, ledger, world)
    doomed = found.machines + (found.volumes if volumes else [])
    if not found.runs and not doomed:
        tell(found, [], [], volumes=volumes, json=json)
        return
    _show(found, volumes=volumes, err=json)
    if not yes and not sys.stdin.isatty():
        raise UsageError("nobody is there to confirm that all of this is ended", remedy="--yes ends it")
    if not yes and not typer.confirm("End all of it?", err=json):
        say("nothing was ended", err=json)
        raise typer.Exit
    left, ended = [], []
    for spec in found.runs:
        try:
            gone = end(spec)
        except GpuplanError as error:  # one that cannot be ended keeps no other one alive
            gone = [f"{spec.run}: {error.message}"]
        left += gone
        ended += [] if gone else [spec.run]
    more, names = _end_by_name(ledger, world, doomed)
    tell(found, left + more, ended + names, volumes=volumes, json=json)


def _world(home: Home, ledger: Ledger) -> World:
    from orchestrator.words.spec import WorldSpec

    rehearsal = os.environ.get("GPUPLAN_REHEARSAL", "")
    return choose_world(home, ledger, WorldSpec(provider="", dry_run=bool(rehearsal), rehearsal=rehearsal), "")


def _look(home: Home, ledger: Ledger, world: World) -> Everything:
    from orchestrator.cli.earlier import frozen
    from orchestrator.engine import reaper
    from orchestrator.providers import CREDENTIALS
    from orchestrator.words.lifecycle import RunState

    undone = [row.id for row in ledger.runs.all() if row.state != RunState.DONE]
    found = Everything([spec for run in undone if (spec := frozen(home, run))])
    for name in CREDENTIALS:
        try:
            provider = world.provider(name)
            mine = [one for one in reaper.survey(provider) if one.owner == home.owner()]
        except UsageError as error:
            found.keyless.append(error)
            continue
        except GpuplanError as error:
            found.silent.append(f"{name} could not be asked: {error.message}")
            continue
        found.machines += [(provider, one) for one in mine if one.kind == "machine"]
        found.volumes += [(provider, one) for one in mine if one.kind == "volume"]
    if len(found.keyless) == len(CREDENTIALS) and not found.runs:
        raise found.keyless[0]
    return found


def _show(found: Everything, *, volumes: bool, err: bool) -> None:
    from orchestrator.cli.reaping import words

    for spec in found.runs:
        say(f"run {spec.run} of {spec.plan.called}", err=err)
    for _, one in found.machines + (found.volumes if volumes else []):
        say(words(one) + (", with what is on it" if one.kind == "volume" else ""), err=err)


def _end_by_name(ledger: Ledger, world: World, doomed: list[tuple[Provider, Found]]) -> tuple[list[str], list[str]]:
    """End what is still listed of it; what is left, and the names of what is gone."""
    from orchestrator.engine import reaper
    from orchestrator.engine.effects import NotGone
    from orchestrator.words.lifecycle import MachineState

    left, ended = [], []
    for provider, one in doomed:
        proof = reaper.end(provider, world.clock, one)
        if isinstance(proof, NotGone):
            price = f"${one.price_hour:.2f} an hour; " if one.price_hour is not None else ""
            left.append(f"{one.name} ({price}{proof.why})")
            continue
        ended.append(one.name)
        if one.kind == "machine" and ledger.machines.maybe(name=one.name):
            ledger.gone(one.name, "gpuplan down --all", MachineState.DESTROYED, proof.at.timestamp())
    return left, ended


def tell(found: Everything, left: list[str], ended: list[str], *, volumes: bool, json: bool) -> None:
    """Say what was ended, kept and not asked. StillRunning: something is `left`, or a provider was silent."""
    from orchestrator.cli.reaping import words

    kept = [] if volumes else [one for _, one in found.volumes]
    unasked = [*(error.message for error in found.keyless), *found.silent]
    if json:
        document = {"ended": ended, "left": left, "kept": [one.name for one in kept], "unasked": unasked}
        print_json(document)
    else:
        for name in ended:
            say(f"ended: {name}")
        for one in kept:
            say(f"kept: {words(one)}; gpuplan down --all --volumes deletes it")
        for why in unasked:
            say(f"not asked: {why}")
        if not left and not found.silent:
            say("nothing of this owner is running" + (" where it could be asked" if unasked else ""))
    if left or found.silent:
        raise StillRunning(
            "these may still cost money: " + "; ".join(left + found.silent), remedy="gpuplan down --all tries again"
        )
