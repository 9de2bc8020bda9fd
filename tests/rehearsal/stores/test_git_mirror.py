"""The stand-in for the upstream repository against the real git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from orchestrator.rehearsal import git_mirror
from orchestrator.words import files

COMMIT = "cd83070fba03cda75e6016829ba9b1621b12573f"  # that plans pin; the branch has gone on since


def clone(bare: Path, to: Path) -> str:
    """Clone the upstream address as the plan does; return the commit."""
    env = {"PATH": os.environ["PATH"], "HOME": str(to.parent), **git_mirror.redirect(bare)}
    command = ["git", "clone", "-q", "https://github.com/b4rtaz/distributed-llama.git", str(to)]
    subprocess.run(command, env=env, check=True, timeout=30)
    return subprocess.check_output(["git", "-C", str(to), "rev-parse", "HEAD"], text=True, env=env).strip()


def test_the_plans_clone_works_offline(tmp_path: Path):
    """`git clone` of the real address gives the stand-in, which says that it is one, with a clean tree."""
    bare = git_mirror.make(tmp_path / "git")
    clone(bare, tmp_path / "clone")
    assert "not Distributed Llama" in (tmp_path / "clone/README.md").read_text()
    assert (tmp_path / "clone/converter").is_dir()
    status = subprocess.check_output(["git", "-C", str(tmp_path / "clone"), "status", "--porcelain"], text=True)
    assert status == ""


def test_the_plans_own_command_checks_out_its_commit(tmp_path: Path):
    """The step `clone` of day 1 ends at the commit that it names, which is not the branch's newest; again, too."""
    day1 = yaml.safe_load((files.phases() / "day1.yaml").read_text())
    (command,) = [step["run"] for step in day1["steps"] if step["name"] == "clone"]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **git_mirror.redirect(git_mirror.make(tmp_path / "git"))}
    for _ in range(2):
        subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=tmp_path, env=env, check=True, timeout=30)
        assert (tmp_path / "distributed-llama/.git/HEAD").read_text() == f"{COMMIT}\n"
    assert clone(tmp_path / "git" / "distributed-llama.git", tmp_path / "newest") != COMMIT


@pytest.mark.parametrize("name", ["one", "with a space and an ü"])
def test_the_commit_is_the_same_everywhere(tmp_path: Path, name: str):
    """Made in any folder, again or anew, and whatever the user's git configuration, the commit id is one."""
    commits = {
        clone(git_mirror.make(tmp_path / folder), tmp_path / f"clone-{i}") for i, folder in enumerate((name, name, "x"))
    }
    assert len(commits) == 1
