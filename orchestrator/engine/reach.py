"""The two loops that go on where something outside fails for a while: through cut connections, and through refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from orchestrator.engine.control import Control
from orchestrator.transport.refusals import DeadmanExpired
from orchestrator.words.errors import ConnectionLost, HostKeyChanged, MachineLost, ProviderUnavailable
from orchestrator.words.waiting import Clock

T = TypeVar("T")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0  # between two tries to reach a machine, in the cloud's time
PATIENCE_S = 300.0  # how long a provider or a store may be unwell, in the cloud's time
LEAST_SILENCE_S = 120.0  # real seconds, however fast the cloud's time goes: a busy computer is no dead machine
LONGEST_ASK_S = 15.0  # between two requests to one that is


class Reached(Protocol):
    """What is known of machines: engine.machines.Machines."""

    clock: Clock
    control: Control

    @property
    def silence_s(self) -> float:
        """How long one may be silent that its provider says is there, in the cloud's time."""
        ...

    def lost(self, name: str) -> str:
        """Why the machine is gone; "": it is there as far as the provider knows."""
        ...

    def was_cut(self, name: str, why: str) -> None:
        """Its connection is lost, and it is there as far as the provider knows: this is to be said."""
        ...

    def is_vouched_for(self, name: str) -> bool:
        """Whether its provider said so when it was asked last; False: perhaps it is our own network that is away."""
        ...

    def restarted(self, name: str) -> bool | None:
        """Whether its provider has started it again; None: the provider is silent."""
        ...

    def distrust(self, name: str, reason: str) -> None:
        """From now on it counts as lost."""
        ...

    def fell_silent(self, name: str, reason: str) -> None:
        """The same of one that a reboot may bring back (engine.reboots)."""
        ...


def through_cuts(
    machines: Reached,
    machine: str,
    body: Callable[[], T],
    *,
    progress: Callable[[], float] = lambda: 0.0,
) -> T:
    """Do what needs the machine, again after each cut, until the provider says that it is gone (MachineLost).

    `progress`: a figure that grows while `body` gets somewhere; the pauses begin anew then.
    One that stays silent for `silence_s` from then on counts as lost too, unless the provider is silent as well.
    Raises as Control.check does when the run is asked to stop. A machine that was restarted is lost as it was, and is
    prepared anew: what ran on it is gone.
    """
    pause, reached = FIRST_PAUSE_S, progress()
    silent: float | None = None  # since when it is, though its provider says that it is there
    clock = machines.clock
    while True:
        try:
            return body()
        except DeadmanExpired as error:
            machines.distrust(machine, error.message)
            raise MachineLost(f"{machine}: {error.message}") from error
        except ConnectionLost as error:
            if isinstance(error, HostKeyChanged) and (again := machines.restarted(machine)) is not None:
                if not again:  # not ours any more: nothing is sent there, ours is ended
                    machines.distrust(machine, error.message)
                why = "its provider has restarted it" if again else error.message
                raise MachineLost(f"{machine}: {why}") from error
            machines.control.check()  # a machine that is ended because the run stops is not lost
            if reason := machines.lost(machine):
                raise MachineLost(f"{machine}: {reason}") from error
            machines.was_cut(machine, error.message)
            if (now := progress()) > reached:
                pause, reached, silent = FIRST_PAUSE_S, now, None
            if not machines.is_vouched_for(machine):
                silent = None
            elif silent is None:
                silent = clock.monotonic()
            elif clock.monotonic() - silent > _silence_s(machines):
                why = f"it has not answered for {machines.silence_s / 60:g} min, though its provider says that it runs"
                machines.fell_silent(machine, why)
                raise MachineLost(f"{machine}: {why}") from error
            machines.control.pause(machines.clock.scaled(pause))
            pause = min(2 * pause, LONGEST_PAUSE_S)


def _silence_s(machines: Reached) -> float:
    return max(machines.clock.scaled(machines.silence_s), min(machines.silence_s, LEAST_SILENCE_S))


def patiently(
    clock: Clock,
    call: Callable[[], T],
    *,
    within_s: float = PATIENCE_S,
    on: tuple[type[Exception], ...] = (ProviderUnavailable,),
    check: Callable[[], None] = lambda: None,
) -> T:
    """Call until it answers; the last error when `within_s` of the cloud's time are used up. Not for creates.

    Only the errors in `on` are tried again; one that asks for a longer wait than is left is raised at once.
    `check` raises when it is to be given up before.
    """
    give_up, pause = clock.monotonic() + clock.real(within_s), FIRST_PAUSE_S
    while True:
        try:
            return call()
        except on as error:
            wanted = error.retry_after if isinstance(error, ProviderUnavailable) and error.retry_after else 0.0
            wait = max(wanted, pause)
            if clock.monotonic() + clock.scaled(wait) > give_up:
                raise
            check()
            clock.sleep(wait)
            pause = min(2 * pause, LONGEST_ASK_S)
