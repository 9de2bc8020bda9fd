"""A folder's .gitignore means what it means to git."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.transport import code_folder
from orchestrator.transport.gitignore import Ignored

CASES = {
    "": [],
    "# a comment\n\n": [],
    "*.log": ["a.log", "keep.log", "x/b.log", "x/keep.log"],
    "*.log\n!keep.log": ["a.log", "x/b.log"],
    "/a.log": ["a.log"],
    "x/": ["x/b.log", "x/keep.log", "x/y/deep"],
    "x/*\n!x/y": ["x/b.log", "x/keep.log"],
    "x\n!x/y/deep": ["x/b.log", "x/keep.log", "x/y/deep"],  # nothing below an ignored folder comes back
    "**/deep": ["x/y/deep"],
    "x/**/deep": ["x/y/deep"],
    "y/deep": [],
    "x/**": ["x/b.log", "x/keep.log", "x/y/deep"],
    "[ak]*.log\r\n": ["a.log", "keep.log", "x/keep.log"],
    "k[!a-d]ep.log": ["keep.log", "x/keep.log"],
    r"\#odd": ["#odd"],
    "trailing  ": ["trailing"],
    "a.log/": [],
}
NAMES = ["a.log", "keep.log", "x/b.log", "x/keep.log", "x/y/deep", "#odd", "trailing"]


def _folder(files: list[str], rules: dict[str, str], root: Path) -> Path:
    for name in files:
        path = root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
        except OSError:  # a folder of that name is there, or a file where a folder should be
            continue
    for folder, text in rules.items():
        if (root / folder).is_dir():
            (root / folder / ".gitignore").write_bytes(text.encode())
    return root


def _git(root: Path) -> set[str]:
    """What git takes of a folder: what is not ignored, whatever its own settings say."""
    env = {"PATH": os.environ["PATH"], "HOME": str(root), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    subprocess.run(["git", "init", "-q"], cwd=root, env=env, check=True)
    words = ["git", "ls-files", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(words, cwd=root, env=env, check=True, capture_output=True).stdout
    return {name for name in listed.decode().split("\0") if name}


def _ours(root: Path) -> set[str]:
    return {entry.path for entry in code_folder.find(root, most_mb=1)}


@pytest.mark.parametrize("text", CASES)
def test_a_rule(text: str, tmp_path: Path):
    """Each rule of git's manual leaves out what it says, and git agrees."""
    _folder(NAMES, {"": text}, tmp_path)
    assert _ours(tmp_path) == {*NAMES, ".gitignore"} - set(CASES[text])
    assert _git(tmp_path) == _ours(tmp_path)


def test_a_deeper_file_wins(tmp_path: Path):
    """A .gitignore speaks for its own folder, over those above it."""
    _folder(NAMES, {"": "*.log", "x": "!b.log\n/y"}, tmp_path)
    assert _ours(tmp_path) == {".gitignore", "x/.gitignore", "x/b.log", "#odd", "trailing"} == _git(tmp_path)


_PIECES = st.sampled_from(
    ["a", "b", "ab", "*", "**", "?", "/", "[ab]", "[!a]", "[^b]", "[a-", "]", "\\a", "\\*", "\\", "!", "#", "\\ ",
     "[]a]", "[[:alpha:]]", "[\\]]", "-", "x", "/"]
)  # fmt: skip
_TEXTS = st.lists(st.lists(_PIECES, min_size=1, max_size=5).map("".join), min_size=1, max_size=3).map("\n".join)
_FILES = st.lists(
    st.lists(st.sampled_from(["a", "b", "ab", "x", "*", "a*", "#", "!a", "-", "[a-", "]"]), min_size=1, max_size=3)
    .map("/".join),
    min_size=1,
    max_size=8,
)  # fmt: skip


@given(_FILES, _TEXTS, _TEXTS)
@settings(max_examples=40, deadline=None)
def test_git_agrees(files: list[str], top: str, deeper: str):
    """Whatever the rules and the names are, the code is what git would take."""
    with tempfile.TemporaryDirectory() as folder:
        root = _folder(files, {"": top, "a": deeper}, Path(folder).resolve())
        assert _ours(root) == _git(root)


@pytest.mark.parametrize(("pattern", "path"), [("*a" * 30 + "b", "a" * 250), ("**/a/" * 20 + "b", "a/" * 100 + "a")])
def test_no_pattern_is_slow(pattern: str, path: str):
    """A pattern that would keep a naive matcher busy for years is answered at once."""
    began = time.process_time()
    assert Ignored(pattern).says(path, is_folder=False) is None
    assert time.process_time() - began < 5
