"""A home, a volume and a cloud that commit e31c1e2 (version 0.1.0) left: one run ended, one was killed."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
from pathlib import Path

import pytest

from orchestrator.rehearsal import git_mirror
from tests.e2e.tool import PROJECT, gpuplan

ARCHIVE = PROJECT / "tests" / "old" / "e31c1e2.tar.xz"
THERE = "/tmp/gpuplan-e31c1e2"  # where it was made
PENDING, ENDED = "1128-kud6", "1128-try9"
COSTLY = ("day1/download-glm", "day1/download-intellect3", "day2-3/convert-glm", "day2-3/convert-glm-tokenizer")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder with `home` and `cloud`, as if they had been made here."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    here = tmp_path / "e31c1e2"
    for name, model in json.loads((here / "same-as-models.json").read_text()).items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / "tests" / "models" / model, here / name)
    (head,) = here.glob("cloud/cloud/volumes/*/distributed-llama")  # an archive holds no repository of another project
    mirror = git_mirror.make(tmp_path / "mirror")
    git = ["git", "-C", str(tmp_path / "clone")]
    subprocess.run(["git", "clone", "-q", str(mirror), git[-1]], check=True, timeout=30)
    subprocess.run([*git, "reset", "-q", "--hard", git_mirror.PINNED], check=True, timeout=30)  # HEAD: the branch
    (tmp_path / "clone" / ".git").rename(head / ".git")
    for file in [*here.glob("home/runs/*/run.json"), here / "cloud" / "cloud" / "clouds.json"]:
        file.write_text(file.read_text().replace(THERE, str(here)))
    with sqlite3.connect(here / "home" / "gpuplan.db") as ledger:
        ledger.execute("update gpuplan_volumes set cloud = replace(cloud, ?, ?)", (THERE, str(here)))
    return here


def _gpuplan(old: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return gpuplan(*words, env=os.environ | {"GPUPLAN_HOME": str(old / "home")}, cwd=old, timeout=280)


def test_a_pending_run_of_another_version_can_only_be_taken_down(old: Path):
    """`resume` refuses and says how to end it; `down` ends its machine; the ended run can still be looked at."""
    refused = _gpuplan(old, "resume", PENDING, "--yes")
    assert refused.returncode == 7, refused.stdout + refused.stderr
    assert f"gpuplan down {PENDING}" in refused.stderr
    assert "Traceback" not in refused.stderr
    down = _gpuplan(old, "down", PENDING, "--json")
    assert down.returncode == 0, down.stderr
    clouds = json.loads((old / "cloud" / "cloud" / "clouds.json").read_text())
    assert {pod["status"] for pod in clouds["pods"].values()} == {"TERMINATED"}
    status = json.loads(_gpuplan(old, "status", ENDED, "--json").stdout)
    assert (status["state"], status["outcome"]) == ("DONE", "succeeded")
    assert [m["state"] for m in json.loads(_gpuplan(old, "status", PENDING, "--json").stdout)["machines"]] == [
        "DESTROYED"
    ]


@pytest.mark.slow
def test_no_download_and_no_conversion_is_repeated_after_the_upgrade(old: Path):
    """What the volume holds since then counts: the steps that take hours and dollars are up to date."""
    assert _gpuplan(old, "down", PENDING).returncode == 0
    done = _gpuplan(
        old, "run", "day1", "day2-3", "--dry-run", "--cloud", str(old / "cloud"), "--check", "--yes", "--json"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    states = {s["name"]: s["state"] for p in json.loads(done.stdout)["phases"] for s in p["steps"]}
    assert {name: states.get(name) or states.get(name.partition("/")[2]) for name in COSTLY} == dict.fromkeys(
        COSTLY, "UP_TO_DATE"
    )
