"""Liars in real rehearsals of the shipped plan: three in one run in `make test`, each alone in `make liars`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import forked
from tests.e2e.tool import PROJECT, Tool
from tests.liars.judged import AT_ONCE, REHEARSED, Liar, uncaught

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("liars")]
PROGRAM = """
from pathlib import Path
from orchestrator.words import files
files.PACKAGE = Path({tree!r}) / "orchestrator"
from orchestrator.cli import main
main()
"""
Answers = dict[tuple[str, str], Any]


def _cases() -> list[Any]:
    alone = [pytest.param(one, id=one.name, marks=pytest.mark.liars) for one in REHEARSED]
    return [pytest.param(AT_ONCE, id=AT_ONCE.name), *alone]


def _answers(place: Path, asked: tuple[str, ...], liar: Liar | None) -> Answers:
    """What a rehearsal of these phases, with the liar's files in place of the shipped ones, answers."""
    tree = place / "tree"
    for part in ("phases", "configs", "remote", "texts"):
        shutil.copytree(PROJECT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(PROJECT / "gpuplan.yaml", tree / "gpuplan.yaml")
    (tree / "tests").mkdir()
    (tree / "tests" / "models").symlink_to(PROJECT / "tests" / "models")
    for change in liar.changes if liar else ():
        file = tree / change["file"]
        text = file.read_text()
        assert text.count(change["old"]) == 1, f"{change['old']!r} is not there, or more than once: {file}"
        file.write_text(text.replace(change["old"], change["new"]))
    cloud = forked.cloud(place / "cloud")
    (place / "home").mkdir()
    try:
        tool = Tool(place / "home", cloud)
        words = ["run", *asked, "--dry-run", "--yes", "--json", "--store", f"file://{place / 'store'}"]
        done = tool.run(*words, timeout=500, program=PROGRAM.format(tree=str(tree)))
    finally:
        cloud.stop()
    assert (done.returncode == 0) == (liar is None), done.stdout[-2000:] + done.stderr[-2000:]
    return {(p["phase"], d["name"]): d["ok"] for p in json.loads(done.stdout)["phases"] for d in p["deliverables"]}


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The answers that the honest payload gets in a rehearsal of these phases."""
    kept: dict[tuple[str, ...], Answers] = {}

    def run(asked: tuple[str, ...]) -> Answers:
        if asked not in kept:
            kept[asked] = _answers(tmp_path_factory.mktemp("honest"), asked, None)
        return kept[asked]

    return run


@pytest.mark.parametrize("liar", _cases())
def test_a_liar_is_caught_in_a_rehearsal(honest: Any, tmp_path: Path, liar: Liar):
    """What the honest payload gets in the same kind of run, the liar does not; and the liar's run is exit 3."""
    asked = tuple(dict.fromkeys(("day1", *liar.run)))  # the first phase's machine settles where all of them are
    assert uncaught(liar, honest(asked), _answers(tmp_path, asked, liar)) == []
