"""A plan's own code: on every machine before its first step, set up once, and nothing of it where there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.e2e.tool import PLANS, Tool

CODED = ("run", "all", "--dry-run", "--yes")


def test_code_requirements_and_setup_are_there_before_the_first_step(tool: Tool):
    """Both nodes have the code, hidden files too, its packages and what setup made of it; the volume has nothing."""
    plan = tool.home / "coded"
    shutil.copytree(PLANS / "coded", plan)
    (plan / "app" / "weights.bin").write_bytes(bytes(2_000_000))  # ignored
    done = tool.run(*CODED, cwd=plan)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "code sent to every machine: app (5 files, 175 bytes, hash " in done.stdout
    assert "packages for every machine: requirements.txt" in done.stdout
    assert "setup of every machine, before its first step: ./build.sh" in done.stdout
    said = [row[0] for row in tool.rows("select text from gpuplan_events")]
    assert len([text for text in said if "setup took" in text]) == 2
    logs = tool.run("logs", "--step", "@setup").stdout
    assert logs.count("setting up in /") == 2
    assert all(d["ok"] for p in tool.status()["phases"] for d in p["deliverables"])


def test_a_setup_that_fails_is_the_phases_failure(tool: Tool):
    """Nothing of the plan runs on a machine that could not be set up; its words are the run's, and exit code 3."""
    plan = tool.home / "coded"
    shutil.copytree(PLANS / "coded", plan)
    (plan / "app" / "build.sh").write_text("#!/bin/sh\necho no such compiler\nexit 9\n")
    done = tool.run(*CODED, "--json", cwd=plan)
    assert done.returncode == 3
    assert "setup ended with exit code 9" in done.stderr
    assert "no such compiler" in done.stderr
    states = {s["name"]: s["state"] for p in json.loads(done.stdout)["phases"] for s in p["steps"]}
    assert set(states.values()) <= {"PENDING", "SKIPPED"}
    assert tool.cloud.alive()["machines"] == []


def test_code_that_cannot_be_sent_rents_nothing(tool: Tool):
    """A link out of the folder is refused by name before the question."""
    plan = tool.home / "coded"
    shutil.copytree(PLANS / "coded", plan)
    (plan / "app" / "key").symlink_to(Path.home())
    done = tool.run(*CODED, cwd=plan)
    assert done.returncode == 2
    assert "key is a link that leads out of the folder" in done.stderr
    assert tool.creates() == []


def test_another_folders_code_is_not_sent(tool: Tool):
    """`code` of the folder where gpuplan is run belongs to the plan there, and to no other."""
    (tool.home / "gpuplan.yaml").write_text("code: .\nsetup: touch /tmp/never\n")
    done = tool.run("plan", "--plan", str(PLANS / "small"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["code"] == {"files": 0, "bytes": 0, "setup": ""}
