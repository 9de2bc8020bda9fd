"""The workflow that users copy, as a runner would run it: its own lines in bash, on the plan of `gpuplan init`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.tool import PROJECT

EXAMPLE = PROJECT / "docs" / "examples" / "rehearse.yml"


@pytest.mark.faults  # a whole rehearsal, of which make test has enough
@pytest.mark.slow
def test_the_example_rehearses_the_plan_of_init(tmp_path: Path):
    """All but the installation: every step succeeds, and what it keeps as artifacts is there and says so."""
    (job,) = yaml.safe_load(EXAMPLE.read_text())["jobs"].values()
    folder, summary = tmp_path / "repository", tmp_path / "summary.md"
    folder.mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("GPUPLAN", "PYTHON"))}
    env |= job["env"] | {"GPUPLAN_HOME": str(tmp_path / "home"), "GITHUB_STEP_SUMMARY": str(summary)}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"

    def bash(text: str) -> None:
        words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text]  # as a runner starts it
        done = subprocess.run(
            words,
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=250,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-1500:]}{done.stderr[-1500:]}"

    bash("gpuplan init")
    steps: list[dict[str, Any]] = job["steps"]
    ran = [step["name"] for step in steps if "run" in step and "pip install" not in step["run"]]
    for step in steps:
        if step.get("name") in ran:
            bash(step["run"])
    assert ran == ["Look for mistakes", "Rehearse", "Tell"]
    kept = [folder / name for name in steps[-1]["with"]["path"].split()]
    assert all(file.stat().st_size for file in kept)
    assert json.loads(kept[0].read_text())["state"] == "DONE"
    assert "| " in summary.read_text()
