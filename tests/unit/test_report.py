"""Tables and words of a run that is planned or has ended."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from rich.cells import cell_len

from orchestrator import cost
from orchestrator.plan import PhasePreview, Preview, StepPreview
from orchestrator.plan.costing import CrewCost
from orchestrator.plan.notes import Expectation, Remark
from orchestrator.plan.outlook import Ways
from orchestrator.report import figures, listing, pages, rendering
from orchestrator.report.listing import Listed
from orchestrator.report.verdicts import Verdict
from orchestrator.words.model import Plan, Settings
from orchestrator.words.provider import Offer

ROOT = Path(__file__).parents[2]
T0 = datetime(2026, 11, 25, 12, 3, 4, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def _printed(*parts: object, width: int) -> str:
    out = io.StringIO()
    rendering.show(*parts, out=out, width=width)  # type: ignore[arg-type] # renderables are a union that tests need not name
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
    text = _printed(rendering.costs(_report(), {"day2-3": Decimal("30.24")}, rehearsed=True, steps=True), width=width)
    row = next(line for line in text.splitlines() if line.strip().startswith("day2-3"))
    assert row.split() == ["day2-3", "12s", "$0.00630", "16.0h", "$30.00", "$30.24"]
    total = next(line for line in text.splitlines() if line.strip().startswith("total"))
    assert total.split() == ["total", "12s", "$0.00737", "26.0h", "$40.00", "$30.24"]
    assert "nothing was paid" in text.replace("\n", " ")
    assert "…" not in text


def test_cost_table_of_a_real_run_says_whether_it_is_settled() -> None:
    """A real run's table does not speak of a rehearsal, and a bill that can change says so."""
    text = _printed(rendering.costs(_report(settled=False), {}, rehearsed=False), width=80)
    assert "not settled" in text
    settled = _printed(rendering.costs(_report(), {}, rehearsed=False), width=80)
    assert "settled: the provider has billed the machines" in settled  # a volume that is kept goes on costing
    assert "rehears" not in text


def test_where_nothing_was_paid_no_bill_can_change() -> None:
    """A run on a machine of one's own says nothing of a bill, at its end and when it is asked."""
    free = cost.report("r1", [], [], [], now=at(60), planned={"a": None}, settled=False)
    for said in (rendering.costs(free, {}, rehearsed=False), rendering.ending(free, {}, [], (), rehearsed=False)):
        assert "settled" not in _printed(said, width=80)
    paid = rendering.ending(_report(settled=False), {}, [], (), rehearsed=False)
    assert "not settled: the bill may still change" in _printed(paid, width=80)


def test_a_phase_without_a_plan_has_no_planned_figures() -> None:
    """Where the user's files say nothing of hours and dollars, the columns say nothing either, the sum included."""
    silent = [replace(p, planned_hours=None, planned_usd=None) for p in _report().phases]
    text = _printed(rendering.costs(replace(_report(), phases=tuple(silent)), {}, rehearsed=False), width=80)
    total = next(line for line in text.splitlines() if line.strip().startswith("total"))
    assert total.split() == ["total", "12s", "$0.00737", "-", "-", "-"]
    preview = replace(_preview(), phases=tuple(replace(p, planned=None) for p in _preview().phases))
    figures = next(li for li in _printed(rendering.preview(preview), width=119).splitlines() if li.startswith("total"))
    assert figures.split()[-2:] == ["-", "-"]


def test_the_cheapest_way_has_a_line_where_it_is_another() -> None:
    """Where the run takes it already, its figures are those of the table."""
    near, own = (_preview().estimated_hours, _preview().estimated_usd), (Decimal(9), Decimal(99))
    for cheapest, told in ((near, False), ((Decimal(1), Decimal("0.5")), True)):
        preview = replace(_preview(), ways=Ways(own, cheapest, near, own))
        assert ("the cheapest way: " in _printed(rendering.preview(preview), width=119)) is told


def test_a_phase_that_needs_no_gpu_names_none() -> None:
    """Where all of its steps are done on the CPU machine, no GPU is spoken of."""
    phase = replace(_preview().phases[0], staged=True, up_to_date=False, takes_over=None)
    crew = CrewCost("staging", 1, None, Decimal(1), None)
    both = (crew, replace(crew, crew="main"))
    for crews, said in (((crew,), False), (both, True)):
        shown = _printed(rendering.preview(Preview((replace(phase, crews=crews),), Decimal(0), None)), width=119)
        assert ("CPU machine, then 2x A100" in shown, "CPU machine, runpod" in shown) == (said, not said)


@pytest.mark.parametrize(
    ("every", "gpu", "line"),
    [
        (("r.txt",), ("g.txt",), "packages for every machine: r.txt; for those with a GPU: g.txt"),
        ((), ("g.txt",), "packages for those with a GPU: g.txt"),
        (("r.txt",), (), "packages for every machine: r.txt"),
        ((), (), None),
    ],
)
def test_packages_have_one_line(every: tuple[str, ...], gpu: tuple[str, ...], line: str | None) -> None:
    """Those for every machine, and those for machines with a GPU beside them."""
    plan = Plan(name="p", phases=(), settings=Settings(requirements=every, requirements_gpu=gpu))
    assert [said for said in pages._sent(plan, ()) if said.startswith("packages")] == ([line] if line else [])


