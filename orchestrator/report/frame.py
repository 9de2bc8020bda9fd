"""One picture of a run, fitted into a terminal: the lines that LiveView draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from orchestrator.report.console import one_line
from orchestrator.report.figures import elapsed, money, spoken
from orchestrator.report.snapshot import MachineLine, PhaseLine, Snapshot, StepLine
from orchestrator.words.lifecycle import MachineState, Outcome, PhaseState, StepState

_SYMBOLS = {
    StepState.PENDING: ("·", ".", "dim"),
    StepState.RUNNING: ("▶", ">", "cyan"),
    StepState.READY: ("◆", "*", "cyan"),
    StepState.DONE: ("✔", "+", "green"),
    StepState.UP_TO_DATE: ("=", "=", "green"),
    StepState.FAILED: ("✘", "x", "bold red"),
    StepState.SKIPPED: ("-", "-", "dim"),
    StepState.INTERRUPTED: ("!", "!", "yellow"),
    StepState.LOST: ("?", "?", "yellow"),
}
_FINISHED = frozenset({StepState.DONE, StepState.UP_TO_DATE, StepState.SKIPPED})
_AT_WORK = frozenset({StepState.RUNNING, StepState.READY})
_IDLE_PHASE = frozenset({PhaseState.PLANNED, PhaseState.DONE})

# Which lines go first when the terminal is too low: the highest number.
_MUST, _AT_WORK_LINE, _PHASE, _LOG, _WAITING, _PAST = range(6)


@dataclass(frozen=True, slots=True)
class _Line:
    rank: int
    text: Text


def frame(
    snapshot: Snapshot, logs: Mapping[str, str], now: datetime, width: int, height: int, *, fancy: bool = True
) -> list[Text]:
    """Return at most `height` lines of at most `width` cells. `logs`: step id -> its last line, raw.

    What is at work or went wrong stays longest; `fancy` False uses ASCII only.
    """
    lines = [_Line(_MUST, _header(snapshot, now))]
    for phase in snapshot.phases:
        lines += _phase(phase, logs, now, fancy=fancy)
    lines += [_Line(_AT_WORK_LINE, _machine(machine)) for machine in snapshot.machines if machine.costs]
    return [_cut(line.text, width, fancy=fancy) for line in _fit(lines, max(height, 1))]


def _fit(lines: list[_Line], height: int) -> list[_Line]:
    """Drop lines, those of the highest rank first: of past ones the oldest, of others the last."""
    while len(lines) > height:
        rank = max(line.rank for line in lines)
        places = [at for at, line in enumerate(lines) if line.rank == rank]
        del lines[places[0 if rank == _PAST else -1]]
    return lines


def _header(snapshot: Snapshot, now: datetime) -> Text:
    cap = f" of {money(snapshot.budget_usd)}" if snapshot.budget_usd is not None else ""
    took = elapsed(snapshot.started, None, now)
    parts = [f"run {snapshot.run}", spoken(snapshot.state), took, f"{money(snapshot.cost_usd)}{cap}"]
    return Text("  ".join(part for part in parts if part), style="bold")


def _phase(phase: PhaseLine, logs: Mapping[str, str], now: datetime, *, fancy: bool) -> Iterator[_Line]:
    finished = sum(step.state in _FINISHED for step in phase.steps)
    word = spoken(phase.outcome or phase.state)
    style = {None: "", Outcome.SUCCEEDED: "green", Outcome.FAILED: "bold red"}.get(phase.outcome, "yellow")
    text = Text(f"{phase.name}  ")
    text.append(word, style=style).append(f"  {finished} of {len(phase.steps)} steps")
    if phase.detail:
        text.append(f"  {one_line(phase.detail)}", style="dim")
    yield _Line(_PHASE if phase.state in _IDLE_PHASE else _AT_WORK_LINE, text)
    for step in phase.steps:
        yield from _step(step, logs, now, opened=phase.state not in _IDLE_PHASE, fancy=fancy)


def _step(step: StepLine, logs: Mapping[str, str], now: datetime, *, opened: bool, fancy: bool) -> Iterator[_Line]:
    trouble = step.state not in _FINISHED | _AT_WORK | {StepState.PENDING}
    if not (opened or trouble):
        return
    symbol, plain, style = _SYMBOLS[step.state]
    text = Text("  ").append(f"{symbol if fancy else plain} {step.name}", style=style)
    text.append("  ".join(["", *filter(None, [elapsed(step.started, step.ended, now), one_line(step.detail)])]), "dim")
    waiting = _WAITING if step.state == StepState.PENDING else _PAST
    yield _Line(_AT_WORK_LINE if trouble or step.state in _AT_WORK else waiting, text)
    last = one_line(logs.get(step.id, ""))
    if last and step.state in _AT_WORK:
        yield _Line(_LOG, Text(f"      {last}", style="dim"))


def _machine(machine: MachineLine) -> Text:
    style = "yellow" if machine.state in {MachineState.REQUESTED, MachineState.DESTROYING} else "blue"
    price = f"{money(machine.price_hour)}/h" if machine.price_hour is not None else ""
    text = Text("machine ").append(machine.state.lower(), style=style)
    return text.append("  ".join(["", *filter(None, [price, machine.what, machine.name, one_line(machine.detail)])]))


def _cut(text: Text, width: int, *, fancy: bool) -> Text:
    if not fancy:
        text.plain = text.plain.encode("ascii", "replace").decode()
    if cell_len(text.plain) > width:
        text.plain = set_cell_size(text.plain, max(width - 1, 0)) + ("…" if fancy else "~")[:width]
    text.no_wrap = True
    return text
