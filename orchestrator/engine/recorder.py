"""What the story asks of a durable engine: two verbs. Implemented over DBOS and, for tests, in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, TypeVar, overload

from orchestrator.engine.effects import CrewEnd, PhaseEnd, RunEnd, SaveEnd, StepEnd

T = TypeVar("T")
Result_co = TypeVar("Result_co", covariant=True)


class Branch(Protocol[Result_co]):
    """A child workflow under way."""

    def result(self) -> Result_co:
        """Wait for its end and return what it returned."""
        ...


class Recorder(Protocol):
    """One workflow's record."""

    def record(self, name: str, body: Callable[[], T], kind: object) -> T:
        """Run `body` once in the life of this workflow and return its result; on replay, its recorded result.

        `kind` is T as a type (a value of engine.effects, str, list[str], a union, None), by which JSON is read back.
        An error of words.errors that `body` raises is recorded, and raised again here; so it is on replay.
        """
        ...

    @overload
    def branch(self, kind: Literal["phase"], *arguments: str, id: str) -> Branch[PhaseEnd]: ...

    @overload
    def branch(self, kind: Literal["crew"], *arguments: str, id: str) -> Branch[CrewEnd]: ...

    @overload
    def branch(self, kind: Literal["save"], *arguments: str, id: str) -> Branch[SaveEnd]: ...

    @overload
    def branch(self, kind: Literal["step", "stop_service"], *arguments: str, id: str) -> Branch[StepEnd]: ...

    def branch(self, kind: str, *arguments: str, id: str) -> Branch[object]:  # noqa: A002  it is the workflow's id
        """Start a child workflow of that kind beside this one."""
        ...


class Story(Protocol):
    """The workflows themselves, free of any engine."""

    def run(self, recorder: Recorder) -> RunEnd:
        """The whole run."""
        ...

    def phase(self, recorder: Recorder, name: str) -> PhaseEnd:
        """One phase of it."""
        ...

    def crew(self, recorder: Recorder, phase: str, crew: str, attempt: int) -> CrewEnd:
        """Machines that come and go within a phase."""
        ...

    def save(self, recorder: Recorder, phase: str, step: str, attempt: int) -> SaveEnd:
        """The artifacts of a step, on their way while others run."""
        ...

    def step(self, recorder: Recorder, phase: str, step: str, attempt: int) -> StepEnd:
        """One step of a phase."""
        ...

    def stop_service(self, recorder: Recorder, phase: str, step: str, attempt: int) -> StepEnd:
        """The end of a service: how its jobs ended."""
        ...
