"""What is not there where gpuplan is started: an extra's packages, a system that it runs on."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name

from orchestrator.rehearsal.needs import MODULES

PROJECT = Path(__file__).resolve().parents[3]
MAIN = "from orchestrator.cli import main; main()"


def _started(without: tuple[str, ...], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run gpuplan in an interpreter that does not have these modules."""
    hide = f"import sys; sys.modules |= dict.fromkeys({without!r}); sys.path.insert(0, {str(PROJECT)!r}); {MAIN}"
    return subprocess.run(
        [sys.executable, "-c", hide, *words], capture_output=True, text=True, check=False, timeout=120, cwd=folder,
        env={"GPUPLAN_HOME": str(folder / "home"), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip


def test_a_rehearsal_without_its_extra_names_the_extra(tmp_path: Path):
    """Exit code 2, each package that is not there, and how to get them; no folder of a run is begun."""
    done = _started(("moto", "jsonschema"), tmp_path, "run", "all", "--plan", "shipped", "--dry-run", "--yes")
    assert done.returncode == 2
    assert "gpuplan: a rehearsal runs emulated clouds on this computer, and jsonschema, moto is not" in done.stderr
    assert "pipx install --force '.[rehearsal]'" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert not list(tmp_path.glob("home/runs/*"))


def test_what_is_looked_for_is_what_the_emulators_import():
    """Each package of the extra that a file of orchestrator/rehearsal imports is looked for, and no other."""
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    extra = {canonicalize_name(re.split(r"[\[>=<;]", line)[0].strip()) for line in extras["rehearsal"]}
    files = [f for f in (PROJECT / "orchestrator" / "rehearsal").rglob("*.py") if "standins" not in f.parts]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    names = {alias.name.partition(".")[0] for n in nodes if isinstance(n, ast.Import) for alias in n.names}
    names |= {str(n.module).partition(".")[0] for n in nodes if isinstance(n, ast.ImportFrom) and not n.level}
    owners = metadata.packages_distributions()
    used = {n for n in names if {canonicalize_name(owner) for owner in owners.get(n, [])} & extra}
    asked_by_moto = {"flask", "flask_cors"}  # moto's server, without its own extra that lists them
    assert set(MODULES) == used | asked_by_moto


def test_a_system_without_file_locks_is_named(tmp_path: Path):
    """Windows' Python has no fcntl: exit code 2 and the way out, no traceback."""
    done = _started(("fcntl",), tmp_path, "--version")
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs Linux, WSL or macOS" in done.stderr
    assert len(done.stderr.splitlines()) == 2
