"""What a picture of a run looks like in a terminal of some size, and the lines above it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from orchestrator.report import header
from orchestrator.report.frame import Said, frame
from orchestrator.report.snapshot import PhaseLine, StepLine, TransferLine
from orchestrator.words.lifecycle import Outcome, PhaseState, RunState, StepState
from tests.unit.view_pictures import CONVERT, RUNNING, T0, at, lines, snapshot, step


def test_frame_shows_run_phases_steps_log_and_machines() -> None:
    """All that a person looks for is there once: money, times, the newest log line, only machines that cost."""
    found = lines(RUNNING, {"day2-3/convert-glm": "\x1b[32m10 %\r42 % layers.3\x1b[0m", "day2-3/overlay": "old"})
    assert found == [
        "shipped r1   day2-3 (2 of 3)   4m 22s",
        "$1.23 of $90.00   now $1.89/h",
        "machine  day2-3#1  A100 80GB in EU-1  runpod  up 4m 20s  $1.89/h",
        "day1  succeeded  2 of 2 steps  4.0s  $0.50",
        "  ✔    3.0s  clone",
        "  =          install",
        "day2-3  running  1 of 3 steps  4m 18s",
        "  ✔    4.0s  overlay",
        "  ▶  4m 12s  convert-glm",
        "             42 % layers.3",
        "  ·          infer",
        "day4-5  planned  0 of 1 steps",
    ]


def test_failed_steps_of_a_phase_that_ended_stay_visible() -> None:
    """What went wrong is shown for as long as the run goes on."""
    failed = replace(step("day1", "clone", StepState.FAILED, 0, 3), detail="exit 128\nfatal: no")
    phase = PhaseLine("day1", PhaseState.DONE, Outcome.FAILED, (failed, step("day1", "next", StepState.SKIPPED)))
    assert lines(replace(RUNNING, phases=(phase,), machines=()), {})[2:] == [
        "day1  failed  0 of 2 steps",
        "  ✘    3.0s  clone  fatal: no",
        "  -          next",
    ]


def test_steps_that_were_skipped_are_not_counted_as_done() -> None:
    """Of a run that was stopped nobody reads that all of its steps came to their end."""
    skipped = [step("day2-3", f"s{n}", StepState.SKIPPED) for n in range(3)]
    shown = snapshot(step("day2-3", "overlay", StepState.DONE, 5, 9), *skipped)
    assert any("1 of 4 steps" in line for line in lines(shown, {}))


def test_a_long_name_leaves_its_time_and_its_progress_its_last_line() -> None:
    """At 60 columns the time of a step with a long name is whole; how far it is and what it printed are both there."""
    long = replace(CONVERT, name="convert-" * 12, tries=2, attempts=3)
    said = Said({long.id: "layers.3"}, {CONVERT.id: "62 %, 3m 10s left"})
    found = [line.plain for line in frame(snapshot(long), said, at(262), 60, 24)]
    assert next(line for line in found if "convert-" in line).startswith("  ▶  4m 12s  convert-")
    found = [line.plain for line in frame(snapshot(replace(long, name="c")), said, at(262), 60, 24)]
    assert "  ▶  4m 12s  c  attempt 2 of 3  62 %, 3m 10s left" in found
    assert "             layers.3" in found


def test_no_figure_of_a_head_is_cut_away() -> None:
    """At 60 columns what a line of head, machine or files has no room for stands in the next one."""
    line = TransferLine("day2-3", "upload", "s3://my-bucket/x", 8, 3, 62_300_000_000, 12_460_000_000, 640e6, T0)
    machine = replace(RUNNING.machines[0], provider="a-longer-provider")
    shown = replace(RUNNING, plan="a-longer-name", left_s=3600.0, transfers=(line,), machines=(machine,))
    found = [text.plain for text in frame(shown, Said(), at(262), 60, 30)]
    assert all(len(text) <= 60 and "…" not in text for text in found)
    flat = " ".join(" ".join(found).split())
    for words in (header.headline(shown, at(262)), header.machine(machine, at(262)), header.transfer(line, at(262))):
        assert " ".join(words.split()) in flat
    assert "  uploading to s3://my-bucket/x: 3 of 8 files, 12.5 GB of" in found
    assert "    62.3 GB, 640 MB/s, 1m 18s left" in found


def test_files_on_their_way_are_in_the_picture() -> None:
    """Files, bytes, rate and time left below their phase, until they have arrived."""
    line = TransferLine("day2-3", "upload", "s3://b/x", 8, 3, 62_300_000_000, 12_460_000_000, 640e6, T0)
    shown = replace(RUNNING, transfers=(line, replace(line, kind="code", ended=at(4))))
    assert [one for one in lines(shown, {}) if "s3:" in one] == [
        "  uploading to s3://b/x: 3 of 8 files, 12.5 GB of 62.3 GB, 640 MB/s, 1m 18s left"
    ]
    early = replace(line, files_done=8, bytes_done=line.bytes)
    assert header.transfer(early, at(9)) == "uploaded to s3://b/x so far: 8 files, 62.3 GB", "steps run that make more"
    pulled = replace(line, kind="pull", place="/a/long/folder", ended=at(4))
    assert header.transfer(pulled, at(9)).startswith("fetched home: 8 files"), "the folder is in the last lines"


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
    assert [line.split()[0] for line in found] == ["shipped", "$1.23", "machine", "day1", "day2-3", "▶"]
    assert lines(snapshot(*many, CONVERT, *waiting), {}, height=1) == ["shipped r1   day2-3 (2 of 3)   4m 22s"]


def test_the_header_says_what_is_left_and_what_it_will_cost(zone: None) -> None:
    """Time left with the hour, what is spent of the budget, what it costs now, what it is expected to cost."""
    shown = replace(RUNNING, left_s=3000, expected_usd=Decimal("11.9"), volume_hour=Decimal("0.1"))
    assert header.headline(shown, at(262)) == "shipped r1   day2-3 (2 of 3)   4m 22s, about 50m 00s left (12:57)"
    assert header.prices(shown) == "$1.23 of $90.00   now $1.89/h + volume $0.10/h   expected $11.90"
    over = replace(shown, state=RunState.DONE, ended=at(100))
    assert header.headline(over, at(262)) == "shipped r1   succeeded   1m 40s"
    undriven = replace(shown, driven=False)
    assert "no process drives it" in header.headline(undriven, at(262))
    assert header.machine(RUNNING.machines[0], at(262), 60).endswith("ends itself 60m after this computer is gone")
