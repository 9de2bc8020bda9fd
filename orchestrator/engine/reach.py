"""The one loop through cut connections: what needs a machine is done again, for as long as the machine is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from orchestrator.engine.control import Control
from orchestrator.transport.replies import DeadmanExpired
from orchestrator.words.errors import ConnectionLost, HostKeyChanged, MachineLost
from orchestrator.words.ports import Clock

T = TypeVar("T")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0  # between two tries, in the cloud's time


class Reached(Protocol):
    """What is known of machines: engine.machines.Machines."""

    clock: Clock
    control: Control

    def lost(self, name: str) -> str:
        """Why the machine is gone; "": it is there as far as the provider knows."""
        ...

    def distrust(self, name: str, reason: str) -> None:
        """From now on it counts as lost."""
        ...


def through_cuts(
    machines: Reached,
    machine: str,
    body: Callable[[], T],
    *,
    on_cut: Callable[[ConnectionLost], None] = lambda _: None,
    progress: Callable[[], float] = lambda: 0.0,
) -> T:
    """Do what needs the machine, again after each cut, until the provider says that it is gone (MachineLost).

    `on_cut` is told of each. `progress`: a figure that grows while `body` gets somewhere; the pauses begin anew then.
    """
    pause, reached = FIRST_PAUSE_S, progress()
    while True:
        try:
            return body()
        except (HostKeyChanged, DeadmanExpired) as error:  # nothing more is sent to it, and ours is ended
            machines.distrust(machine, error.message)
            raise MachineLost(f"{machine}: {error.message}") from error
        except ConnectionLost as error:
            on_cut(error)
            if reason := machines.lost(machine):
                raise MachineLost(f"{machine}: {reason}") from error
            machines.control.check()
            if (now := progress()) > reached:
                pause, reached = FIRST_PAUSE_S, now
            machines.control.pause(machines.clock.scaled(pause))
            pause = min(2 * pause, LONGEST_PAUSE_S)
