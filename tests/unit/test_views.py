"""Views of a run that goes on."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.report import figures
from orchestrator.report.events import EventsView
from orchestrator.report.live import LiveView
from orchestrator.report.plain import PlainView
from orchestrator.report.snapshot import TransferLine
from orchestrator.transport.job_replies import Progress
from orchestrator.words.lifecycle import NOT_NEEDED, MachineState, Outcome, PhaseState, RunState, StepState
from orchestrator.words.secret import Secret
from tests.unit.view_pictures import CONVERT, RUNNING, T0, Clock, at, snapshot, step

ROOT = Path(__file__).parents[2]


def test_plain_view_writes_what_a_person_wants_to_know(zone: None) -> None:
    """Machines, ready, steps that end near one another in one line, the phase's end; the same again writes nothing."""
    out, clock = io.StringIO(), Clock()
    clock.now = at(20)
    with PlainView(out, clock) as view:
        view.update(RUNNING)
        clock.now = at(30)
        view.update(RUNNING)
        first = out.getvalue()
        view.update(RUNNING)
        assert out.getvalue() == first
        clock.now = at(300)
        (day1, day2, day4) = snapshot(replace(CONVERT, state=StepState.DONE, ended=at(262))).phases
        ended = replace(day2, state=PhaseState.DONE, outcome=Outcome.SUCCEEDED, ended=at(264), usd=Decimal("0.7"))
        gone = tuple(replace(m, state=MachineState.DESTROYED) for m in RUNNING.machines)
        view.update(replace(RUNNING, phases=(day1, ended, day4), machines=gone))
        view.say("still \x1b[31mthere")
    assert first.splitlines() == [
        "12:03:24 day2-3  A100 80GB in EU-1 rented, $1.89/h",
        "12:03:24 day1  done: clone 3.0s, install up to date",
        "12:03:24 day1  succeeded, 4.0s, $0.50; machine gone",
        "12:03:24 day2-3  up after 2.0s, ready after 16s",
        "12:03:34 day2-3  done: overlay 4.0s",
    ]
    assert out.getvalue()[len(first) :].splitlines() == [
        "12:08:04 day2-3  done: convert-glm 4m 12s",
        "12:08:04 day2-3  succeeded, 4m 20s, $0.70; machine gone",
        "12:08:04 still there",
    ]


def test_a_machine_of_ones_own_is_not_gone(zone: None) -> None:
    """What nobody rented is not ended by us either, and is said to stay."""
    out = io.StringIO()
    with PlainView(out, Clock()) as view:
        (day1, day2, day4) = RUNNING.phases
        ended = replace(day2, state=PhaseState.DONE, outcome=Outcome.SUCCEEDED, ended=at(264))
        own = tuple(replace(m, state=MachineState.DESTROYED, price_hour=Decimal(0)) for m in RUNNING.machines)
        view.update(replace(RUNNING, phases=(day1, ended, day4), machines=own))
    assert [line for line in out.getvalue().splitlines() if "day2-3  succeeded" in line] == [
        "12:03:04 day2-3  succeeded, 4m 20s; your machine stays"
    ]


def test_steps_that_end_together_fill_lines_and_no_more(zone: None) -> None:
    """Forty steps of one phase share lines, none of them above 120 characters; each is there once."""
    out = io.StringIO()
    with PlainView(out, Clock()) as view:
        view.update(snapshot(*(step("day2-3", f"step-{n:02}", StepState.DONE, 0, 1) for n in range(40))))
    found = [line for line in out.getvalue().splitlines() if "day2-3  done" in line]
    assert all(len(line) < 120 for line in found)
    assert len(found) < 10
    assert all(out.getvalue().count(f"step-{n:02} ") == 1 for n in range(40))


def test_a_machine_that_ends_before_its_phase_is_said(zone: None) -> None:
    """A pre-empted machine has a line of its own, with the reason; one that ends with its phase has none."""
    out = io.StringIO()
    with PlainView(out, Clock()) as view:
        view.update(RUNNING)
        lost = replace(RUNNING.machines[0], state=MachineState.LOST, detail="runpod says EXITED")
        view.update(replace(RUNNING, machines=(lost, RUNNING.machines[1])))
    assert [line for line in out.getvalue().splitlines() if "gone" in line][-1] == (
        "12:03:04 day2-3#1 is gone: runpod says EXITED"
    )
    assert "day1#1" not in out.getvalue()


def test_a_machine_that_nobody_needs_any_more_has_no_line(zone: None) -> None:
    """That it ends with its last step is as it should be."""
    out = io.StringIO()
    with PlainView(out, Clock()) as view:
        view.update(RUNNING)
        ended = replace(RUNNING.machines[0], state=MachineState.DESTROYED, detail=f"day2-3: {NOT_NEEDED}")
        view.update(replace(RUNNING, machines=(ended, RUNNING.machines[1])))
    assert "day2-3#1" not in out.getvalue()


