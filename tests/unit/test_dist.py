"""What `make dist` holds sdist and wheel to, and what the smoke test holds an installed command to."""

from __future__ import annotations

import io
import re
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import dist
import pytest
import smoke

PROJECT = Path(__file__).resolve().parents[2]


def _sdist(folder: Path, *names: str) -> Path:
    file = folder / "gpuplan-1.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"gpuplan-1/{name}"), io.BytesIO())
    return file


def _wheel(folder: Path, name: str, files: dict[str, str]) -> dict[str, int]:
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return dist.in_wheel(folder / name)


def test_an_sdist_is_what_git_has(tmp_path: Path):
    """A file that git does not know, one that is missing, and a cache are each named; PKG-INFO is the builder's."""
    names = dist.in_sdist(_sdist(tmp_path, "a.py", "PKG-INFO", "notes.txt", "a/__pycache__/a.pyc"))
    wrong = dist.wrong_with_sdist(names, {"a.py", "b.py", "a/__pycache__/a.pyc"})
    assert wrong == [
        "notes.txt: git does not have it", "b.py: missing in the sdist", "a/__pycache__/a.pyc: made, not written"
    ]  # fmt: skip
    assert dist.wrong_with_sdist({"a.py", "PKG-INFO"}, {"a.py"}) == []


@pytest.mark.parametrize(
    "name", [".demo/x", "a/.venv/b", "dist/x.whl", "build/x", "x.egg-info/PKG-INFO", ".mypy_cache/x"]
)
def test_what_is_made_is_known(name: str):
    """Caches, environments, rehearsals and what was built before have no place in either file."""
    assert dist.wrong_with_sdist({name}, {name}) == [f"{name}: made, not written"]


def test_two_wheels_are_the_same(tmp_path: Path):
    """A file in one of them only, and one with other bytes, are named."""
    one = _wheel(tmp_path, "one", {"a.py": "1", "b.py": "2", "c.py": "3"})
    other = _wheel(tmp_path, "other", {"a.py": "1", "b.py": "other", "d.py": "4"})
    assert dist.wrong_with_wheels(one, one) == []
    assert dist.wrong_with_wheels(one, other) == [
        "c.py: in one of both wheels only", "d.py: in one of both wheels only", "b.py: not the same in both wheels"
    ]  # fmt: skip


def test_what_has_grown_is_refused():
    """Each has a size that it may not pass."""
    assert dist.too_large("wheel", 7_800_000) == []
    assert dist.too_large("wheel", 70_000_000) == ["the wheel has 70.0 MB, more than 10"]


def _command(folder: Path, text: str) -> Path:
    """Make a program that answers every command with this Python text."""
    file = folder / "gpuplan"
    file.write_text(f"#!{sys.executable}\nimport sys\nwords = ' '.join(sys.argv[1:])\n{text}\n")
    file.chmod(0o755)
    return file


ANSWERS = """
said = {"--version": (0, "gpuplan 9.9")} | {" ".join(words): (code, text) for words, code, text in STEPS}
code, text = said[words]
print(text)
sys.exit(code)
"""


def test_the_smoke_test_passes_what_answers_well(tmp_path: Path):
    """Every step's code and words."""
    smoke.smoke(_command(tmp_path, f"STEPS = {smoke.STEPS!r}{ANSWERS}"), tmp_path / "empty", "9.9")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ('said["--version"] = (0, "gpuplan 9.8")', "--version"),
        ('said["validate"] = (1, said["validate"][1])', "validate ended with 1, not 0"),
        ('said["run all --dry-run --yes"] = (2, "no")', "run all"),
        ('said["ls"] = (0, "Traceback\\n" + said["ls"][1])', "Traceback"),
    ],
)
def test_the_smoke_test_fails_what_does_not(tmp_path: Path, change: str, why: str):
    """Another version, another exit code, other words, a traceback."""
    answers = ANSWERS.replace("code, text = said[words]", f"{change}\ncode, text = said[words]")
    with pytest.raises(smoke.SmokeError, match=re.escape(why)):
        smoke.smoke(_command(tmp_path, f"STEPS = {smoke.STEPS!r}{answers}"), tmp_path / "empty", "9.9")


def test_the_pythons_found_are_those_that_gpuplan_is_for():
    """The running one is among them, one of each minor version, and none that pyproject.toml refuses."""
    found = [one.version.rpartition(".")[0] for one in smoke.interpreters([])]
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in found
    assert len(found) == len(set(found))
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">=3.{smoke.OLDEST}"


def test_a_program_that_is_no_python_is_named():
    """What --python names is there and runs, or the tool ends."""
    with pytest.raises(smoke.SmokeError, match="/nowhere/python3 is no Python that runs"):
        smoke.interpreters(["/nowhere/python3"])
