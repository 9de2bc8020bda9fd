"""States and outcomes, and for each kind of thing its own table of which state may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from orchestrator.words.errors import ExitCode, GpuplanError

NOT_NEEDED = "no step needs it any more"  # why a machine ended before its phase


class MachineState(StrEnum):
    """A machine's life. It may cost money from REQUESTED (the reply can be lost) to DESTROYED."""

    REQUESTED = "REQUESTED"
    CREATED = "CREATED"
    REACHABLE = "REACHABLE"
    DESTROYING = "DESTROYING"
    DESTROYED = "DESTROYED"
    LOST = "LOST"  # the provider ended it, or never made it; proven absent, like DESTROYED

    @property
    def is_final(self) -> bool:
        """Whether it is proven gone: it costs nothing any more."""
        return not MACHINE_MOVES[self]


class VolumeState(StrEnum):
    """A volume's life, in the words of a machine's."""

    REQUESTED = "REQUESTED"
    CREATED = "CREATED"
    DESTROYING = "DESTROYING"
    DESTROYED = "DESTROYED"
    LOST = "LOST"

    @property
    def is_final(self) -> bool:
        """Whether it is proven gone."""
        return not VOLUME_MOVES[self]


class PhaseState(StrEnum):
    """Where a phase is."""

    PLANNED = "PLANNED"
    PROVISIONING = "PROVISIONING"
    RUNNING = "RUNNING"
    COLLECTING = "COLLECTING"
    TEARING_DOWN = "TEARING_DOWN"
    DONE = "DONE"

    @property
    def is_under_way(self) -> bool:
        """Whether its time-out and its budget are watched: it holds machines, or is about to."""
        return self in (PhaseState.PROVISIONING, PhaseState.RUNNING, PhaseState.COLLECTING)


class RunState(StrEnum):
    """Where a run is. DONE means that every machine of it is proven gone."""

    PLANNED = "PLANNED"
    RUNNING = "RUNNING"
    TEARING_DOWN = "TEARING_DOWN"
    DONE = "DONE"


class StepState(StrEnum):
    """Where a step is. UP_TO_DATE: its done-record held, so it did not run."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    READY = "READY"  # a service that answers
    DONE = "DONE"
    UP_TO_DATE = "UP_TO_DATE"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    INTERRUPTED = "INTERRUPTED"
    LOST = "LOST"  # its machine went away: it runs again on the next one

    @property
    def is_done(self) -> bool:
        """Whether its result is there."""
        return self in (StepState.DONE, StepState.UP_TO_DATE)

    @property
    def serves(self) -> bool:
        """Whether what needs it may go on: its result is there, or it is a service that answers."""
        return self.is_done or self == StepState.READY

    @property
    def has_ended(self) -> bool:
        """Whether it does nothing any more on this machine; a service that answers has ended as a step."""
        return self not in (StepState.PENDING, StepState.RUNNING)


class Outcome(StrEnum):
    """Why a run or a phase ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    NO_MACHINE = "no_machine"
    OVER_BUDGET = "over_budget"
    INTERRUPTED = "interrupted"

    @property
    def exit_code(self) -> ExitCode:
        """The shell's view of this outcome."""
        return {
            Outcome.SUCCEEDED: ExitCode.DONE,
            Outcome.FAILED: ExitCode.FAILED,
            Outcome.NO_MACHINE: ExitCode.NO_MACHINE,
            Outcome.OVER_BUDGET: ExitCode.OVER_BUDGET,
            Outcome.INTERRUPTED: ExitCode.INTERRUPTED,
        }[self]


def worst(outcomes: list[Outcome]) -> Outcome:
    """The outcome that decides a run's exit code: 6 > 5 > 4 > 3 > 0. No outcomes at all: succeeded."""
    return max(outcomes, key=lambda o: o.exit_code, default=Outcome.SUCCEEDED)