def test_a_machine_that_is_ready_at_once_has_no_line(zone: None) -> None:
    """Nine seconds after its phase began nobody waited for it; ten are worth saying."""
    for seconds, told in ((13, False), (14, True)):  # the phase began at the fourth
        out, clock = io.StringIO(), Clock()
        clock.now = at(seconds)
        with PlainView(out, clock) as view:
            view.update(RUNNING)
        assert ("up after" in out.getvalue()) is told


def test_events_are_a_document_a_line() -> None:
    """`--json-events`: states, transfers and what a person is told, once each; secrets are masked; the view goes on."""
    out, plain = io.StringIO(), io.StringIO()
    line = TransferLine("day2-3", "upload", "s3://b/x", 8, 3, 100, 50, 10.0, T0)
    held = Secret("hush-hush-7")
    view = EventsView(PlainView(plain, Clock()), out, Clock())
    view.update(RUNNING)
    view.update(RUNNING)
    view.progress("day2-3/convert-glm", f"62 % {held.reveal()}")
    view.update(replace(RUNNING, transfers=(line,)))
    found = [json.loads(text) for text in out.getvalue().splitlines()]
    assert all(one["at"].startswith("2026-11-25T12:03:04") and one["run"] for one in found)
    states = {(one["of"], one["name"]): one["state"] for one in found if one["event"] == "state"}
    assert states["step", "day2-3/convert-glm"] == "RUNNING"
    assert states["machine", "gpuplan-a"] == "REACHABLE"
    (rented,) = [one for one in found if one["event"] == "machines_rented"]
    assert (rented["phase"], rented["ok"]) == ("day2-3", True)
    (moved,) = [one for one in found if one["event"] == "transfer"]
    assert (moved["files_done"], moved["bytes_done"], moved["left_s"]) == (3, 50, 5.0)
    assert "hush" not in out.getvalue()
    assert "rented" in plain.getvalue()


def test_views_show_each_event_that_happens_while_they_look(zone: None) -> None:
    """What happened before the view began is not repeated; what happens later is shown once, escaped."""
    out, drawn = io.StringIO(), io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=80, height=24, _environ={"TERM": "xterm"})
    with PlainView(out, Clock()) as plain, LiveView(console, lambda: at(262)) as live:
        for events in [(), ((7, "gone \x1b[31mfor good"),), ((7, "gone \x1b[31mfor good"), (8, "made anew"))]:
            plain.update(replace(RUNNING, events=((3, "long ago"), *events)))
            live.update(replace(RUNNING, events=((3, "long ago"), *events)))
    for text in (out.getvalue(), drawn.getvalue()):
        assert (text.count("gone for good"), text.count("made anew"), text.count("long ago")) == (1, 1, 0)
    assert "12:03:04 gone for good\n" in out.getvalue()


def test_plain_view_shows_the_end_of_a_failed_steps_log() -> None:
    """The last ten lines, escaped, follow a failure, and only a failure."""
    out = io.StringIO()
    with PlainView(out, Clock()) as view:
        view.update(RUNNING)
        for number in range(30):
            view.log("day2-3/convert-glm", f"\x1b[31mline {number}\n")
        view.log("day2-3/convert-glm", "two\nlines\r\n")
        view.update(snapshot(replace(CONVERT, state=StepState.FAILED, ended=at(20), detail=f"{CONVERT.id}: exit 1")))
    tail = out.getvalue().partition("day2-3/convert-glm")[2].splitlines()
    assert tail[0] == "  failed  10s  exit 1"
    assert tail[1:] == [f"         | {text}" for text in [*(f"line {n}" for n in range(22, 30)), "two", "lines"]]


def test_plain_view_says_once_a_minute_what_still_runs(zone: None) -> None:
    """A step that runs on gives one line a minute with its newest output."""
    out, clock = io.StringIO(), Clock()
    with PlainView(out, clock) as view:
        for second in range(0, 181, 5):
            clock.now = at(second)
            view.log("day2-3/convert-glm", f"{second} %")
            view.update(RUNNING)
    found = [line for line in out.getvalue().splitlines() if "convert-glm running " in line]
    assert found == [
        "12:04:04 day2-3  convert-glm running 50s  60 %",
        "12:05:04 day2-3  convert-glm running 1m 50s  120 %",
        "12:06:04 day2-3  convert-glm running 2m 50s  180 %",
    ]


