"""tools/release.py, as it is run: on a copy of its two files, in a git repository of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
CHANGELOG = """# Changelog

## [Unreleased]

### Added

- A thing.

## [0.1.0] - 2026-11-01

- The first version.
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the project's pyproject.toml at 0.1.0, a changelog that has released it, and the tool."""
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "somebody@example.org")
    (tmp_path / "tools").mkdir()
    shutil.copy(PROJECT / "tools" / "release.py", tmp_path / "tools")
    text = (PROJECT / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(re.sub(r'^version = ".*"$', 'version = "0.1.0"', text, flags=re.MULTILINE))
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    _git(tmp_path, "init", "-q")
    _commit_all(tmp_path)
    return tmp_path


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *words], stdout=subprocess.PIPE, text=True, check=True).stdout


def _commit_all(folder: Path) -> None:
    _git(folder, "add", ".")
    _git(folder, "commit", "-q", "-m", "Begin")


def _release(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "tools" / "release.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def _refused(folder: Path, *words: str) -> str:
    """What it says on refusing, which leaves both files and the history as they were."""
    before, head = _git(folder, "status", "--porcelain"), _git(folder, "rev-parse", "HEAD")
    done = _release(folder, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert (_git(folder, "status", "--porcelain"), _git(folder, "rev-parse", "HEAD")) == (before, head)
    assert _git(folder, "tag") == ""
    return done.stderr


def test_version_and_changelog_change_together(project: Path):
    """One line of pyproject.toml is another one, what was unreleased has version and date, and the builder follows."""
    before = (project / "pyproject.toml").read_text().splitlines()
    done = _release(project, "0.2.0")
    assert done.returncode == 0, done.stderr
    after = (project / "pyproject.toml").read_text().splitlines()
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert changed == [('version = "0.1.0"', 'version = "0.2.0"')]
    heading = f"## [Unreleased]\n\n## [0.2.0] - {datetime.now(UTC):%Y-%m-%d}\n"
    assert (project / "CHANGELOG.md").read_text() == CHANGELOG.replace("## [Unreleased]\n", heading)
    words = [sys.executable, "-m", "hatchling", "version"]
    assert subprocess.check_output(words, cwd=project, text=True, timeout=60).strip() == "0.2.0"


def test_without_commit_nothing_is_committed_and_what_is_next_is_said(project: Path):
    """Both files are changed in the tree; the commands that go on are printed, a tag is not made."""
    said = _release(project, "0.2.0").stdout
    assert _git(project, "status", "--porcelain").split() == ["M", "CHANGELOG.md", "M", "pyproject.toml"]
    assert _git(project, "tag") == ""
    assert "git commit -am 'Release 0.2.0' && git tag -a v0.2.0" in said
    assert "make test dist" in said


def test_with_commit_both_files_are_one_tagged_commit(project: Path):
    """The tag names the commit that has both files, and the tree is clean."""
    done = _release(project, "0.2.0", "--commit")
    assert done.returncode == 0, done.stderr
    assert _git(project, "show", "--name-only", "--format=%s", "v0.2.0^{commit}").split("\n")[:4] == [
        "Release 0.2.0", "", "CHANGELOG.md", "pyproject.toml"
    ]  # fmt: skip
    assert _git(project, "rev-parse", "v0.2.0^{commit}") == _git(project, "rev-parse", "HEAD")
    assert _git(project, "status", "--porcelain") == ""
    assert "nothing has been pushed" in done.stdout


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("0.1.0", "not higher than 0.1.0"),
        ("0.0.9", "not higher than 0.1.0"),
        ("0.1.0rc1", "not higher than 0.1.0"),
        ("0.1.0.dev3", "not higher than 0.1.0"),
        ("v0.2.0", "is written 0.2.0"),
        ("0.2.0-rc1", "is written 0.2.0rc1"),
        ("0.2.0+mine", "local part"),
        ("next", "is no version"),
    ],
)
def test_a_version_that_is_not_higher_or_not_one_is_refused(project: Path, version: str, why: str):
    """By PEP 440's order, in which a candidate comes before its version; exit code 2, nothing changed."""
    assert why in _refused(project, version, "--commit")


def test_the_order_is_that_of_numbers(project: Path):
    """0.10.0 is higher than 0.9.0."""
    assert _release(project, "0.9.0", "--commit").returncode == 0
    (project / "CHANGELOG.md").write_text(
        (project / "CHANGELOG.md").read_text().replace("## [Unreleased]\n", "## [Unreleased]\n\n- Another thing.\n")
    )
    _commit_all(project)
    done = _release(project, "0.10.0", "--commit")
    assert done.returncode == 0, done.stderr


def test_the_first_version_may_be_the_one_that_pyproject_has(project: Path):
    """What no section of the changelog has was never released: its version is taken as it stands."""
    (project / "CHANGELOG.md").write_text(CHANGELOG.partition("\n## [0.1.0]")[0])
    _commit_all(project)
    assert "not higher than 0.1.0" in _refused(project, "0.0.9"), "what pyproject.toml says is a floor all the same"
    done = _release(project, "0.1.0", "--commit")
    assert done.returncode == 0, done.stderr
    assert "## [0.1.0] - " in (project / "CHANGELOG.md").read_text()
    assert "not higher than 0.1.0" in _release(project, "0.1.0").stderr, "and never again"


@pytest.mark.parametrize("file", ["pyproject.toml", "new.py"])
def test_a_dirty_tree_is_refused(project: Path, file: str):
    """A changed file, and one that git does not know: either would be in what is built."""
    with (project / file).open("a") as opened:
        opened.write("\n# another line\n")
    assert file in _refused(project, "0.2.0")


def test_an_empty_section_is_refused(project: Path):
    """Headings alone are no change."""
    (project / "CHANGELOG.md").write_text(CHANGELOG.replace("- A thing.\n", ""))
    _commit_all(project)
    assert "lists no change" in _refused(project, "0.2.0")


def test_the_changelog_of_this_project_can_be_released():
    """Its unreleased section is where the tool looks, and pyproject.toml says the version in one line."""
    assert (PROJECT / "CHANGELOG.md").read_text().count("\n## [Unreleased]\n") == 1
    assert len(re.findall(r'^version = "', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)) == 1
