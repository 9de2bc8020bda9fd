"""`gpuplan validate` at the command line: all files, all mistakes, for people and for programs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.tool import gpuplan

ONE = 'name: a\nstepz: []\nsteps:\n  - {name: x, run: "true", needs: [y]}\n'
TWO = 'name: b\ntimeout: 4 hours\nsteps:\n  - {name: x, run: "true"}\n'


@pytest.fixture
def wrong(tmp_path: Path) -> list[str]:
    """Two files of two plans, with three mistakes."""
    files = []
    for name, text in (("one", ONE), ("two", TWO)):
        (tmp_path / name).mkdir()
        files.append(tmp_path / name / "phase.yaml")
        files[-1].write_text(text)
    return [str(file) for file in files]


def validate(*words: str) -> subprocess.CompletedProcess[str]:
    return gpuplan("validate", *words, env=os.environ, cwd=Path.cwd())


def test_every_file_is_read_to_its_end(wrong: list[str]):
    """Exit code 2; each mistake of each file with its place and the nearest right word; nothing on stdout."""
    done = validate(*wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"gpuplan: {wrong[0]}:2:1: unknown key stepz",
        "  did you mean steps?",
        f"{wrong[0]}:4:36: this phase has no step y",
        "  known here: x",
        f"{wrong[1]}:2:10: a duration such as 90s, 30m or 1h30m is expected, not 4 hours",
    ]


def test_a_program_gets_the_mistakes_as_one_document(wrong: list[str]):
    """With --json the mistakes are on stdout, and nothing is on stderr; a valid file gives none."""
    done = validate("--json", *wrong)
    assert (done.returncode, done.stderr) == (2, "")
    said = json.loads(done.stdout)
    assert (said["valid"], said["checked"], len(said["mistakes"])) == (False, wrong, 3)
    first = {"where": f"{wrong[0]}:2:1", "message": "unknown key stepz", "remedy": "did you mean steps?"}
    assert said["mistakes"][0] == first
    right = validate("--json")
    assert right.returncode == 0
    assert json.loads(right.stdout)["mistakes"] == []