def test_plain_view_says_once_a_minute_how_far_files_are(zone: None) -> None:
    """Fifteen hundred small files take a while: their number, bytes, rate and time left; the end has its own line."""
    out, clock = io.StringIO(), Clock()
    with PlainView(out, clock) as view:
        for second in range(0, 151, 5):
            clock.now = at(second)
            moved = TransferLine("day2-3", "upload", "s3://b/x", 1500, 10 * second, 15_000, 100 * second, 100.0, T0)
            view.update(replace(RUNNING, transfers=(moved,)))
        early = replace(moved, phase="day1", files_done=1500)  # all that there is so far: nothing to wait for
        for clock.now in (at(150), at(215)):
            view.update(replace(RUNNING, transfers=(early,)))
        clock.now = at(150)
        view.update(replace(RUNNING, transfers=(replace(moved, files_done=1500, ended=clock.now),)))
    assert [line for line in out.getvalue().splitlines() if "s3:" in line] == [
        "12:04:04 day2-3  uploading to s3://b/x: 600 of 1,500 files, 6 kB of 15 kB, 100 bytes/s, 1m 30s left",
        "12:05:04 day2-3  uploading to s3://b/x: 1,200 of 1,500 files, 12 kB of 15 kB, 100 bytes/s, 30s left",
        "12:05:34 day2-3  uploaded to s3://b/x: 1,500 files, 15 kB in 2m 30s (100 bytes/s)",
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
    last = text[text.rindex("shipped r1") :]
    assert "tearing down" in last
    assert "42 %" in last


def test_no_command_is_broken_in_a_narrow_terminal() -> None:
    """What somebody is to type stays whole, in an event and in what is said: it can be copied."""
    command, out = "gpuplan down 1129-abcd --volumes", io.StringIO()
    console = Console(file=out, force_terminal=True, width=40, height=24, _environ={"TERM": "xterm"})
    with LiveView(console, lambda: at(262)) as view:
        view.update(RUNNING)
        view.say(f"the machine may still run: {command} ends it")
        view.update(replace(RUNNING, events=((1, f"day2-3#1: not gone after two minutes: {command}"),)))
    assert out.getvalue().count(command) == 2


def test_progress_stands_beside_the_last_line(zone: None) -> None:
    """Both views show how far a step is and what it printed last; what it printed is what a failure shows."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24, _environ={"TERM": "xterm"})
    out, clock = io.StringIO(), Clock()
    live, plain = LiveView(console, lambda: at(262)), PlainView(out, clock)
    for second, (tell, text) in enumerate([("log", "begins\n"), ("progress", "62 %, 3m 10s left"), ("log", "warns\n")]):
        for view in (live, plain):
            getattr(view, tell)("day2-3/convert-glm", text)
            clock.now = at(61 * second)
            view.update(RUNNING)
    shown = [str(line) for line in live._draw().renderables]
    assert "  ▶  4m 12s  convert-glm  62 %, 3m 10s left" in shown
    assert "             warns" in shown
    found = [line for line in out.getvalue().splitlines() if "convert-glm running " in line]
    assert [line.split("  ", 1)[1].split("  ", 1)[1] for line in found] == [
        "62 %, 3m 10s left  begins", "62 %, 3m 10s left  warns",
    ]  # fmt: skip
    plain.update(snapshot(replace(CONVERT, state=StepState.FAILED, ended=at(200))))
    assert out.getvalue().splitlines()[-2:] == ["         | begins", "         | warns"]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (
            {"done": 137e9, "total": 221e9, "rate": 1.12e9, "left_s": 190.4, "what": "model.layers.3", "unit": "B"},
            "61 %, 1.1 GB/s, 3m 10s left, model.layers.3",
        ),
        ({"done": 999, "total": 1000, "rate": 9.96e6, "left_s": None, "unit": "B"}, "99 %, 10 MB/s"),
        ({"done": 30, "total": 100, "rate": 12345, "unit": "B"}, "30 %, 12 kB/s"),
        ({"done": 30, "total": 100, "rate": 12.345, "unit": "steps"}, "30 %, 12.3 steps/s"),
        ({"done": 30, "total": 100, "rate": 4200, "unit": "tokens"}, "30 %, 4,200 tokens/s"),
        ({"done": 30, "total": 100, "rate": 12}, "30 %"),
        ({"done": 30, "total": 100, "rate": 12, "unit": "\x1b[2J"}, "30 %"),
        (
            {"done": 7, "total": 5, "rate": 420e3, "left_s": 0, "what": "\x1b[2Ja\rb\u202e", "unit": "B"},
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
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests themselves were started with
sys.path.insert(0, {root!r})
sys.path.insert(0, {tests!r})
from rich.console import Console
from orchestrator.report.live import LiveView
from view_pictures import RUNNING
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
