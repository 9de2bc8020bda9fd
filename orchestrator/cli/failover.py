"""Where no machine is to be had: the next place, type or provider, as a following run; then the wait for one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

import typer

from orchestrator.report.console import say
from orchestrator.words.errors import NoCapacity, NoMachine, OverBudget, UsageError

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.runner import Result
    from orchestrator.words.spec import RunSpec
    from orchestrator.words.waiting import Clock
    from orchestrator.world.world import World

T = TypeVar("T")
POLL_S = 60.0  # between two looks for a machine, in the cloud's time
MOST_RUNS = 30  # of one chain: each has tried all that was to be had at its place


def waiting(clock: Clock, wait_s: float, ask: Callable[..., T]) -> tuple[T, float]:
    """What `ask` says once it says something, and what is left of the wait. NoCapacity: it did not within `wait_s`.

    Seconds are the cloud's. It is asked again every minute, and the reason is said once. `ask` is told whether that is
    the `first` time: what has been tried may be tried again only after a wait.
    """
    whole = clock.real(wait_s) if wait_s else 0.0
    began, first = clock.monotonic(), True
    while True:
        left = whole - (clock.monotonic() - began)
        try:
            found = ask(first=first)
        except NoCapacity as error:
            if left <= 0:
                raise
            if first:
                first = False
                until = datetime.now(UTC).astimezone() + timedelta(seconds=left)
                say(
                    f"{error.message}\nwaiting for a machine until {until:%H:%M}; nothing is rented meanwhile", err=True
                )
            clock.pause(min(clock.scaled(POLL_S), left))
        else:
            return found, max(wait_s * left / whole, 0.0) if whole else 0.0


def following(ledger: Ledger, spec: RunSpec, result: Result, name: str) -> RunSpec | None:
    """The run, called `name`, that looks for a machine elsewhere or later; None: that was not what was missing.

    It is free to go to any place and provider that no volume and no flag fixes.
    """
    from orchestrator.engine.wanting import failed, wants_machines
    from orchestrator.words.lifecycle import Outcome

    if result.left or result.outcome != Outcome.NO_MACHINE or spec.world.ssh_host:
        return None
    if not wants_machines(ledger, spec) or int(name.rpartition(".")[2]) > MOST_RUNS:
        return None
    world = spec.world.model_copy(update={"provider": spec.asked_provider, "faults": ()})
    return spec.model_copy(
        update={
            "run": name,
            "previous": spec.run,
            "failed_before": failed(ledger, spec),
            "world": world,
            "place": spec.moves_to or None,
            "created_at": ledger.now(),
        }
    )


def elsewhere(
    world: World, spec: RunSpec, result: Result, prepare: Callable[[RunSpec, Decimal], tuple[World, RunSpec]]
) -> tuple[World, RunSpec] | None:
    """A run for want of machines goes on where there are some, or once there are; None: it does not.

    `prepare`: chooses, shows and asks, up to so many dollars that were agreed to before.
    """
    wanted = following(world.ledger, spec, result, world.home.following(spec.run, world.ledger))
    if wanted is None:
        return None
    say(f"{spec.run} found no machine: looking for one elsewhere", err=True)
    try:
        found = prepare(wanted, spec.worst_usd or Decimal(0))
    except (NoMachine, OverBudget, UsageError) as error:
        say(str(error), err=True)
        return None
    except typer.Exit:  # somebody said no
        return None
    say(f"{spec.run} goes on as {wanted.run}", err=True)
    return found
