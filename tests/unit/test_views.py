"""Views of a run that goes on."""

from __future__ import annotations

import io
import os
import pty
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from orchestrator.report import figures
from orchestrator.report.frame import frame
from orchestrator.report.live import LiveView
from orchestrator.report.plain import PlainView
from orchestrator.report.snapshot import MachineLine, PhaseLine, Snapshot, StepLine
from orchestrator.transport.replies import Progress
from orchestrator.words.lifecycle import MachineState, Outcome, PhaseState, RunState, StepState

ROOT = Path(__file__).parents[2]
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
            PhaseLine("day1", PhaseState.DONE, Outcome.SUCCEEDED, done),
            PhaseLine("day2-3", state, None, steps),
            PhaseLine("day4-5", PhaseState.PLANNED, None, later),
        ),
        machines=(
            MachineLine("gpuplan-a", MachineState.REACHABLE, "runpod A100-80GB in EU-1", Decimal("1.89")),
            MachineLine("gpuplan-b", MachineState.DESTROYED, "runpod RTX-4090"),
        ),
        cost_usd=Decimal("1.2345"),
        budget_usd=Decimal(90),
        started=T0,
    )


CONVERT = step("day2-3", "convert-glm", StepState.RUNNING, 10)
RUNNING = snapshot(step("day2-3", "overlay", StepState.DONE, 5, 9), CONVERT, step("day2-3", "infer", StepState.PENDING))


def lines(shown: Snapshot, logs: dict[str, str], width: int = 80, height: int = 24, *, fancy: bool = True) -> list[str]:
    return [line.plain for line in frame(shown, logs, at(262), width, height, fancy=fancy)]


def test_frame_shows_run_phases_steps_log_and_machines() -> None:
    """All that a person looks for is there once: money, times, the newest log line, only machines that cost."""
    found = lines(RUNNING, {"day2-3/convert-glm": "\x1b[32m10 %\r42 % layers.3\x1b[0m", "day2-3/overlay": "old"})
    assert found == [
        "run r1  running  4m 22s  $1.23 of $90.00",
        "day1  succeeded  2 of 2 steps",
        "day2-3  running  1 of 3 steps",
        "  ✔ overlay  4.0s",
        "  ▶ convert-glm  4m 12s",
        "      42 % layers.3",
        "  · infer",
        "day4-5  planned  0 of 1 steps",
        "machine reachable  $1.89/h  runpod A100-80GB in EU-1  gpuplan-a",
    ]


def test_failed_steps_of_a_phase_that_ended_stay_visible() -> None:
    """What went wrong is shown for as long as the run goes on."""
    failed = replace(step("day1", "clone", StepState.FAILED, 0, 3), detail="exit 128\nfatal: no")
    phase = PhaseLine("day1", PhaseState.DONE, Outcome.FAILED, (failed, step("day1", "next", StepState.SKIPPED)))
    assert lines(replace(RUNNING, phases=(phase,), machines=()), {})[1:] == [
        "day1  failed  1 of 2 steps",
        "  ✘ clone  3.0s  fatal: no",
    ]


_TEXTS = st.text(max_size=60)


@given(
    names=st.lists(st.tuples(_TEXTS, st.sampled_from(StepState), _TEXTS), max_size=30),
    width=st.integers(1, 120),
    height=st.integers(1, 40),
    fancy=st.booleans(),
)
@settings(max_examples=300, deadline=None, database=None)
def test_frame_always_fits(names: list[tuple[str, StepState, str]], width: int, height: int, *, fancy: bool) -> None:
    """Never more lines or wider ones than the terminal has, whatever machines print; ASCII only where it must be."""
    steps = tuple(StepLine(str(n), f"s{n}", state, T0, None, text) for n, (text, state, _) in enumerate(names))
    logs = {str(n): text for n, (_, _, text) in enumerate(names)}
    found = lines(snapshot(*steps), logs, width, height, fancy=fancy)
    assert len(found) <= height
    assert all(cell_len(line) <= width and "\n" not in line and "\x1b" not in line for line in found)
    assert fancy or all(line.isascii() for line in found)


def test_a_low_terminal_keeps_what_is_at_work() -> None:
    """With six lines the run, its running step and its machine are left; what is done or waits goes first."""
    many = [step("day2-3", f"s{n}", StepState.DONE, 0, 1) for n in range(20)]
    waiting = [step("day2-3", f"w{n}", StepState.PENDING) for n in range(20)]
    found = lines(snapshot(*many, CONVERT, *waiting), {"day2-3/convert-glm": "42 %"}, height=6)
    assert [line.split()[0] for line in found] == ["run", "day1", "day2-3", "▶", "day4-5", "machine"]
    assert lines(snapshot(*many, CONVERT, *waiting), {}, height=1) == ["run r1  running  4m 22s  $1.23 of $90.00"]


