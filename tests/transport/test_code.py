"""The plan's code: which files it is, that a frozen copy stays, and that a machine has exactly that."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.transport import code_folder, commands
from orchestrator.transport.code import Code
from orchestrator.words.errors import StepFailed, UsageError
from tests.transport.conftest import Reached


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of somebody's, with awkward names in it."""
    files = {
        "converter/a.py": "print('a')\n",
        "run": "#!/bin/sh\necho ran\n",
        "-rf": "dash\n",
        "it's a $HOME/f": "quote\n",
        ".hidden": "hidden\n",
        ".config/x": "deep\n",
        "__pycache__/a.pyc": "cache",
        ".git/HEAD": "ref: x\n",
        "out/model.bin": "0" * 999,
        ".gitignore": "out/\n",
    }
    root = _write(tmp_path / "my plan's dir", files)
    (root / "tool").write_bytes(b"\x7fELF")
    (root / "tool").chmod(0o755)
    return root


def _freeze(source: Path, into: Path) -> Code:
    shutil.rmtree(into, ignore_errors=True)
    return Code.freeze(code_folder.find(source, most_mb=1), into)


def _names(source: Path) -> list[str]:
    return [entry.path for entry in code_folder.find(source, most_mb=1)]


def test_the_code_is_what_gitignore_leaves_and_hidden_files_are_part_of_it(source: Path):
    """Hidden files belong to the code; what a .gitignore names, caches and .git do not."""
    assert _names(source) == [
        "-rf", ".config/x", ".gitignore", ".hidden", "converter/a.py", "it's a $HOME/f", "run", "tool",
    ]  # fmt: skip


def test_what_is_fetched_home_is_no_code(source: Path):
    """A folder that is left out by name is not looked into."""
    found = code_folder.find(source, most_mb=1, leave_out=[source / "converter", source / ".config"])
    assert not [entry.path for entry in found if entry.path.startswith(("converter", ".config"))]


