"""What happened between two pictures of a run, as a person or another program wants to know it: one value each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from orchestrator.report import header
from orchestrator.report.console import one_line
from orchestrator.report.figures import duration, elapsed, money, spoken
from orchestrator.report.snapshot import MachineLine, PhaseLine, Snapshot, StepLine
from orchestrator.words.lifecycle import NOT_NEEDED, MachineState, Outcome, PhaseState, StepState

RENTED, MACHINE_ENDED, PHASE_READY, PHASE_ENDED, STEP_ENDED, TRANSFER = (
    "machines_rented", "machine_ended", "phase_ready", "phase_ended", "step_ended", "transfer_ended",
)  # fmt: skip
SOON_S = 10.0  # a machine that is ready so soon is not worth a line
_GOOD = frozenset({StepState.DONE, StepState.UP_TO_DATE})
_SILENT = frozenset({StepState.SKIPPED})  # why is said of the step that they needed


@dataclass(frozen=True, slots=True)
class Milestone:
    """One thing that happened. `text`: a line; `brief`: the same where `phase` is said already; good: as it should."""

    kind: str
    phase: str
    text: str
    brief: str = ""
    step: str = ""
    good: bool = True


class Milestones:
    """Remembers what was told; what the first picture shows is told as well."""

    def __init__(self) -> None:
        self._told: set[tuple[str, ...]] = set()

    def of(self, seen: Snapshot, now: datetime) -> list[Milestone]:
        """What is new in this picture."""
        found = [*self._rented(seen), *self._ended_machines(seen)]
        for phase in seen.phases:
            found += self._ready(phase, seen, now)
            found += [m for step in phase.steps for m in self._step(phase, step, now)]
            found += self._transfers(phase, seen, now)
            found += self._phase(phase, seen, now)
        return found

    def _is_new(self, *key: str) -> bool:
        new = key not in self._told
        self._told.add(key)
        return new

    def _rented(self, seen: Snapshot) -> Iterator[Milestone]:
        """Machines that a phase got, those that are alike in one line."""
        alike: dict[tuple[str, str, str], list[MachineLine]] = {}
        for one in seen.machines:
            if one.state in (MachineState.CREATED, MachineState.REACHABLE):
                alike.setdefault((one.phase, one.what, str(one.price_hour)), []).append(one)
        for (phase, what, _), machines in alike.items():
            new = [m for m in machines if self._is_new(RENTED, m.long or m.name)]
            if new and new[0].price_hour:
                price = new[0].price_hour * len(new)
                many = f"{len(new)} machines, each " if len(new) > 1 else ""
                name = phase if len(new) > 1 or new[0].name.endswith("#1") else new[0].name
                yield Milestone(RENTED, phase, f"{name}  {many}{what} rented, {money(price)}/h")

    def _ended_machines(self, seen: Snapshot) -> Iterator[Milestone]:
        """A machine that was lost; one that ends with its phase, or with its last step, is in the phase's own line."""
        ended = {p.name for p in seen.phases if p.state in (PhaseState.TEARING_DOWN, PhaseState.DONE)}
        for one in seen.machines:
            if one.costs or one.phase in ended or one.detail.endswith(NOT_NEEDED):
                continue
            if self._is_new(MACHINE_ENDED, one.long or one.name):
                why = f": {one_line(one.detail)}" if one.detail else ""
                yield Milestone(MACHINE_ENDED, one.phase, f"{one.name} is gone{why}", good=False)

    def _ready(self, phase: PhaseLine, seen: Snapshot, now: datetime) -> Iterator[Milestone]:
        mine = [m for m in seen.machines if m.phase == phase.name and m.up and m.since and m.costs]
        if phase.state != PhaseState.RUNNING or not mine or not phase.started:
            return
        if self._is_new(PHASE_READY, *(m.long for m in mine)):
            boot = max((m.up - m.since).total_seconds() for m in mine if m.up and m.since)
            whole = (now - phase.started).total_seconds()
            if whole < SOON_S:
                return
            ready = f", ready after {duration(whole)}" if whole - boot >= 10 else ""
            yield Milestone(PHASE_READY, phase.name, f"{phase.name}  up after {duration(boot)}{ready}")

    def _step(self, phase: PhaseLine, step: StepLine, now: datetime) -> Iterator[Milestone]:
        if step.state in _SILENT or (not step.ended and step.state != StepState.UP_TO_DATE):
            return
        if not self._is_new(STEP_ENDED, phase.name, step.id, step.state, str(step.ended)):
            return
        took = elapsed(step.started, step.ended, now)
        if step.state in _GOOD:
            brief = f"{step.name} {took or 'up to date'}" + (f" ({step.attempt})" if step.attempt else "")
            yield Milestone(STEP_ENDED, phase.name, f"{phase.name}  done: {brief}", brief, step.id)
            return
        words = [step.name if "/" in step.name else f"{phase.name}/{step.name}", spoken(step.state), took]
        why = one_line(step.detail).removeprefix(f"{step.id}: ")
        text = "  ".join(filter(None, [*words, step.attempt, why]))
        yield Milestone(STEP_ENDED, phase.name, text, text, step.id, good=False)

    def _transfers(self, phase: PhaseLine, seen: Snapshot, now: datetime) -> Iterator[Milestone]:
        for one in seen.transfers:
            mine = one.phase == phase.name and one.ended and one.kind != "code"
            if mine and self._is_new(TRANSFER, phase.name, one.kind, one.place):
                yield Milestone(TRANSFER, phase.name, f"{phase.name}  {header.transfer(one, now)}")

    def _phase(self, phase: PhaseLine, seen: Snapshot, now: datetime) -> Iterator[Milestone]:
        if phase.state != PhaseState.DONE or not phase.outcome or not self._is_new(PHASE_ENDED, phase.name):
            return
        took = elapsed(phase.started, phase.ended, now)
        parts = [spoken(phase.outcome), took, money(phase.usd) if phase.usd else ""]
        mine = [m for m in seen.machines if m.phase == phase.name]
        machines = _machines(mine) if phase.started else ""
        text = f"{phase.name}  {', '.join(filter(None, parts))}{machines}"
        good = phase.outcome == Outcome.SUCCEEDED
        if not good and phase.detail and not any(s.state == StepState.FAILED for s in phase.steps):
            text += f": {one_line(phase.detail)}"
        yield Milestone(PHASE_ENDED, phase.name, text, good=good)


def _machines(mine: list[MachineLine]) -> str:
    """What became of a phase's machines: `; machine gone`."""
    if not mine:
        return ""
    if all(m.price_hour == 0 for m in mine):  # nobody rented it
        return "; your machine stays"
    left = [m.name for m in mine if m.costs]
    if left:
        return f"; {', '.join(left)} goes on" if len(left) == 1 else f"; {', '.join(left)} go on"
    return "; machine gone" if len(mine) == 1 else f"; {len(mine)} machines gone"
