"""`gpuplan plan`: a line a step, and a plan that is frozen as it was shown."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import common, frozen, running
from orchestrator.cli.app import main
from orchestrator.cli.standing import Standing, changed, standing
from orchestrator.config import load_plan
from orchestrator.report import rendering
from orchestrator.testing.machine import Script
from orchestrator.transport.code_folder import CodeFile
from orchestrator.words.errors import UsageError
from orchestrator.words.model import Step
from tests.unit.cli.desk import Desk

PLAN = """
one:
  title: Make and use
  machine: {gpu: [RTX-4090]}
  volume: {name: data, size_gb: 10}
  steps:
    - {name: make, run: make, creates: [one.txt], expect: 1800}
    - {name: use, run: use, needs: [make], expect: 1800}
    - {name: last, run: last, needs: [use], expect: 60}
"""


def test_each_step_runs_is_done_or_has_changed(tmp_path: Path):
    """What the volume's records hold is done; a step that is another one says what about it; the rest runs."""
    made = Desk(tmp_path, PLAN, scripts={"make": Script(creates={"one.txt": "1"}), "last": Script(exit=1)})
    made.run("one")
    ledger, plan = made.bench.ledger(), made.bench.spec.plan
    marks = {name: one.mark for name, one in standing(made.home, ledger, plan, []).items()}
    assert marks == {"one/make": "=", "one/use": "=", "one/last": "+"}
    made.write(PLAN.replace("run: use,", "run: use --more,"))
    plan = load_plan(tmp_path / "plan", environ={})
    found = standing(made.home, ledger, plan, [])
    assert {name: str(one) for name, one in found.items()} == {
        "one/make": "done", "one/use": "changed: command", "one/last": "run",
    }  # fmt: skip
    assert found["one/make"].measured_s is not None
    out = io.StringIO()
    rendering.show(rendering.steps(made.propose("one").preview, found), out=out, width=60)
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert lines[2] == "one Make and use"
    assert lines[3].startswith("= make 30m 00s ")
    assert lines[4].startswith("~ use changed: command 30m 00s ")
    assert lines[5] == "+ last 1m 00s -"
    assert lines[6] == "steps: 1 to run, 1 changed, 1 done"


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ({}, ""),
        ({"run": "b"}, "command"),
        ({"env": {"A": "1"}, "creates": ("x",)}, "variables, what it creates"),
        ({"timeout": 5.0, "retries": 3, "expect": 1.0}, ""),
    ],
)
def test_what_has_changed_is_what_its_result_depends_on(update: dict[str, Any], said: str):
    """Its command, folder, variables and outputs, not how long it may take."""
    assert changed(Step(name="a", run="a"), Step(name="a", run="a").model_copy(update=update)) == said


def test_a_plan_is_done_as_it_was_frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`run FILE` takes plan, phases and provider from it, though the files have changed since; --spot is refused."""
    made = Desk(tmp_path, PLAN)
    plan, file = made.bench.spec.plan, tmp_path / "shown.json"
    frozen.write(file, frozen.Frozen(plan=plan, asked=("one",), provider="runpod"))
    made.write(PLAN.replace("run: use,", "run: other,"))
    begun: list[Any] = []
    monkeypatch.setenv("GPUPLAN_HOME", str(tmp_path / "own"))
    monkeypatch.setattr(running, "begin", lambda _home, _ledger, spec, _how: begun.append(spec))
    monkeypatch.setattr(common, "_printed", [])
    for flags, code in (((), 0), (("--spot",), 2)):
        monkeypatch.setattr(sys, "argv", ["gpuplan", "run", str(file), "--yes", *flags])
        with pytest.raises(SystemExit) as caught:
            main()
        assert int(caught.value.code or 0) == code
    (spec,) = begun
    assert (spec.plan, spec.asked, spec.world.provider) == (plan, ("one",), "runpod")


def test_code_that_has_changed_since_is_refused(tmp_path: Path):
    """The files are named; what is as it was is not refused; neither a foreign nor a damaged file is taken."""
    code = [CodeFile(name, tmp_path / name, 1) for name in ("a.py", "b.py")]
    for entry in code:
        entry.file.write_text("1")
    plan = Desk(tmp_path / "desk", PLAN).bench.spec.plan
    kept = frozen.Frozen(plan=plan, asked=("one",), code=frozen.hashes(code))
    frozen.require_same_code(kept, code)
    code[1].file.write_text("2")
    with pytest.raises(UsageError, match=r"changed since the plan was shown: b\.py"):
        frozen.require_same_code(kept, code)
    (tmp_path / "x.json").write_text(json.dumps({"plan": 1}))
    with pytest.raises(UsageError, match="no plan that this version"):
        frozen.read(tmp_path / "x.json")
    with pytest.raises(UsageError, match="ends in"):
        frozen.write(tmp_path / "x.yaml", kept)


def test_a_standing_says_itself():
    """The words of each mark."""
    assert [str(Standing(mark, "command")) for mark in "+=~"] == ["run", "done", "changed: command"]