def test_a_link_to_a_file_inside_is_that_file(source: Path, tmp_path: Path):
    """Links inside the folder arrive as what they name."""
    (source / "latest").symlink_to("converter/a.py")
    code = _freeze(source, tmp_path / "frozen")
    assert code.files["latest"] == code.files["converter/a.py"]
    assert not (tmp_path / "frozen" / "latest").is_symlink()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.symlink_to("/etc/hostname"), "odd is a link that leads out"),
        (lambda path: path.symlink_to("../elsewhere"), "odd is a link that leads out"),
        (lambda path: path.symlink_to("nothing"), "odd is a link to no file"),
        (lambda path: path.symlink_to("converter"), "odd is a link to no file"),
        (os.mkfifo, "odd is no regular file"),
        (lambda path: path.with_name("a\nb").write_text(""), r"'a\\nb' is no name"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(source: Path, make: Callable[[Path], None], said: str):
    """A link out of the folder, a pipe, a name that no text file could hold: named, and never opened."""
    make(source / "odd")
    with pytest.raises(UsageError, match=said):
        _names(source)


def test_what_is_ignored_may_be_anything(source: Path):
    """What .gitignore names is not looked at."""
    os.mkfifo(source / "odd")
    (source / "data").symlink_to("/")
    (source / ".gitignore").write_text("odd\ndata\n")
    assert "odd" not in _names(source)


def test_too_much_code_is_refused_with_what_weighs_most(source: Path):
    """Above the bound the message says how much it is, what weighs most, and what to do."""
    (source / "weights").mkdir()
    (source / "weights" / "w").write_bytes(bytes(1_100_000))
    with pytest.raises(UsageError, match=r"1\.1 MB, and may have .* of 1 MB; the largest: weights \(1\.1 MB\)") as told:
        _names(source)
    assert "code_mb" in told.value.remedy
    assert ".gitignore" in told.value.remedy


def test_too_many_files_are_refused(source: Path, monkeypatch: pytest.MonkeyPatch):
    """The number of files is bounded too."""
    monkeypatch.setattr(code_folder, "MOST_FILES", 3)
    with pytest.raises(UsageError, match="may have 3"):
        _names(source)


def test_names_contents_and_what_can_be_run_count(source: Path, tmp_path: Path):
    """Neither place, times nor caches change the hash; names, contents and a program's mode do."""
    first = _freeze(source, tmp_path / "1").hash
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    os.utime(copy / "-rf", (1, 1))
    (copy / "run").chmod(0o600)  # it begins with #!
    (copy / "__pycache__" / "a.pyc").write_text("other")
    assert _freeze(copy, tmp_path / "2").hash == first
    (copy / "run").rename(copy / "ran")
    renamed = _freeze(copy, tmp_path / "3").hash
    (copy / ".hidden").write_text("other")
    changed = _freeze(copy, tmp_path / "4").hash
    (copy / "tool").chmod(0o644)
    assert len({first, renamed, changed, _freeze(copy, tmp_path / "5").hash}) == 4


def test_a_frozen_copy_stays(source: Path, tmp_path: Path):
    """Freezing keeps what a run began with, whatever happens to the source; files are named as `uses` names them."""
    code = _freeze(source, tmp_path / "run")
    assert code.files["-rf"] == hashlib.sha256(b"dash\n").hexdigest()
    (source / "run").write_text("changed")
    again = Code(tmp_path / "run")
    assert (again.hash, again.files) == (code.hash, code.files)
    with pytest.raises(UsageError, match=r"no requirements\.txt"):
        code.require(["requirements.txt"])


def test_no_code_is_nothing(tmp_path: Path):
    """A run without code has no hash and no files."""
    code = Code(tmp_path / "none")
    assert (code.hash, code.files, code.content) == ("", {}, [])


def test_push(reached: Reached, source: Path, tmp_path: Path):
    """It arrives byte for byte on the machine's own disk, hidden files and programs too; then nothing is sent again."""
    code = _freeze(source, tmp_path / "frozen")
    folder = Path(code.push(reached.agent, kept=False))
    assert folder == reached.home / ".gpuplan" / "code" / code.hash
    assert (folder / "it's a $HOME" / "f").read_text() == "quote\n"
    assert (folder / "-rf").read_text() == "dash\n"
    assert (folder / ".hidden").read_text() == "hidden\n"
    assert subprocess.run([folder / "run"], capture_output=True, check=True).stdout == b"ran\n"
    assert os.access(folder / "tool", os.X_OK)
    assert not (folder / "out").exists()
    assert not list(reached.workspace.rglob("*")), "nothing of it is on the volume"
    inode = folder.stat().st_ino
    assert code.push(reached.agent, kept=False) == str(folder)
    assert folder.stat().st_ino == inode


@pytest.mark.parametrize("damage", ["changed", "missing", "more", "link", "mode"])
def test_what_is_not_exactly_the_code_is_sent_anew(reached: Reached, source: Path, tmp_path: Path, damage: str):
    """One file more is as wrong as one that differs: nothing but what was sent is ever run."""
    code = _freeze(source, tmp_path / "frozen")
    folder = Path(code.push(reached.agent, kept=False))
    if damage == "changed":
        (folder / "run").write_text("#!/bin/sh\necho RAN\n")
    elif damage == "missing":
        (folder / "-rf").unlink()
    elif damage == "more":
        _write(folder, {"converter/__pycache__/a.pyc": "planted"})
    elif damage == "link":
        (folder / "-rf").unlink()
        (folder / "-rf").symlink_to("run")
    else:
        (folder / "converter" / "a.py").chmod(0o755)
    assert code.push(reached.agent, kept=False) == str(folder)
    there = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if not p.is_dir()}
    assert {name: hashlib.sha256(p.read_bytes()).hexdigest() for name, p in there.items()} == code.files
    assert not any(path.is_symlink() for path in there.values())
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_what_a_setup_made_is_kept(reached: Reached, source: Path, tmp_path: Path):
    """Once a setup has run there, its work beside the code is left alone."""
    code = _freeze(source, tmp_path / "frozen")
    folder = Path(code.push(reached.agent, kept=False))
    (folder / "built").write_text("")
    code.push(reached.agent, kept=True)
    assert (folder / "built").exists()


def test_a_disk_that_cannot_be_written_is_named(reached: Reached, source: Path, tmp_path: Path):
    """Where the code cannot be put, the error gives the machine's words."""
    code = _freeze(source, tmp_path / "frozen")
    (reached.home / ".gpuplan" / "code").write_text("a file")
    with pytest.raises(StepFailed, match=r"cannot be put on the machine: .*code"):
        code.push(reached.agent, kept=False)


def test_a_machine_answers_no_hash_but_one(reached: Reached):
    """What is no hash is refused: it would be a path."""
    with pytest.raises(StepFailed, match="is no hash"):
        reached.agent.code("../../etc", kept=False)


def test_overlay_copies_hidden_files(reached: Reached, source: Path, tmp_path: Path):
    """`builtin: overlay` lays all of it over the step's folder."""
    folder = _freeze(source, tmp_path / "frozen").push(reached.agent, kept=False)
    there = tmp_path / "over"
    there.mkdir()
    env = os.environ | {"GPUPLAN_CODE": folder, "GPUPLAN_CODE_HASH": "h"}
    subprocess.run(["bash", "-c", commands.lay_code().text], cwd=there, env=env, check=True, capture_output=True)
    assert (there / ".hidden").read_text() == "hidden\n"