def test_the_end_counts_deliverables_a_phase() -> None:
    """Those that hold are a number beside what the phase took and cost; other phases' are in the sum alone."""
    rows = [
        Verdict("day1", "clone", True),
        Verdict("day2-3", "GLM converted", False, "missing"),
        Verdict("day2-3", "tokens", None),
        Verdict("day8", "never", None, answered=False),
    ]
    text = _printed(rendering.ending(_report(), {}, rows, ("day1", "day2-3"), rehearsed=True), width=140)
    row = next(line for line in text.splitlines() if line.strip().startswith("day2-3"))
    assert row.split(maxsplit=6)[:4] == ["day2-3", "12s", "$0.00630", "16.0h"]
    assert row.strip().endswith("0 hold, 1 does not hold, 1 needs a real GPU")
    total = next(line for line in text.splitlines() if line.strip().startswith("total"))
    assert total.strip().endswith("1 holds, 1 does not hold, 1 needs a real GPU, 1 was not asked")
    assert "rehearsed: nothing was paid" in text
    assert len(text.splitlines()) <= 10
    narrow = _printed(rendering.ending(_report(), {}, rows, ("day1", "day2-3"), rehearsed=True), width=60).splitlines()
    assert "day2-3: 0 hold, 1 does not hold, 1 needs a real GPU" in narrow, "below the figures, in a line"
    assert next(line for line in narrow if line.startswith("day2-3 ")).split()[:4] == row.split()[:4]


def test_names_are_never_taken_as_markup() -> None:
    """A plain text and a phase's name with brackets or colons are printed as they are."""
    row = Verdict("[red]d1", ":warning:", True)
    named = replace(_report(), run="[red]r")
    text = _printed("run [bold]r1[/bold] :smile:", rendering.ending(named, {}, [row], (), rehearsed=False), width=80)
    assert "run [bold]r1[/bold] :smile:" in text
    assert "[red]r" in text


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_list_of_runs_is_whole(width: int) -> None:
    """A head and a line a run, all money whole at 60 columns, what is kept below where it must; nothing is a dash."""
    rows = [
        Listed("1128-ccjp", "toy", "no process", Decimal("0.74"), Decimal("0.02"), ("volume toy 10 GB $0.02/day",)),
        Listed("1128-jmeg", "g\x07lm", "succeeded", Decimal(0), Decimal("11.84"), (), ("nightly",)),
    ]
    found = listing.table(rows, width)
    assert max(map(len, found)) <= width
    assert found[0].split() == ["RUN", "PLAN", "STATE", "NOW", "SO", "FAR", "KEPT"]
    assert " ".join(" ".join(found[1:]).split()) == (
        "1128-ccjp toy no process $0.74/h $0.02 volume toy 10 GB $0.02/day "
        "1128-jmeg g\\x07lm succeeded - $11.84 tags: nightly"
    )
    assert len(found) == (3 if width > 60 else 5)


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
    )
    sold_out = replace(phase, phase="day6-7", offer=None, price_hour=None, estimated_usd=None)
    done = replace(
        phase, phase="day1", steps=(StepPreview("day1/clone", 5.0, pulled_in=False, done=True),), up_to_date=True
    )
    note = Remark("Size", "30 GB", "220.9 GB", "the hub")
    expected = Expectation("q40", "15 GB", "62.3 GB", None)
    return Preview((done, phase, sold_out), Decimal("0.10"), None, (note,), (expected,))


@pytest.mark.parametrize("width", [60, 80, 119])
def test_preview_shows_plan_estimate_and_measured(width: int) -> None:
    """Machines, prices and columns are whole at 60 columns; over budget and pulled-in steps are said."""
    text = _printed(rendering.preview(_preview()), width=width)
    flat = " ".join(text.split())
    assert "24.0h $69.00" in flat
    assert "1.0h $3.74" in flat
    for words_ in (
        "over budget: day4-5: estimated $3.74, budget $2.00",
        "up to date",
        "none is sold",
        "2x A100 80GB, runpod",
    ):
        assert words_ in flat
    assert "day4-5 also runs day1/clone (0.36h, $1.29; $0.99 less if their own phases run first)" in flat
    assert "…" not in text
    assert "measured" not in text, "a column that says nothing is none"
    assert any("2x A100 80GB, runpod" in line for line in text.splitlines()), "in one line"


@pytest.mark.parametrize("width", [60, 100])
def test_claims_stand_beside_what_is_so(width: int) -> None:
    """Notes and expected figures: the plan's words, the fact, and what was measured."""
    flat = " ".join(_printed(rendering.claims(_preview()), width=width).split())
    for text in ("Size", "30 GB", "220.9 GB", "q40", "15 GB", "62.3 GB"):
        assert text in flat


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.04, "0.0s"), (0.42, "0.4s"), (9.94, "9.9s"), (9.96, "10s"), (59.4, "59s"), (59.6, "1m 00s"),
     (252, "4m 12s"), (3599.7, "1h 00m"), (3780, "1h 03m"), (86400, "1d 00h"), (187200, "2d 04h")],
)  # fmt: skip
def test_durations_are_short(seconds: float, text: str) -> None:
    """Two units at most, and rounding never shows 60 of one."""
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [("0", "$0.00"), ("12.345", "$12.34"), ("0.1", "$0.10"), ("0.00471", "$0.00471"), ("-2", "-$2.00")],
)
def test_money_keeps_small_amounts_readable(usd: str, text: str) -> None:
    """Cents from ten cents up, more digits below, the sign in front."""
    assert figures.money(Decimal(usd)) == text


def test_no_price_is_a_dash() -> None:
    """None is said, not counted as nothing."""
    assert (figures.money(None), figures.hours(None)) == ("-", "-")


def test_the_console_module_loads_nothing_heavy() -> None:
    """`gpuplan --help` may import the words and the escaper: rich stays out until something is drawn."""
    program = (
        "import sys, orchestrator.report.console, orchestrator.report.snapshot, orchestrator.report.plain\n"
        "print([name for name in ('rich', 'pydantic', 'yaml', 'dbos', 'sqlalchemy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
