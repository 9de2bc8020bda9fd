"""Pictures of a run, for the tests of what is made of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from orchestrator.report.frame import Said, frame
from orchestrator.report.snapshot import MachineLine, PhaseLine, Snapshot, StepLine
from orchestrator.words.lifecycle import MachineState, Outcome, PhaseState, RunState, StepState

T0 = datetime(2026, 11, 25, 12, 3, 4, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def step(phase: str, name: str, state: StepState, start: float | None = None, end: float | None = None) -> StepLine:
    begun, over = (at(start) if start is not None else None), (at(end) if end is not None else None)
    return StepLine(f"{phase}/{name}", name, state, begun, over)


def snapshot(*steps: StepLine, state: PhaseState = PhaseState.RUNNING) -> Snapshot:
    done = (step("day1", "clone", StepState.DONE, 0, 3), step("day1", "install", StepState.UP_TO_DATE))
    later = (step("day4-5", "moe", StepState.PENDING),)
    return Snapshot(
        run="r1",
        state=RunState.RUNNING,
        phases=(
            PhaseLine("day1", PhaseState.DONE, Outcome.SUCCEEDED, done, "", T0, at(4), Decimal("0.5")),
            PhaseLine("day2-3", state, None, steps, "", at(4)),
            PhaseLine("day4-5", PhaseState.PLANNED, None, later),
        ),
        machines=(
            MachineLine(
                "day2-3#1",
                MachineState.REACHABLE,
                "A100 80GB in EU-1",
                Decimal("1.89"),
                phase="day2-3",
                provider="runpod",
                long="gpuplan-a",
                since=T0,
                up=at(2),
            ),
            MachineLine("day1#1", MachineState.DESTROYED, "RTX 4090", phase="day1", long="gpuplan-b"),
        ),
        cost_usd=Decimal("1.2345"),
        budget_usd=Decimal(90),
        started=T0,
        plan="shipped",
    )


CONVERT = step("day2-3", "convert-glm", StepState.RUNNING, 10)
RUNNING = snapshot(step("day2-3", "overlay", StepState.DONE, 5, 9), CONVERT, step("day2-3", "infer", StepState.PENDING))


def lines(shown: Snapshot, logs: dict[str, str], width: int = 80, height: int = 24, *, fancy: bool = True) -> list[str]:
    return [line.plain for line in frame(shown, Said(logs), at(262), width, height, fancy=fancy)]


class Clock:
    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now