class _Clock:
    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_plain_view_writes_a_line_for_each_event(zone: None) -> None:
    """One line with time, step and state; the same snapshot again writes nothing; ended machines say so once."""
    out, clock = io.StringIO(), _Clock()
    with PlainView(out, clock) as view:
        view.update(RUNNING)
        first = out.getvalue()
        view.update(RUNNING)
        assert out.getvalue() == first
        clock.now = at(300)
        view.update(snapshot(replace(CONVERT, state=StepState.DONE, ended=at(262))))
        view.say("still \x1b[31mthere")
    assert first.splitlines() == [
        "12:03:04 run r1  running  $1.23",
        "12:03:04 day1  done succeeded",
        "12:03:04 day1/clone  done  3.0s",
        "12:03:04 day1/install  up to date",
        "12:03:04 day2-3  running",
        "12:03:04 day2-3/overlay  done  4.0s",
        "12:03:04 day2-3/convert-glm  running",
        "12:03:04 machine gpuplan-a  reachable  runpod A100-80GB in EU-1  $1.89/h",
        "12:03:04 machine gpuplan-b  destroyed  runpod RTX-4090",
    ]
    assert out.getvalue()[len(first) :].splitlines() == [
        "12:08:04 day2-3/convert-glm  done  4m 12s",
        "12:08:04 still there",
    ]


def test_views_show_each_event_that_happens_while_they_look(zone: None) -> None:
    """What happened before the view began is not repeated; what happens later is shown once, escaped."""
    out, drawn = io.StringIO(), io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=80, height=24, _environ={"TERM": "xterm"})
    with PlainView(out, _Clock()) as plain, LiveView(console, lambda: at(262)) as live:
        for events in [(), ((7, "gone \x1b[31mfor good"),), ((7, "gone \x1b[31mfor good"), (8, "made anew"))]:
            plain.update(replace(RUNNING, events=((3, "long ago"), *events)))
            live.update(replace(RUNNING, events=((3, "long ago"), *events)))
    for text in (out.getvalue(), drawn.getvalue()):
        assert (text.count("gone for good"), text.count("made anew"), text.count("long ago")) == (1, 1, 0)
    assert "12:03:04 gone for good\n" in out.getvalue()


def test_plain_view_shows_the_end_of_a_failed_steps_log() -> None:
    """The last ten lines, escaped, follow a failure, and only a failure."""
    out = io.StringIO()
    with PlainView(out, _Clock()) as view:
        view.update(RUNNING)
        for number in range(30):
            view.log("day2-3/convert-glm", f"\x1b[31mline {number}\n")
        view.log("day2-3/convert-glm", "two\nlines\r\n")
        view.update(snapshot(replace(CONVERT, state=StepState.FAILED, ended=at(20), detail="exit 1")))
    tail = out.getvalue().splitlines()[9:]
    assert tail[0].endswith("day2-3/convert-glm  failed  10s  exit 1")
    assert tail[1:] == [f"         | {text}" for text in [*(f"line {n}" for n in range(22, 30)), "two", "lines"]]


def test_plain_view_says_once_a_minute_what_still_runs(zone: None) -> None:
    """A step that runs on gives one line a minute with its newest output."""
    out, clock = io.StringIO(), _Clock()
    with PlainView(out, clock) as view:
        for second in range(0, 181, 5):
            clock.now = at(second)
            view.log("day2-3/convert-glm", f"{second} %")
            view.update(RUNNING)
    found = [line for line in out.getvalue().splitlines() if "convert-glm  running " in line]
    assert found == [
        "12:04:04 day2-3/convert-glm  running 50s  60 %",
        "12:05:04 day2-3/convert-glm  running 1m 50s  120 %",
        "12:06:04 day2-3/convert-glm  running 2m 50s  180 %",
    ]


