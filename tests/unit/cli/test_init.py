"""An empty folder, a plan of one's own, and what it would take: `gpuplan init`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.starting import write
from orchestrator.config import load_plan
from orchestrator.plan.resolve import all_steps, ordered
from orchestrator.words.errors import UsageError
from tests.unit.cli.desk import Desk


def test_an_empty_folder_becomes_a_plan_that_can_be_run(tmp_path: Path):
    """It is valid, its schema lines lead to the schemas, and the preview of a run of all of it has a price."""
    desk = Desk(tmp_path, "one: {steps: [{name: a, run: a}]}")
    shutil.rmtree(tmp_path / "plan")
    (tmp_path / "plan").mkdir()
    written = write(tmp_path / "plan")
    plan = load_plan(tmp_path / "plan", environ={})
    assert [phase.name for phase in plan.phases] == ["data", "train", "report"]
    assert len(plan.phase("train").steps) == 3
    assert all(phase.volume and phase.env == {"SAMPLES": "1000"} for phase in plan.phases)
    for file in written:
        first = (tmp_path / "plan" / file).read_text().splitlines()[0]
        if file.endswith(".yaml"):
            schema = (tmp_path / "plan" / file).parent / first.partition("$schema=")[2]
            assert json.loads(schema.read_text())["properties"]
    proposal = desk.propose("data", "train", "report")
    assert not proposal.preview.over_budget
    assert proposal.preview.estimated_usd
    assert [phase.takes_over for phase in proposal.preview.phases] == [None, None, "train"]


def test_its_steps_do_what_its_deliverables_ask(tmp_path: Path):
    """Each command, run in the order of needs in one workspace, makes what it says; the figure is below its bound."""
    write(tmp_path / "plan")
    plan, workspace = load_plan(tmp_path / "plan", environ={}), tmp_path / "workspace"
    workspace.mkdir()
    figures = tmp_path / "figures"
    env = {**os.environ, "GPUPLAN_CODE": str(tmp_path / "plan" / "app"), "GPUPLAN_METRICS": str(figures)}
    env |= {"PATH": f"{Path(sys.executable).parent}:{env['PATH']}", "GPUPLAN_PROGRESS": str(tmp_path / "progress")}
    steps = all_steps(plan)
    for name in ordered(steps, steps):
        run = steps[name]
        said = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", run.step.run], cwd=workspace, env=env | run.env, check=True,
            capture_output=True, text=True,
        ).stdout  # fmt: skip
        assert all(list(workspace.glob(glob)) for glob in run.step.creates), name
        assert not name.startswith("train/") or "loss" in said
    assert json.loads(figures.read_text())["value"] < 0.1
    assert json.loads((tmp_path / "progress").read_text())["unit"] == "rounds"


def test_init_overwrites_nothing(tmp_path: Path):
    """A second one is refused with the file that is there, and so is one over somebody's own settings."""
    write(tmp_path / "new")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "gpuplan.yaml").write_text("budget_usd: 1\n")
    (tmp_path / "mine" / ".gitignore").write_text("x\n")
    for folder in ("new", "mine"):
        with pytest.raises(UsageError, match=r"gpuplan\.yaml is there already"):
            write(tmp_path / folder)
    assert (tmp_path / "mine" / "gpuplan.yaml").read_text() == "budget_usd: 1\n"
