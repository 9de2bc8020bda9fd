"""An owner as a file: it opens the same machines elsewhere, and nobody else can read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.transport import owners
from orchestrator.transport.keys import ensure_key_pair, key_file
from orchestrator.words.errors import UsageError

OWNER = "abcdefgh"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    owners.write(tmp_path / "me", tmp_path / "first", OWNER)
    return tmp_path / "me"


def test_the_other_home_is_the_same_owner(file: Path, tmp_path: Path):
    """The same letters and the same key, private, and again without harm; a key that no owner used is replaced."""
    assert file.stat().st_mode & 0o777 == 0o600
    ensure_key_pair(tmp_path / "second")
    for _ in range(2):
        assert owners.read(file, tmp_path / "second") == OWNER
    assert (tmp_path / "second" / "owner").read_text() == OWNER
    assert key_file(tmp_path / "second").stat().st_mode & 0o777 == 0o600
    assert ensure_key_pair(tmp_path / "second") == ensure_key_pair(tmp_path / "first")
    assert (tmp_path / "second" / "id_ed25519.pub").read_text().strip() == ensure_key_pair(tmp_path / "first")


def test_a_file_that_is_there_is_not_written_over(file: Path, tmp_path: Path):
    """It may be somebody's only key."""
    with pytest.raises(UsageError, match="File exists"):
        owners.write(file, tmp_path / "other", "zzzzzzzz")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_can_read_is_refused(file: Path, tmp_path: Path, mode: int):
    """Whose key that is nobody knows any more."""
    file.chmod(mode)
    with pytest.raises(UsageError, match="others can read"):
        owners.read(file, tmp_path / "second")
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize(("theirs", "said"), [("zzzzzzzz", "of another owner"), (OWNER, "another key of the same")])
def test_a_home_of_another_owner_stays_theirs(file: Path, tmp_path: Path, theirs: str, said: str):
    """Its machines would be opened by nobody."""
    home = tmp_path / "second"
    before = ensure_key_pair(home)
    (home / "owner").write_text(theirs)
    with pytest.raises(UsageError, match=said):
        owners.read(file, home)
    assert ensure_key_pair(home) == before


@pytest.mark.parametrize("text", ["", "[]", '{"owner": "abcdefgh", "key": "no"}', '{"owner": "abcdefgh"}'])
def test_another_file_is_no_owner(tmp_path: Path, text: str):
    """It is said, and nothing is written."""
    file = tmp_path / "me"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(UsageError, match="no file of gpuplan owner export"):
        owners.read(file, tmp_path / "second")
