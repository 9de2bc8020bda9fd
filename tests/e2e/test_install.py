"""What is built and how it is installed: sdist and wheel, pipx, uv, and pip on every Python that is here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import smoke

from tests.e2e.tool import PROJECT

pytestmark = [  # each installs a whole environment, of the core only
    pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("install")
]  # fmt: skip
PYTHONS = smoke.interpreters([])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(words, cwd=PROJECT, check=True, timeout=120)
    (file,) = folder.glob("*.whl")
    return file


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def test_the_core_works_from_pipx(wheel: Path, tmp_path: Path):
    """`pipx install WHEEL` gives a command that plans, and that names the extra which a rehearsal needs."""
    env = os.environ | {f"PIPX_{name}": str(tmp_path / name) for name in ("HOME", "BIN_DIR", "MAN_DIR")}
    words = [_found("pipx"), "install", "--python", sys.executable, str(wheel)]
    subprocess.run(words, env=env, check=True, timeout=800, stdin=subprocess.DEVNULL)
    smoke.smoke(tmp_path / "BIN_DIR" / "gpuplan", tmp_path / "empty", smoke.version_of(wheel))


def test_the_core_works_from_uv(wheel: Path, tmp_path: Path):
    """`uv tool install WHEEL` gives the same, from the index that pip is told to use."""
    env = os.environ | {f"UV_{name}": str(tmp_path / name) for name in ("TOOL_DIR", "TOOL_BIN_DIR", "CACHE_DIR")}
    env |= {"UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "UV_NO_CONFIG": "1"}
    pip = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    asked = subprocess.run(pip, capture_output=True, text=True, check=False, timeout=60)
    if index := os.environ.get("PIP_INDEX_URL") or asked.stdout.strip():
        env["UV_DEFAULT_INDEX"] = index
    words = [_found("uv"), "tool", "install", str(wheel)]
    subprocess.run(words, env=env, check=True, timeout=800, stdin=subprocess.DEVNULL)
    smoke.smoke(tmp_path / "TOOL_BIN_DIR" / "gpuplan", tmp_path / "empty", smoke.version_of(wheel))


@pytest.mark.parametrize("python", PYTHONS, ids=lambda one: one.version)
def test_the_core_works_on_every_python(python: smoke.Interpreter, wheel: Path, tmp_path: Path):
    """Installed by pip on each Python from 3.11 that is found here."""
    program = smoke.with_pip(wheel, python, tmp_path / "venv")
    smoke.smoke(program, tmp_path / "empty", smoke.version_of(wheel))


def test_what_is_built_is_what_git_has(tmp_path: Path):
    """The sdist has git's files and no other, the wheel of it is that of the tree, and twine finds nothing to say."""
    words = [sys.executable, str(PROJECT / "tools" / "dist.py"), "--out", str(tmp_path), "--twine", _found("twine")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".gz", ".whl"]
