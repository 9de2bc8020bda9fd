"""The stand-in for the upstream repository against the real git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.rehearsal import git_mirror


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


@pytest.mark.parametrize("name", ["one", "with a space and an ü"])
def test_the_commit_is_the_same_everywhere(tmp_path: Path, name: str):
    """Made in any folder, again or anew, and whatever the user's git configuration, the commit id is one."""
    commits = {
        clone(git_mirror.make(tmp_path / folder), tmp_path / f"clone-{i}") for i, folder in enumerate((name, name, "x"))
    }
    assert commits == {"cd83070fba03cda75e6016829ba9b1621b12573f"}
