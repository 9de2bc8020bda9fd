"""One picture of a run, fitted into a terminal: the lines that LiveView draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from orchestrator.report import header
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
_DONE = frozenset({StepState.DONE, StepState.UP_TO_DATE})
_FINISHED = _DONE | {StepState.SKIPPED}
_AT_WORK = frozenset({StepState.RUNNING, StepState.READY})
_IDLE_PHASE = frozenset({PhaseState.PLANNED, PhaseState.DONE})
_INDENT = "    "  # of what is left of a line that was too long
_TIME = 7  # cells of the longest time, `59m 59s`: it stands before the name, which may be long

# Which lines go first when the terminal is too low: the highest number.
_MUST, _AT_WORK_LINE, _PHASE, _LOG, _WAITING, _PAST = range(6)


@dataclass(frozen=True, slots=True)
class _Line:
    rank: int
    text: Text


@dataclass(frozen=True, slots=True)
class Said:
    """What steps said last: step id -> its last line, raw; step id -> how far it is."""

    logs: Mapping[str, str] = field(default_factory=dict)
    progress: Mapping[str, str] = field(default_factory=dict)


def frame(snapshot: Snapshot, said: Said, now: datetime, width: int, height: int, *, fancy: bool = True) -> list[Text]:
    """Return at most `height` lines of at most `width` cells.

    What is at work or went wrong stays longest; `fancy` False uses ASCII only.
    """
    lines = [
        *_folded(_MUST, Text(header.headline(snapshot, now), style="bold"), "   ", width),
        *_folded(_AT_WORK_LINE, Text(header.prices(snapshot)), "   ", width),
    ]
    for machine in snapshot.machines:
        lines += _folded(_AT_WORK_LINE, _machine(machine, now), "  ", width) if machine.costs else ()
    for phase in snapshot.phases:
        lines += _phase(phase, said, now, fancy=fancy)
        for transfer in snapshot.transfers:
            if transfer.phase == phase.name and not transfer.ended:
                text = Text(f"  {header.transfer(transfer, now)}", style="cyan")
                lines += _folded(_AT_WORK_LINE, text, " ", width)
    return [_cut(line.text, width, fancy=fancy) for line in _fit(lines, max(height, 1))]


def _folded(rank: int, text: Text, between: str, width: int) -> Iterator[_Line]:
    """The text in as many lines as it takes, cut where its parts end: a figure at its end is worth a line."""
    while cell_len(text.plain) > width:
        fits = next((n for n in range(len(text.plain), 0, -1) if cell_len(text.plain[:n]) <= width), 0)
        end = text.plain.rfind(between, len(_INDENT), fits)
        if end <= len(_INDENT):
            break
        yield _Line(rank, text[:end])
        text = Text(_INDENT, style=text.style).append_text(text[end + len(between) :])
    yield _Line(rank, text)


def _fit(lines: list[_Line], height: int) -> list[_Line]:
    """Drop lines, those of the highest rank first: of past ones the oldest, of others the last."""
    while len(lines) > height:
        rank = max(line.rank for line in lines)
        places = [at for at, line in enumerate(lines) if line.rank == rank]
        del lines[places[0 if rank == _PAST else -1]]
    return lines


def _phase(phase: PhaseLine, said: Said, now: datetime, *, fancy: bool) -> Iterator[_Line]:
    done = sum(step.state in _DONE for step in phase.steps)
    style = {None: "", Outcome.SUCCEEDED: "green", Outcome.FAILED: "bold red"}.get(phase.outcome, "yellow")
    text = Text(f"{phase.name}  ")
    text.append(spoken(phase.outcome or phase.state), style=style).append(f"  {done} of {len(phase.steps)} steps")
    took = elapsed(phase.started, phase.ended, now)
    cost = money(phase.usd) if phase.usd else ""
    text.append("  ".join(["", *filter(None, [took, cost, one_line(phase.detail)])]), style="dim")
    yield _Line(_PHASE if phase.state in _IDLE_PHASE else _AT_WORK_LINE, text)
    for step in phase.steps:
        yield from _step(step, said, now, opened=phase.state != PhaseState.PLANNED, fancy=fancy)


def _step(step: StepLine, said: Said, now: datetime, *, opened: bool, fancy: bool) -> Iterator[_Line]:
    trouble = step.state not in _FINISHED | _AT_WORK | {StepState.PENDING}
    if not (opened or trouble):
        return
    symbol, plain, style = _SYMBOLS[step.state]
    took = elapsed(step.started, step.ended, now)
    text = Text("  ").append(f"{symbol if fancy else plain} ", style=style).append(f"{took:>{_TIME}}  ", "dim")
    text.append(step.name, style=style)
    at_work = step.state in _AT_WORK
    how = one_line(said.progress.get(step.id, "")) if at_work else ""
    text.append("  ".join(["", *filter(None, [step.attempt, how, one_line(step.detail)])]), "dim")
    waiting = _WAITING if step.state == StepState.PENDING else _PAST
    yield _Line(_AT_WORK_LINE if trouble or at_work else waiting, text)
    last = one_line(said.logs.get(step.id, "")) if at_work else ""
    if last:
        yield _Line(_LOG, Text(f"{' ' * (_TIME + 6)}{last}", style="dim"))


def _machine(machine: MachineLine, now: datetime) -> Text:
    style = "yellow" if machine.state in {MachineState.REQUESTED, MachineState.DESTROYING} else "blue"
    return Text(header.machine(machine, now), style=style)


def _cut(text: Text, width: int, *, fancy: bool) -> Text:
    if not fancy:
        text.plain = text.plain.encode("ascii", "replace").decode()
    if cell_len(text.plain) > width:
        text.plain = set_cell_size(text.plain, max(width - 1, 0)) + ("…" if fancy else "~")[:width]
    text.no_wrap = True
    return text
