"""With --json a command prints one document whatever happens, and its exit code is in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import app, common
from orchestrator.cli import logs as looking
from orchestrator.cli.app import main
from orchestrator.ledger.rows import RunRow
from orchestrator.words.errors import UsageError
from orchestrator.words.lifecycle import RunState
from orchestrator.world.home import Home


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in a home of its own: exit code and what was on standard output."""
    monkeypatch.setenv("GPUPLAN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["gpuplan", *words])
        monkeypatch.setattr(common, "_printed", [])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0), capsys.readouterr().out

    return run


@pytest.mark.parametrize(
    ("words", "code", "error", "remedy"),
    [
        (("status",), 2, "there is no run yet", "gpuplan run all --plan shipped --dry-run"),
        (("logs", "nope"), 2, "there is no run nope", "none"),
        (("run", "all"), 2, "there is no plan in", "--plan shipped"),
        (("run", "day9", "--plan", "shipped"), 2, "there is no phase day9", "day"),
        (("plan", "--plan", "nowhere"), 2, "there is no folder nowhere", "folder"),
        (("status", "--nope"), 2, "No such option", "--help"),
        (("run", "day1", "--network", "100mbit,50ms"), 2, "--network is a rehearsal's", "--dry-run"),
        (("run", "day1", "--clock-skew=-10m"), 2, "--clock-skew is a rehearsal's", "--dry-run"),
        (("run", "day1", "--dry-run", "--network", "fast"), 2, "--network 'fast' is no rate", "100mbit,50ms"),
        (("run", "day1", "--dry-run", "--clock-skew", "soon"), 2, "--clock-skew", ""),
        (("run", "day1", "--fault", "preempt@clone"), 2, "--fault rehearses a disaster", "--dry-run"),
    ],
)
def test_a_mistake_is_a_document(said: Any, words: tuple[str, ...], code: int, error: str, remedy: str):
    """What went wrong, what to do and the exit code; without --json standard output stays empty."""
    got, out = said(*words, "--json")
    found = json.loads(out)
    assert (got, found["exit"], sorted(found)) == (code, code, ["error", "exit", "remedy"])
    assert error in found["error"]
    assert remedy in found["remedy"]
    assert said(*words) == (code, "")


@pytest.mark.parametrize(("error", "code"), [(RuntimeError("odd"), 1), (KeyboardInterrupt(), 6)])
def test_what_nobody_expects_is_a_document(said: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int):
    """A bug, and Ctrl-C."""

    def broken() -> None:
        raise error

    monkeypatch.setattr(app, "application", lambda: lambda **_: broken())
    got, out = said("status", "--json")
    assert (got, json.loads(out)["exit"]) == (code, code)


def test_a_document_is_not_followed_by_another(said: Any, monkeypatch: pytest.MonkeyPatch):
    """A command that has said how things are, and fails then, has said it once."""

    def tells(**_: object) -> None:
        common.print_json({"run": "r"})
        raise UsageError("and yet")

    monkeypatch.setattr(app, "application", lambda: tells)
    got, out = said("status", "--json")
    assert (got, json.loads(out)) == (2, {"run": "r"})


def test_logs_of_a_step_that_is_not_there(said: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`logs --step nope` is exit code 2, with --json too."""
    home = Home(tmp_path / "home")
    home.make()
    ledger = home.open_ledger()
    ledger.runs.put(RunRow(id="1102-test", state=RunState.DONE, created_at=1.0))
    spec = type("Spec", (), {"run": "1102-test"})()
    monkeypatch.setattr(looking, "find_run", lambda *_: spec)
    for json_flag in ((), ("--json",)):
        assert said("logs", "--step", "nope", *json_flag)[0] == 2
