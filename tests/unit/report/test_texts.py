"""The texts that are published: a figure stands in them as far as somebody else bears it out, else "not measured"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.sources import Sources
from orchestrator.report.page.texts import Texts, texts
from orchestrator.testing.machine import Script
from orchestrator.words.spec import RunSpec
from tests.unit.report.written import HOSTILE, Written

CARD = "NVIDIA GeForce RTX 4090"
SPEED = "${train/measure:tokens_per_second}"
ON_GPU = "${train/measure:tokens_per_second@gpu}"
ON_CPU = "${train/measure:tokens_per_second@cpu}"
SEEN = {"gpus_at_work": 1.0, "gpu_memory_mib": 9000.0}


def written(folder: Path, figure: dict[str, Any], **seen: Any) -> Written:
    """A run whose step `measure` publishes that figure."""
    return Written(folder, measure=Script(output="Paris", metrics={"tokens_per_second": figure}, **seen))


def told(made: Written, *earlier: RunSpec, **spec: Any) -> Texts:
    """What texts may say of it."""
    one = made.desk.bench.spec.model_copy(update=spec)
    sources = Sources({}, {"o/r": "a" * 40}, {})
    return texts(made.desk.bench.ledger(), (one, *earlier), made.account(**spec), sources, {"base": "b" * 40})


def test_a_figure_of_a_card_that_was_seen_at_work_is_told(tmp_path: Path):
    """With where it was measured; asked for on a CPU it is not measured."""
    figure = {"value": 52.5, "measured_on": "1x RTX 4090", "device": CARD}
    said = told(written(tmp_path, figure, peaks=SEEN, cards=(CARD,)))
    assert (
        said.filled(f"{SPEED}|{ON_GPU}|{ON_CPU}")
        == f"52.5 on 1x RTX 4090 ({CARD})|52.5 on 1x RTX 4090 ({CARD})|not measured\n"
    )
    assert f"| train/measure | tokens_per_second | 52.5 | 1x RTX 4090 ({CARD}) |" in said.filled("${figures}")


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        ({"value": 52.5, "measured_on": "1x RTX 4090", "device": CARD}, "not measured|not measured|not measured\n"),
        (
            {"value": 3, "measured_on": "AMD EPYC", "device": "cpu"},
            "3 on AMD EPYC (cpu)|not measured|3 on AMD EPYC (cpu)\n",
        ),
        ({"value": 3, "measured_on": "H100", "device": "cpu"}, "3 on H100 (cpu)|not measured|3 on H100 (cpu)\n"),
        ({"value": 3, "measured_on": "H100"}, "3 on H100, as its program says|not measured|not measured\n"),
        ({"value": 3}, "3, it is not said on what|not measured|not measured\n"),
    ],
)
def test_a_figure_of_a_cpu_is_never_a_gpus(tmp_path: Path, figure: dict[str, Any], expected: str):
    """One that says that it is a card's where none was at work is nowhere; one that names no device is no GPU's."""
    said = told(written(tmp_path, figure))
    assert said.filled(f"{SPEED}|{ON_GPU}|{ON_CPU}") == expected
    if figure.get("device") == CARD:
        assert "52.5" not in said.filled("${figures}\n${benchmarks}")


def test_a_rehearsal_says_so_first_and_tells_of_no_gpu(tmp_path: Path):
    """The same run, rehearsed: no figure of a card, none that was sampled of one."""
    figure = {"value": 52.5, "measured_on": "1x RTX 4090", "device": CARD}
    made = written(tmp_path, figure, peaks=SEEN, cards=(CARD,))
    said = told(made, world=made.desk.bench.spec.world.model_copy(update={"dry_run": True}))
    page = said.filled(f"{SPEED} {ON_GPU} ${{train/measure:gpu_memory_mib}} ${{figures}} ${{benchmarks}}")
    assert page.startswith("> A rehearsal: a CPU stood in for the GPUs")
    assert "52.5" not in page
    assert "9,000" not in page
    assert page.count("not measured") == 3


def test_a_step_that_an_earlier_run_did_is_told_from_there(tmp_path: Path):
    """What was up to date was measured when it was done; what nobody did is not measured."""
    figure = {"value": 52.5, "measured_on": "1x RTX 4090", "device": CARD}
    made = written(tmp_path, figure, peaks=SEEN, cards=(CARD,))
    first = made.desk.bench.spec
    later = first.model_copy(update={"run": "1103-none"})
    sources = Sources({}, {}, {})
    ledger = made.desk.bench.ledger()
    assert texts(ledger, (later,), made.account(), sources, {}).filled(ON_GPU) == "not measured\n"
    assert (
        texts(ledger, (later, first), made.account(), sources, {}).filled(ON_GPU) == f"52.5 on 1x RTX 4090 ({CARD})\n"
    )


def test_what_a_machine_says_means_nothing_to_markdown(tmp_path: Path):
    """A hostile place of measurement is text: no tag, no mention, no link, and no cell of its own."""
    said = told(written(tmp_path, {"value": 3, "measured_on": HOSTILE}))
    page = said.filled(f"{SPEED}\n\n${{figures}}")
    for bad in ("<img", "\x1b", "@team", "\u202e"):
        assert bad not in page
    assert "\\|" in page


def test_facts_of_the_run_are_filled(tmp_path: Path):
    """Money and hours of machines, what holds, what it was made of, and what the caller says."""
    made = written(tmp_path, {"value": 3})
    page = told(made).filled("${plan} ${run} ${base} ${machine_usd} ${machine_hours} ${deliverables}\n${made_of}")
    assert page.startswith(f"toy {made.desk.bench.spec.run} {'b' * 40} $")
    assert "1 holds" in page or "hold" in page
    assert f"- o/r: `{'a' * 40}`" in page