def test_live_view_draws_and_leaves_the_last_picture() -> None:
    """On a terminal the picture is drawn, what is said stays above it, and the last state is what remains."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, height=24, _environ={"TERM": "xterm"})
    with LiveView(console, lambda: at(262)) as view:
        view.log("day2-3/convert-glm", "42 %")
        view.update(RUNNING)
        view.say("reconnecting\x07")
        view.update(replace(RUNNING, state=RunState.TEARING_DOWN))
    text = out.getvalue()
    assert "reconnecting\\x07" in text
    assert text.rstrip().endswith("\x1b[?25h")
    last = text[text.rindex("run r1") :]
    assert "tearing down" in last
    assert "42 %" in last


def test_progress_stands_in_for_the_last_line_while_it_is_newer(zone: None) -> None:
    """Both views show a running step's progress until it prints again; what it printed stays what a failure shows."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24, _environ={"TERM": "xterm"})
    out, clock = io.StringIO(), _Clock()
    live, plain = LiveView(console, lambda: at(262)), PlainView(out, clock)
    shown = []
    for second, (tell, text) in enumerate([("log", "begins\n"), ("progress", "62 %, 3m 10s left"), ("log", "warns\n")]):
        for view in (live, plain):
            getattr(view, tell)("day2-3/convert-glm", text)
            clock.now = at(61 * second)
            view.update(RUNNING)
        shown.append([str(line) for line in live._draw().renderables][5].strip())
    assert shown == ["begins", "62 %, 3m 10s left", "warns"]
    found = [line for line in out.getvalue().splitlines() if "convert-glm  running " in line]
    assert [line.rsplit("  ", 1)[1] for line in found] == ["62 %, 3m 10s left", "warns"]
    plain.progress("day2-3/convert-glm", "63 %")
    plain.update(snapshot(replace(CONVERT, state=StepState.FAILED, ended=at(200))))
    assert out.getvalue().splitlines()[-2:] == ["         | begins", "         | warns"]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (
            {"done": 137e9, "total": 221e9, "rate": 1.12e9, "left_s": 190.4, "what": "model.layers.3"},
            "61 %, 1.1 GB/s, 3m 10s left, model.layers.3",
        ),
        ({"done": 999, "total": 1000, "rate": 9.96e6, "left_s": None}, "99 %, 10 MB/s"),
        (
            {"done": 7, "total": 5, "rate": 420e3, "left_s": 0, "what": "\x1b[2Ja\rb\u202e"},
            "100 %, 0.4 MB/s, 0s left, b\\u202e",
        ),
        ({"done": 0, "total": 5, "rate": "fast", "left_s": float("inf"), "what": 3}, "0 %"),
        ({"done": True, "total": 5}, None),
        ({"done": 1, "total": 0}, None),
        ({"done": float("nan"), "total": 10**400}, None),
        ({"done": -1, "total": 5}, None),
        ("62 %", None),
    ],
)  # fmt: skip
def test_what_a_step_says_of_its_progress(said: object, text: str | None) -> None:
    """Share, speed, time left and the thing in hand in few words; what is no such figure is left out, harmlessly."""
    progress = Progress.read(said)
    assert (figures.how_far(progress) if progress else None) == text


_PROGRAM = """
import sys, time
sys.path.insert(0, {root!r})
sys.path.insert(0, {tests!r})
from rich.console import Console
from orchestrator.report.live import LiveView
from test_views import RUNNING
with LiveView(Console()) as view:
    view.update(RUNNING)
    time.sleep(0.6)
    print("READY", flush=True)
    {body}
"""


@pytest.mark.parametrize(("body", "sent"), [("raise RuntimeError('boom')", None), ("time.sleep(30)", signal.SIGINT)])
def test_terminal_is_restored_on_errors_and_ctrl_c(body: str, sent: int | None) -> None:
    """On a real pseudo-terminal an exception and Ctrl-C leave the cursor visible."""
    master, slave = pty.openpty()
    code = _PROGRAM.format(root=str(ROOT), tests=str(Path(__file__).parent), body=body)
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    environment.pop("CI", None)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=slave, stdout=slave, stderr=slave, env=environment
    ) as run:
        os.close(slave)
        text = _read_until(master, b"READY" if sent else None)
        if sent:
            run.send_signal(sent)
            text += _read_until(master, None)
        run.wait(timeout=30)
    os.close(master)
    assert run.returncode != 0
    assert "convert-glm" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def _read_until(master: int, mark: bytes | None) -> str:
    """Read a pseudo-terminal until `mark` has been seen, or until nobody holds its other end."""
    seen = b""
    deadline = time.monotonic() + 60
    while (mark is None or mark not in seen) and time.monotonic() < deadline:
        if not select.select([master], [], [], 1)[0]:
            continue
        try:
            data = os.read(master, 65536)
        except OSError:  # Linux says EIO where others say end of file
            break
        if not data:
            break
        seen += data
    return seen.decode("utf-8", "replace")
