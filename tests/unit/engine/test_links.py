"""Symbolic links: one to a file of the workspace is that file, one that leads out is refused by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.engine import artifacts
from orchestrator.transport.refusals import AgentFailed
from orchestrator.words.lifecycle import StepState
from orchestrator.words.model import Step
from tests.unit.engine.stepbench import Bench


def test_a_step_may_create_a_link_to_a_file_of_the_workspace(tmp_path: Path):
    """`creates: out/latest.m` is there, and recorded with what it leads to; among the artifacts it is a file."""
    make = "mkdir -p out && echo model > out/step1.m && ln -sf step1.m out/latest.m"
    bench = Bench(tmp_path, Step(name="make", run=make, creates=("out/latest.m",)))
    assert bench.run("make").state == StepState.DONE
    found = artifacts.manifest(bench.agent, str(bench.workspace), ("out/latest.m",))
    assert [(file.name, file.bytes) for file in found] == [("out/latest.m", 6)]


def test_a_link_that_leads_out_is_refused_by_its_name(tmp_path: Path):
    """The step that made it has failed with that word, and no manifest leaves it out in silence."""
    (tmp_path / "elsewhere").write_text("x")
    make = f"mkdir -p out && echo a > out/a && ln -sf {tmp_path}/elsewhere out/b"
    bench = Bench(tmp_path, Step(name="make", run=make, creates=("out/*",)))
    assert bench.run("make").state == StepState.FAILED
    assert "out/b: a link that leads out of the workspace" in bench.row("make").detail
    with pytest.raises(AgentFailed, match="out/b: a link that leads out"):
        artifacts.manifest(bench.agent, str(bench.workspace), ("out/*",))
