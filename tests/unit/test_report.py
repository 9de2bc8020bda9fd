"""Views of a run that goes on, and the tables of one that is planned or has ended."""

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

from orchestrator import cost
from orchestrator.lifecycle import MachineState, Outcome, PhaseState, RunState, StepState
from orchestrator.plan import PhasePreview, Preview, StepPreview
from orchestrator.plan.notes import Expectation, Remark
from orchestrator.ports import Offer
from orchestrator.report import tables, words
from orchestrator.report.frame import frame
from orchestrator.report.live import LiveView
from orchestrator.report.plain import PlainView
from orchestrator.report.snapshot import MachineView, PhaseView, Snapshot, StepView
from orchestrator.transport.replies import Progress

ROOT = Path(__file__).parents[2]
T0 = datetime(2026, 11, 25, 12, 3, 4, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def step(phase: str, name: str, state: StepState, start: float | None = None, end: float | None = None) -> StepView:
    begun, over = (at(start) if start is not None else None), (at(end) if end is not None else None)
    return StepView(f"{phase}/{name}", name, state, begun, over)


def snapshot(*steps: StepView, state: PhaseState = PhaseState.RUNNING) -> Snapshot:
    done = (step("day1", "clone", StepState.DONE, 0, 3), step("day1", "install", StepState.UP_TO_DATE))
    later = (step("day4-5", "moe", StepState.PENDING),)
    return Snapshot(
        run="r1",
        state=RunState.RUNNING,
        phases=(
            PhaseView("day1", PhaseState.DONE, Outcome.SUCCEEDED, done),
            PhaseView("day2-3", state, None, steps),
            PhaseView("day4-5", PhaseState.PLANNED, None, later),
        ),
        machines=(
            MachineView("gpuplan-a", MachineState.REACHABLE, "runpod A100-80GB in EU-1", Decimal("1.89")),
            MachineView("gpuplan-b", MachineState.DESTROYED, "runpod RTX-4090"),
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
    phase = PhaseView("day1", PhaseState.DONE, Outcome.FAILED, (failed, step("day1", "next", StepState.SKIPPED)))
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
    steps = tuple(StepView(str(n), f"s{n}", state, T0, None, text) for n, (text, state, _) in enumerate(names))
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
    assert (words.how_far(progress) if progress else None) == text


_PROGRAM = """
import sys, time
sys.path.insert(0, {root!r})
sys.path.insert(0, {tests!r})
from rich.console import Console
from orchestrator.report.live import LiveView
from test_report import RUNNING
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


def _printed(*parts: object, width: int) -> str:
    out = io.StringIO()
    tables.show(*parts, out=out, width=width)  # type: ignore[arg-type] # renderables are a union that tests need not name
    text = out.getvalue()
    assert max(map(cell_len, text.splitlines())) <= width
    return text


def _report(*, settled: bool = True) -> cost.CostReport:
    charges = [cost.MachineCharge("m", "day2-3", "runpod", Decimal("1.89"), T0, at(12))]
    return cost.report(
        "r1",
        charges,
        [cost.VolumeCharge("glm", Decimal("0.0959"), T0, at(40))],
        [cost.StepTime("day2-3", "convert-glm", ("m",), at(2), at(7))],
        now=at(60),
        planned={"day1": (Decimal(10), Decimal(10)), "day2-3": (Decimal(16), Decimal(30))},
        settled=settled,
    )


@pytest.mark.parametrize("width", [60, 100])
def test_cost_table_has_all_figures_whole(width: int) -> None:
    """Rehearsed seconds, dollars, the plan's figures and list prices stand uncut at 60 columns, with the sum below."""
    text = _printed(tables.costs(_report(), {"day2-3": Decimal("30.24")}, rehearsed=True, steps=True), width=width)
    row = next(line for line in text.splitlines() if line.strip().startswith("day2-3"))
    assert row.split() == ["day2-3", "12s", "$0.00630", "16.0h", "$30.00", "$30.24"]
    total = next(line for line in text.splitlines() if line.strip().startswith("total"))
    assert total.split() == ["total", "12s", "$0.00737", "26.0h", "$40.00", "$30.24"]
    assert "nothing was paid" in text.replace("\n", " ")
    assert "…" not in text


def test_cost_table_of_a_real_run_says_whether_it_is_settled() -> None:
    """A real run's table does not speak of a rehearsal, and a bill that can change says so."""
    text = _printed(tables.costs(_report(settled=False), {}, rehearsed=False), width=80)
    assert "not settled" in text
    assert "rehears" not in text


@pytest.mark.parametrize("width", [60, 100])
def test_deliverables_table_counts_and_escapes(width: int) -> None:
    """Each deliverable has its mark; what a machine said is escaped and never taken as markup."""
    rows = [
        tables.DeliverableRow("day1", "clone", True, "[bold]fine[/bold]"),
        tables.DeliverableRow("day2-3", "GLM converted", False, "\x1b[2Jglm4_5_air.m is missing"),
        tables.DeliverableRow("day6-7", "uploaded", None),
    ]
    text = _printed(tables.deliverables(rows), width=width)
    marks = [line.split()[:2] for line in text.splitlines() if line.split()[1:2] in (["day1"], ["day2-3"], ["day6-7"])]
    assert marks == [["ok", "day1"], ["NO", "day2-3"], ["?", "day6-7"]]
    assert "1 of 3 deliverables hold" in text
    assert "[bold]fine[/bold]" in text
    assert "\x1b" not in text


def test_names_are_never_taken_as_markup() -> None:
    """A plain text and a phase's name with brackets or colons are printed as they are."""
    row = tables.DeliverableRow("[red]d1", ":warning:", True)
    text = _printed("run [bold]r1[/bold] :smile:", tables.deliverables([row]), width=80)
    assert "run [bold]r1[/bold] :smile:" in text
    assert "[red]d1" in text
    assert ":warning:" in text


def _preview() -> Preview:
    offer = Offer("runpod", "NVIDIA A100 80GB PCIe", "A100-80GB", 2, 80, Decimal("3.58"), "EU-RO-1")
    phase = PhasePreview(
        phase="day4-5",
        title="MoE",
        needs="2x A100-80GB or H100-80GB",
        offer=offer,
        nodes=1,
        takes_over=None,
        price_hour=Decimal("3.58"),
        budget_usd=Decimal(2),
        planned=(Decimal(24), Decimal(69)),
        estimated_hours=Decimal("1.02"),
        estimated_usd=Decimal("3.74"),
        measured=None,
        steps=(StepPreview("day1/clone", 5.0, pulled_in=True, done=False),),
        pulled_in_hours=Decimal("0.36"),
        pulled_in_usd=Decimal("1.29"),
        earlier_first_saves_usd=Decimal("0.99"),
        dearest_hour=Decimal("3.99"),
        cpu_usd=Decimal("0.52"),
    )
    sold_out = replace(phase, phase="day6-7", offer=None, price_hour=None, estimated_usd=None)
    done = replace(phase, phase="day1", steps=(StepPreview("day1/clone", 5.0, pulled_in=False, done=True),))
    note = Remark("Size", "30 GB", "220.9 GB", "the hub")
    expected = Expectation("q40", "15 GB", "62.3 GB", None)
    return Preview((done, phase, sold_out), Decimal("0.10"), None, (note,), (expected,))


@pytest.mark.parametrize("width", [60, 100])
def test_preview_shows_plan_estimate_and_measured(width: int) -> None:
    """Machines, prices and the three columns are whole at 60 columns; over budget and pulled-in steps are said."""
    text = _printed(tables.preview(_preview()), width=width)
    flat = " ".join(text.split())
    assert "24.0h $69.00" in flat
    assert "1.0h $3.74" in flat
    for words_ in ("over budget: day4-5: estimated $3.74, budget $2.00", "up to date", "none is sold"):
        assert words_ in flat
    assert "day4-5 also runs day1/clone (0.36h, $1.29; $0.99 less if their own phases run first)" in flat
    assert "…" not in text


@pytest.mark.parametrize("width", [60, 100])
def test_claims_stand_beside_what_is_so(width: int) -> None:
    """Notes and expected figures: the plan's words, the fact, and what was measured."""
    flat = " ".join(_printed(tables.claims(_preview()), width=width).split())
    for text in ("Size", "30 GB", "220.9 GB", "q40", "15 GB", "62.3 GB"):
        assert text in flat


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.04, "0.0s"), (0.42, "0.4s"), (9.94, "9.9s"), (9.96, "10s"), (59.4, "59s"), (59.6, "1m 00s"),
     (252, "4m 12s"), (3599.7, "1h 00m"), (3780, "1h 03m"), (86400, "1d 00h"), (187200, "2d 04h")],
)  # fmt: skip
def test_durations_are_short(seconds: float, text: str) -> None:
    """Two units at most, and rounding never shows 60 of one."""
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [("0", "$0.00"), ("12.345", "$12.34"), ("0.1", "$0.10"), ("0.00471", "$0.00471"), ("-2", "-$2.00")],
)
def test_money_keeps_small_amounts_readable(usd: str, text: str) -> None:
    """Cents from ten cents up, more digits below, the sign in front."""
    assert words.money(Decimal(usd)) == text


def test_no_price_is_a_dash() -> None:
    """None is said, not counted as nothing."""
    assert (words.money(None), words.hours(None)) == ("-", "-")


def test_the_console_module_loads_nothing_heavy() -> None:
    """`gpuplan --help` may import the words and the escaper: rich stays out until something is drawn."""
    program = (
        "import sys, orchestrator.console, orchestrator.report.snapshot, orchestrator.report.plain\n"
        "print([name for name in ('rich', 'pydantic', 'yaml', 'dbos', 'sqlalchemy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