AnyState = MachineState | VolumeState | PhaseState | RunState | StepState

_M, _V, _P, _R, _S = MachineState, VolumeState, PhaseState, RunState, StepState

MACHINE_MOVES: Mapping[MachineState, frozenset[MachineState]] = {
    _M.REQUESTED: frozenset({_M.CREATED, _M.DESTROYING, _M.DESTROYED, _M.LOST}),
    _M.CREATED: frozenset({_M.REACHABLE, _M.DESTROYING, _M.LOST}),
    _M.REACHABLE: frozenset({_M.DESTROYING, _M.LOST}),
    _M.DESTROYING: frozenset({_M.DESTROYED, _M.LOST}),
    _M.DESTROYED: frozenset(),
    _M.LOST: frozenset(),
}
VOLUME_MOVES: Mapping[VolumeState, frozenset[VolumeState]] = {
    _V.REQUESTED: frozenset({_V.CREATED, _V.DESTROYING, _V.DESTROYED, _V.LOST}),
    _V.CREATED: frozenset({_V.DESTROYING, _V.LOST}),
    _V.DESTROYING: frozenset({_V.DESTROYED, _V.LOST}),
    _V.DESTROYED: frozenset(),
    _V.LOST: frozenset(),
}
PHASE_MOVES: Mapping[PhaseState, frozenset[PhaseState]] = {
    _P.PLANNED: frozenset({_P.PROVISIONING, _P.TEARING_DOWN}),
    _P.PROVISIONING: frozenset({_P.RUNNING, _P.TEARING_DOWN}),
    _P.RUNNING: frozenset({_P.PROVISIONING, _P.COLLECTING, _P.TEARING_DOWN}),
    _P.COLLECTING: frozenset({_P.PROVISIONING, _P.TEARING_DOWN}),
    _P.TEARING_DOWN: frozenset({_P.DONE}),
    _P.DONE: frozenset(),
}
RUN_MOVES: Mapping[RunState, frozenset[RunState]] = {
    _R.PLANNED: frozenset({_R.RUNNING, _R.TEARING_DOWN}),
    _R.RUNNING: frozenset({_R.TEARING_DOWN}),
    _R.TEARING_DOWN: frozenset({_R.DONE}),
    _R.DONE: frozenset(),
}
_ENDS = {_S.DONE, _S.FAILED, _S.INTERRUPTED, _S.LOST, _S.SKIPPED}
STEP_MOVES: Mapping[StepState, frozenset[StepState]] = {
    _S.PENDING: frozenset({_S.RUNNING, _S.UP_TO_DATE, *_ENDS} - {_S.DONE}),
    _S.RUNNING: frozenset({_S.READY, _S.PENDING, *_ENDS}),
    _S.READY: frozenset({_S.PENDING, *_ENDS}),
    # Again on the next machine: what was done on a disk that went with the machine, or must run while others do.
    _S.DONE: frozenset({_S.PENDING}),
    _S.UP_TO_DATE: frozenset({_S.PENDING}),
    _S.SKIPPED: frozenset({_S.PENDING}),
    _S.LOST: frozenset({_S.PENDING, _S.SKIPPED}),
    _S.FAILED: frozenset(),
    _S.INTERRUPTED: frozenset(),
}


class IllegalMove(GpuplanError):
    """A state was to follow one that it may not follow: a mistake of ours, never the user's."""


_MOVES: Mapping[type[AnyState], Mapping[Any, frozenset[Any]]] = {
    MachineState: MACHINE_MOVES,
    VolumeState: VOLUME_MOVES,
    PhaseState: PHASE_MOVES,
    RunState: RUN_MOVES,
    StepState: STEP_MOVES,
}


def may_move(old: AnyState, new: AnyState) -> bool:
    """Whether `new` may follow `old`. Staying is allowed: a step that runs again after a crash says the same thing."""
    return old == new or new in _MOVES[type(old)][old]
