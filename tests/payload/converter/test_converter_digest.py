"""The checksum that a conversion publishes of the file that it wrote: right, or none."""

import hashlib
import random
import threading
from pathlib import Path

import pytest
from dllama_glm.convert import digest as module
from dllama_glm.convert import main
from dllama_glm.convert.digest import Digest
from dllama_glm.tokenizer import convert as tokenizer

from tests.payload.converter.converter_files import GLM_MOE, GOLDEN, convert, glm_tensors, write_checkpoint

CONTENT = random.Random(1).randbytes(3 << 20)
PIECE = 50_000


@pytest.fixture
def checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a controller wants them; programs run in the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPUPLAN_CHECKSUMS", str(tmp_path / "checksums"))
    return tmp_path / "checksums"


def _sum_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_pieces_in_any_order_by_any_thread(tmp_path: Path):
    """The sum is that of the file, whatever was written first, by however many at once."""
    file, order = tmp_path / "x", list(range(0, len(CONTENT), PIECE))
    random.Random(2).shuffle(order)
    file.touch()
    digest = Digest(file, len(CONTENT))

    def write(some: list[int]) -> None:
        with file.open("r+b", buffering=0) as out:
            for at in some:
                out.seek(at)
                out.write(CONTENT[at : at + PIECE])
                digest.wrote(at, min(at + PIECE, len(CONTENT)))

    writers = [threading.Thread(target=write, args=(order[number::3],)) for number in range(3)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    file.rename(tmp_path / "y")
    assert digest.result() == _sum_of(CONTENT)
    digest.close()


@pytest.mark.parametrize("lost", ["a piece", "the end of the file"])
def test_what_was_not_read_to_its_end_has_no_sum(lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A piece that nobody wrote, or a file that became shorter: none rather than another file's."""
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    file = tmp_path / "x"
    file.write_bytes(CONTENT[:-1] if lost == "the end of the file" else CONTENT)
    digest = Digest(file, len(CONTENT))
    digest.wrote(0, PIECE)
    digest.wrote(PIECE if lost == "the end of the file" else PIECE + 1, len(CONTENT))
    assert digest.result() is None
    digest.close()
    assert digest.result() is None


def test_both_converters_publish_what_they_wrote(checksums: Path):
    """One line a file, as sha256sum prints it, with the path from where they ran."""
    source = write_checkpoint(Path("source"), GLM_MOE, glm_tensors(GLM_MOE), shards=3)
    convert(source, "q40", Path("a b.m"))
    assert tokenizer.main([str(GOLDEN / "tokenizer-llama3"), "x", "--output", str(checksums.parent)]) == 0
    wanted = [f"{_sum_of(Path(name).read_bytes())}  {name}" for name in ("a b.m", "x.t")]
    assert checksums.read_text().splitlines() == wanted


def test_a_name_that_would_be_two_lines_is_not_published(checksums: Path):
    """A file's name cannot put a line of its own there."""
    convert(GOLDEN / "llama3-tied", "q40", Path("a\nb.m"))
    assert not checksums.exists() or not checksums.read_text()


def test_where_nobody_asks_nothing_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By hand, a conversion costs what it did."""
    monkeypatch.delenv("GPUPLAN_CHECKSUMS", raising=False)
    monkeypatch.setattr("dllama_glm.convert.job.Digest", lambda *_: pytest.fail("computed for nobody"))
    assert main([str(GOLDEN / "llama3-tied"), "q40", "x", "--output", str(tmp_path)]) == 0
