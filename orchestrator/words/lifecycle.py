"""States, outcomes, and the one table that says which state may follow which."""

from __future__ import annotations

from enum import StrEnum

from orchestrator.words.errors import ExitCode


class MachineState(StrEnum):
    """A machine's or a volume's life. It may cost money from REQUESTED (the reply can be lost) to DESTROYED."""

    REQUESTED = "REQUESTED"
    CREATED = "CREATED"
    REACHABLE = "REACHABLE"
    DESTROYING = "DESTROYING"
    DESTROYED = "DESTROYED"
    LOST = "LOST"  # the provider ended it, or never made it; proven absent, like DESTROYED


class PhaseState(StrEnum):
    """Where a phase is."""

    PLANNED = "PLANNED"
    PROVISIONING = "PROVISIONING"
    RUNNING = "RUNNING"
    COLLECTING = "COLLECTING"
    TEARING_DOWN = "TEARING_DOWN"
    DONE = "DONE"


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


State = MachineState | PhaseState | RunState

_M, _P, _R = MachineState, PhaseState, RunState

TRANSITIONS: dict[State, frozenset[State]] = {
    _M.REQUESTED: frozenset({_M.CREATED, _M.DESTROYING, _M.DESTROYED, _M.LOST}),
    _M.CREATED: frozenset({_M.REACHABLE, _M.DESTROYING, _M.LOST}),
    _M.REACHABLE: frozenset({_M.CREATED, _M.DESTROYING, _M.LOST}),  # CREATED again: a restart moved its address
    _M.DESTROYING: frozenset({_M.DESTROYED, _M.LOST}),
    _M.DESTROYED: frozenset(),
    _M.LOST: frozenset(),
    _P.PLANNED: frozenset({_P.PROVISIONING, _P.TEARING_DOWN, _P.DONE}),
    _P.PROVISIONING: frozenset({_P.RUNNING, _P.TEARING_DOWN}),
    _P.RUNNING: frozenset({_P.PROVISIONING, _P.COLLECTING, _P.TEARING_DOWN}),
    _P.COLLECTING: frozenset({_P.PROVISIONING, _P.TEARING_DOWN}),
    _P.TEARING_DOWN: frozenset({_P.DONE}),
    _P.DONE: frozenset(),
    _R.PLANNED: frozenset({_R.RUNNING, _R.TEARING_DOWN}),
    _R.RUNNING: frozenset({_R.TEARING_DOWN}),
    _R.TEARING_DOWN: frozenset({_R.DONE}),
    _R.DONE: frozenset(),
}

ENDED = frozenset({MachineState.DESTROYED, MachineState.LOST})


def may_move(old: State, new: State) -> bool:
    """Whether `new` may follow `old`. Staying is allowed: a step that runs again after a crash says the same thing."""
    return old == new or new in TRANSITIONS[old]
