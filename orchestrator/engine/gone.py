"""The one loop of proof: a thing is gone when its delete was accepted and nobody knows of it any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from orchestrator.engine.effects import NotGone
from orchestrator.words.errors import GpuplanError, ProviderUnavailable
from orchestrator.words.provider import MachineView, Provider
from orchestrator.words.waiting import Clock

DESTROY_S = 600.0  # how long a thing may take to be gone, in the cloud's time
FIRST_PAUSE_S, POLL_S = 1.0, 15.0  # between two looks: the first, and the longest of our own choice
LONGEST_PAUSE_S = 60.0  # whatever a provider asks for: the thing costs meanwhile
LISTED = "it is still listed"
TOO_FRESH = "it is too fresh for its absence to prove anything"


@dataclass(frozen=True, slots=True)
class Proven:
    """It is gone. `at`: when the request was answered that the proof followed; nothing is billed after it.

    A request takes its time, and what was sent is not yet there. Where a thing stayed listed after such an answer, it
    is the moment of the proof itself.
    """

    at: datetime


Proof = Proven | NotGone


def machine(
    provider: Provider,
    clock: Clock,
    machine_id: str,
    *,
    fresh_s: float = 0.0,
    seen: bool = True,
    look: Callable[[MachineView], None] = lambda _: None,
) -> Proof:
    """Destroy a machine until GET and the list know nothing of it. `fresh_s`, `seen`: see `until`.

    `look` is shown what the provider still says of it.
    """

    def present() -> bool:
        view = next((v for v in provider.machines() if v.id == machine_id), None) or provider.machine(machine_id)
        if view:
            look(view)
        return view is not None

    return until(clock, present, end=partial(provider.destroy, machine_id), fresh_s=fresh_s, seen=seen)


def volume(provider: Provider, clock: Clock, volume_id: str) -> Proof:
    """Delete a volume until the list lacks it."""

    def present() -> bool:
        return any(v.id == volume_id for v in provider.volumes())

    return until(clock, present, end=partial(provider.destroy_volume, volume_id))


def until(
    clock: Clock,
    present: Callable[[], bool],
    *,
    end: Callable[[], None] = lambda: None,
    fresh_s: float = 0.0,
    seen: bool = True,
    within_s: float = DESTROY_S,
) -> Proof:
    """Send the delete (`end`) and look whether it is `present`, again and again until it is not.

    A thing that nobody has `seen` may be missing from lists because it is new: for `fresh_s` real seconds its absence
    proves nothing. Errors of the provider count as not yet. `within_s`: in the cloud's time.
    """
    begin = clock.monotonic()
    give_up, proves = begin + clock.real(within_s), begin + fresh_s
    why, pause, stayed = LISTED, FIRST_PAUSE_S, False
    while True:
        try:
            end()
            answered = clock.now()
            there = present()
            seen = seen or there
            if not there and (seen or clock.monotonic() >= proves):
                return Proven(clock.now() if stayed else answered)
            stayed = stayed or there
            why = LISTED if there else TOO_FRESH
        except GpuplanError as error:
            why = error.message
            if isinstance(error, ProviderUnavailable) and error.retry_after:
                pause = min(error.retry_after, LONGEST_PAUSE_S)
        if clock.monotonic() >= give_up:
            return NotGone(why)
        clock.sleep(pause)
        pause = min(2 * pause, POLL_S)
