"""A few cells of the fault matrix; `make faults` fills all of them (tools/faults.py, docs/faults.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.rehearsal.faults import KNOWN
from orchestrator.words.errors import ExitCode
from tests.faults import cells
from tests.faults.page import render

PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
SOME = [
    ("create-reply-lost", "one phase", "reap"),
    ("preempt", "two nodes", "resume"),
    ("boot-error", "one phase", "run"),  # nothing is paid for a machine that has ended by itself
    ("delete-404", "spot", "run"),
    ("volume-reply-lost", "staged crews", "down"),
    ("gcs-cut", cells.GOOGLE, "run"),
    ("cuda-missing", "Lambda", "resume"),
]


@pytest.mark.parametrize("cell", SOME, ids="-".join)
def test_a_disaster_ends_well(cell: tuple[str, str, str], tmp_path: Path):
    """It came, and by the clouds' own books nothing is left, made twice, done twice or paid for and not known."""
    assert cells.lived(*cell, tmp_path).wrong == ()


def test_a_cell_whose_disaster_did_not_come_is_red(tmp_path: Path):
    """Lambda has no front door: the run is done, and the cell is empty for all that."""
    found = cells.lived("front-door", "Lambda", "run", tmp_path)
    assert not found.fired
    assert found.wrong[0] == "the disaster did not come: the cell is empty"


def test_a_cell_with_another_exit_code_than_the_documented_one_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A refused account is to end with 4: where 0 is documented, that is wrong."""
    monkeypatch.setattr(cells, "NO_MACHINE", ())
    found = cells.lived("create-refused-payment", "one phase", "run", tmp_path)
    assert found.exit == ExitCode.NO_MACHINE
    assert "exit code 4, not 0" in found.wrong


def test_the_page_shows_red_and_missing_cells():
    """A cell with anything wrong, and one that nobody filled, are RED; a filled one has its ways."""
    good = [
        {"fault": "preempt", "shape": "spot", "way": way, "exit": 0, "machines": 2, "wrong": []} for way in cells.WAYS
    ]
    bad = good[1] | {"shape": "reuse", "wrong": ["machine left"]}
    page = render([*good, good[0] | {"shape": "reuse"}, bad], {}, [], seed=1, seconds=60)
    (row,) = [line for line in page.splitlines() if line.startswith("| `preempt`")]
    assert "| 0, 2 rdp |" in row
    assert "| 0, 2 **RED resume****RED down****RED reap** |" in row
    assert "| **RED** |" in row


def test_the_page_has_every_disaster():
    """What the clouds can do to a run is on the page, with nothing red; the hub's are among the rehearsed ones."""
    text = PAGE.read_text()
    assert [fault for fault in KNOWN if f"| `{fault}`" not in text] == []
    assert "**RED**" not in text.partition("## Disasters and shapes")[2].replace("**RED** is what does not hold", "")
