"""gpuplan started in a folder full of other people's Python files, as a shared temporary folder may be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.app import COMMANDS
from tests.e2e.tool import PLANS, until

GPUPLAN = str(Path(sys.executable).with_name("gpuplan"))  # as it is installed: a -c would itself look there
OURS = ["orchestrator/__init__", "orchestrator/rehearsal/__init__", "orchestrator/rehearsal/guard"]
OTHERS = [
    "sitecustomize",
    "usercustomize",
    "yaml",
    "typer",
    "httpx",
    "dbos",
    "aiohttp",
    "asyncssh",
    "moto",
    "dllama_glm",
]


class Folder:
    """The folder, which is the temporary one too, and how gpuplan is run there."""

    def __init__(self, path: Path) -> None:
        self.path, self.home = path / "shared", path / "home"
        self.marker = path / "marker"
        code = f"open({str(self.marker)!r}, 'a').write(__file__ + '\\n')\n"
        for name in [*sys.stdlib_module_names, *OTHERS, *OURS, "gpuplan_agent/__init__"]:
            file = self.path / f"{name}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(code)

    def run(self, *words: str) -> str:
        """What the command says; it must end well, and nothing of the folder may have run."""
        env = os.environ | {"GPUPLAN_HOME": str(self.home), "GPUPLAN_REHEARSAL": "", "TMPDIR": str(self.path)}
        done = subprocess.run(
            [GPUPLAN, *words], env=env, cwd=self.path, capture_output=True, text=True, timeout=120, check=False
        )
        ran = self.marker.read_text() if self.marker.exists() else ""
        assert ran == "", f"gpuplan {' '.join(words)} ran {ran}"
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Names of the standard library, of ours and of what we use; each file leaves a mark when it runs."""
    return Folder(tmp_path)


@pytest.mark.faults  # a fresh interpreter for each command
def test_no_help_text_runs_what_lies_in_the_folder(folder: Folder):
    """Every command can be asked for its help in a folder of hostile names."""
    for command in COMMANDS:
        folder.run(command.__name__.rstrip("_"), "--help")


@pytest.mark.slow
def test_no_command_runs_what_lies_in_the_folder(folder: Folder):
    """Checking, planning, a rehearsal in the foreground and one in the background, looking, ending: none runs it."""
    plan = ("--plan", str(PLANS / "small"))
    slow = ("--plan", str(PLANS / "slow"))
    folder.run("validate", *plan)
    folder.run("plan", *plan)
    folder.run("run", "one", *plan, "--dry-run", "--yes", "--cloud", "kept")
    folder.run("run", "all", *slow, "--dry-run", "--yes", "--detach")
    folder.run("status")
    folder.run("cost")
    folder.run("down")
    until(lambda: not list(folder.home.glob("runs/*/rehearsal/users/*")))
