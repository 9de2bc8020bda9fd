"""`gpuplan report`: a file, Markdown, a document; of a run that goes on, and while somebody writes the ledger."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import common
from orchestrator.cli.app import main
from orchestrator.words.lifecycle import RunState
from tests.unit.report.written import Written


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(tmp_path_factory.mktemp("desk"))


@pytest.fixture
def gpuplan(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    monkeypatch.setenv("GPUPLAN_HOME", str(written.desk.home.path))
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gpuplan", *words])
        monkeypatch.setattr(common, "_printed", [])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err

    return run


def test_a_report_is_one_file_here(gpuplan: Any, tmp_path: Path):
    """Named after the run; --out names another; both are whole pages."""
    assert gpuplan("report") == (0, "gpuplan-1102-tes1.html: toy 1102-tes1, succeeded\n", "")
    code, out, _ = gpuplan("report", "1102-tes1", "--out", "mine.html", "--json")
    assert (code, json.loads(out)) == (0, {"run": "1102-tes1", "file": str(tmp_path / "mine.html")})
    for name in ("gpuplan-1102-tes1.html", "mine.html"):
        assert (tmp_path / name).read_text().startswith("<!doctype html>")
        assert (tmp_path / name).read_text().rstrip().endswith("</html>")


def test_markdown_goes_to_standard_output(gpuplan: Any, tmp_path: Path):
    """Or to --out; with --json it is in the document."""
    code, out, _ = gpuplan("report", "--md")
    assert (code, out.splitlines()[0]) == (0, "## toy `1102-tes1`: succeeded")
    assert json.loads(gpuplan("report", "--md", "--json")[1])["markdown"].startswith("## toy")
    gpuplan("report", "--md", "--out", "pr.md")
    assert (tmp_path / "pr.md").read_text().startswith("## toy")
    assert [f.name for f in tmp_path.iterdir()] == ["pr.md"]


def test_a_file_that_cannot_be_written_is_said(gpuplan: Any):
    """Exit code 2, with what to do."""
    code, _, said = gpuplan("report", "--out", "no/folder/r.html")
    assert code == 2
    assert "no/folder/r.html cannot be written: No such file or directory" in said
    assert "--out" in said


def test_what_is_not_installed_is_named(gpuplan: Any, monkeypatch: pytest.MonkeyPatch):
    """Without the extra: exit code 2 and how to get it; --md does without."""
    for name in [name for name in sys.modules if name.startswith("orchestrator.report.page")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pygal", None)
    code, _, said = gpuplan("report")
    assert code == 2
    assert "pygal" in said
    assert "pip install '.[report]'" in said
    assert gpuplan("report", "--md")[0] == 0


def test_a_held_ledger_is_read_all_the_same(gpuplan: Any, written: Written):
    """Somebody else writes: whoever only reads does not wait."""
    assert gpuplan("report", "--md")[0] == 0  # from the first command on, the file is a WAL one
    file = written.desk.home.path / "gpuplan.db"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("begin immediate")
        assert gpuplan("report", "--md")[0] == 0


def test_a_run_under_way_has_a_report(gpuplan: Any, written: Written, tmp_path: Path):
    """As of now: what costs, and that nobody drives it."""
    ledger = written.desk.bench.ledger()
    row = ledger.runs.get(id="1102-tes1")
    ledger.runs.put(type(row)(id="1131-goes", state=RunState.RUNNING, created_at=row.created_at, plan="toy"))
    spec = written.desk.bench.spec.model_copy(update={"run": "1131-goes"})
    folder = written.desk.home.run_folder("1131-goes")
    folder.mkdir()
    spec.save(folder)
    assert gpuplan("report", "1131-goes") == (0, "gpuplan-1131-goes.html: toy 1131-goes, no process drives it\n", "")
    assert "costs now" in (tmp_path / "gpuplan-1131-goes.html").read_text()
