"""One shard from the hub to the disk: in pieces, over several connections at once, checked, and resumable."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dllama_glm.convert.errors import HubError
from dllama_glm.convert.hub.repository import Check, HubFile, Repository
from dllama_glm.convert.output import explain

PART, RECORD = ".part", ".part.bytes"
_CONNECTIONS = 8  # one alone is slower than most machines' networks
_PIECE = 32 << 20
_READ = 4 << 20


class Fetcher:
    """Fetches shards of one repository into a folder. `fetched` counts their bytes, those of an earlier run too."""

    def __init__(self, repository: Repository, folder: Path, *, piece: int = _PIECE) -> None:
        self.fetched = 0
        self._repository = repository
        self._folder = folder
        self._piece = piece
        self._pool = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="hub")
        self._lock = threading.Lock()

    def close(self) -> None:
        """Wait for what is under way: it ends soon once the client was stopped."""
        self._pool.shutdown(cancel_futures=True)

    def fetch(self, file: HubFile) -> Path:
        """The shard's file, with the size and hash that the hub lists. Raises HubError, Stopped, OutputError.

        A whole file that an earlier run left is checked and taken; a part of one is completed.
        """
        path = self._folder / file.path
        part, record = (path.with_name(path.name + ending) for ending in (PART, RECORD))
        try:
            if path.exists():
                path.replace(part)
                record.write_text(str(file.size))
            for _ in range(2):
                if self._complete(file, part, record):
                    record.unlink()
                    return part.replace(path)
                part.unlink()
                self._count(-file.size)
        except OSError as error:
            raise explain(error, part, file.size) from error
        raise HubError(
            f"{self._repository.name}: {file.path} came twice with another hash than the hub lists: try again later"
        )

    def _complete(self, file: HubFile, part: Path, record: Path) -> bool:
        """Fetch what is not there yet; whether the whole has the right hash."""
        part.touch()
        there = _recorded(part, record)
        check = Check(file)
        for block in _blocks(part, 0, there):
            check.update(block)
        self._count(there)
        starts = range(there, file.size, self._piece)
        pieces = [(start, min(start + self._piece, file.size)) for start in starts]
        coming = [self._pool.submit(self._fetch_piece, file, part, *piece) for piece in pieces]
        for piece, future in zip(pieces, coming, strict=True):
            future.result()
            for block in _blocks(part, *piece):
                check.update(block)
            record.write_text(str(piece[1]))
        return check.passed()

    def _fetch_piece(self, file: HubFile, part: Path, start: int, end: int) -> None:
        with part.open("r+b") as target:
            target.seek(start)
            for block in self._repository.client.blocks(self._repository.address(file.path), start, end):
                target.write(block)
                self._count(len(block))

    def _count(self, nbytes: int) -> None:
        with self._lock:
            self.fetched += nbytes


def _recorded(part: Path, record: Path) -> int:
    """How many bytes from the start an earlier run fetched; 0 where nothing says so."""
    try:
        return min(int(record.read_text()), part.stat().st_size)
    except (OSError, ValueError):
        return 0


def _blocks(path: Path, start: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as source:
        source.seek(start)
        while start < end and (block := source.read(min(_READ, end - start))):
            start += len(block)
            yield block
