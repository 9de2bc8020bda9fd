"""The text of a `report` step: which figures stand in it, and what stands where there is none."""

from __future__ import annotations

from pathlib import Path

from orchestrator.engine import write_up
from orchestrator.engine.sources import Sources
from orchestrator.ledger.rows import FigureRow
from orchestrator.words.model import Step
from tests.unit.engine.stepbench import RUN, Bench

NOTHING = Sources({}, {}, {})


def page(tmp_path: Path, figures: list[tuple[str, str, float]], *, gpu: bool, sources: Sources = NOTHING) -> str:
    context = Bench(tmp_path).context
    context.provider.shows_gpu = gpu
    for step, name, value in figures:
        context.ledger.figures.put(FigureRow(run=RUN, step=step, node=0, name=name, value=value, measured_on="here"))
    made = write_up.render(context, Step(name="report", builtin="report", text="# Mine\n\n"), sources)
    assert made.figures == made.text.count("| here |")
    return made.text


def test_measured_figures_stand_in_a_table(tmp_path: Path):
    """Of a step that measures something, with the memory that was sampled beside it; no other sample, no other step."""
    figures = [
        ("only/b", "speed", 1234.5),
        ("only/b", "gpu_memory_percent", 70.0),
        ("only/b", "gpu_utilisation", 99.0),
        ("only/a", "gpu_memory_percent", 7.0),
    ]
    assert page(tmp_path, figures, gpu=True) == (
        "# Mine\n\n### Measured\n\n| step | figure | value | measured on |\n|---|---|---:|---|\n"
        "| only/b | gpu_memory_percent | 70 | here |\n| only/b | speed | 1,234 | here |\n"
    )


def test_what_a_cpu_stands_in_for_is_not_shown(tmp_path: Path):
    """Nothing of a card is, and it is said what the rest is of."""
    text = page(tmp_path, [("only/b", "speed", 1.0), ("only/b", "gpu_memory_percent", 70.0)], gpu=False)
    assert "gpu_memory_percent" not in text
    assert text.endswith("\n\nThese are figures of tiny stand-in models on a CPU, not of a GPU.\n")


def test_what_it_was_made_of_is_last(tmp_path: Path):
    """Where it is known; without any figure that is said too."""
    text = page(tmp_path, [], gpu=True, sources=Sources({"only": "img@sha256:1"}, {}, {}))
    assert text.endswith("Nothing was measured.\n\n### Made of\n\n- image of only: `img@sha256:1`\n")
