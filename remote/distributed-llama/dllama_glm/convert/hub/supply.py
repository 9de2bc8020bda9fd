"""Shards from the hub, one after the other: while one is converted the next one comes, and none is kept."""

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from dllama_glm.checkpoint.shard import LENGTH_BYTES, Shard
from dllama_glm.convert.chunks import Chunk
from dllama_glm.convert.errors import HubError
from dllama_glm.convert.hub.fetch import PART, RECORD, Fetcher
from dllama_glm.convert.hub.repository import Repository
from dllama_glm.convert.output import Output
from dllama_glm.convert.plan import Plan
from dllama_glm.convert.reader import ShardReader
from dllama_glm.convert.supply import Batch, Watch

AT_ONCE = 2  # shards on the disk
_LOOK = 0.5  # seconds between two looks at how far it is


class HubSupply:
    """Gives the chunks shard by shard from files that lie in `folder` only while they are needed."""

    def __init__(self, plan: Plan, repository: Repository, folder: Path) -> None:
        self._shards = {shard.path.name: shard for shard in plan.folder.shards}
        self._repository = repository
        self._folder = folder
        self._fetcher = Fetcher(repository, folder)
        self._arrived: queue.Queue[Path | BaseException] = queue.Queue()
        self._room = threading.Semaphore(AT_ONCE)
        self._thread: threading.Thread | None = None
        self._before = 0

    def unsound(self, output: Output) -> frozenset[int]:  # noqa: ARG002 - the commit's hashes stand for the source
        """None: the shards that they came from are gone, and were what the hub lists."""
        return frozenset()

    def batches(self, chunks: Sequence[Chunk], watch: Watch) -> Iterator[Batch]:
        """One batch a shard, in the order of their names, which is that of the chunks."""
        groups = [(name, list(group)) for name, group in groupby(chunks, lambda chunk: chunk.source.tensor.file.name)]
        names = [name for name, _ in groups]
        self._before = sum(shard.size for name, shard in self._shards.items() if name not in names)
        self._folder.mkdir(exist_ok=True)
        self._tidy(names[:AT_ONCE])
        self._thread = threading.Thread(target=self._bring, args=(names,), daemon=True)
        self._thread.start()
        for name, group in groups:
            path = self._wait(name, watch)
            reader = ShardReader([path])
            try:
                yield group, reader
            finally:
                reader.close()
            path.unlink()
            self._room.release()
        with contextlib.suppress(OSError):  # somebody else's file is in it
            self._folder.rmdir()

    def amount(self, converted: int) -> tuple[int, int, int]:  # noqa: ARG002 - what takes the time is the way here
        """In bytes of whole shards, as they come."""
        total = sum(shard.size for shard in self._shards.values())
        return self._before + self._fetcher.fetched, self._before, total

    def changed(self) -> list[str]:
        """None: a commit does not change."""
        return []

    def close(self) -> None:
        """End what is under way; parts of shards stay for the next run."""
        self._repository.client.stop()
        self._room.release()
        if self._thread:
            self._thread.join()
        self._fetcher.close()

    def _bring(self, names: Sequence[str]) -> None:
        try:
            for name in names:
                self._room.acquire()
                path = self._fetcher.fetch(self._repository.files[name])
                _same_header(path, self._shards[name])
                self._arrived.put(path)
        except BaseException as error:  # noqa: BLE001 - carried over to the thread that waits
            self._arrived.put(error)

    def _wait(self, name: str, watch: Watch) -> Path:
        while True:
            try:
                arrived = self._arrived.get(timeout=_LOOK)
            except queue.Empty:
                watch(f"waiting for {name}")
                continue
            if isinstance(arrived, BaseException):
                raise arrived
            return arrived

    def _tidy(self, kept: Sequence[str]) -> None:
        """Remove what an earlier run left of shards that are not the next ones."""
        for name in set(self._shards) - set(kept):
            for ending in ("", PART, RECORD):
                (self._folder / (name + ending)).unlink(missing_ok=True)


def _same_header(path: Path, shard: Shard) -> None:
    """The plan is made of a header that nobody could check when it came: the file, which was checked, must begin so."""
    with path.open("rb") as file:
        file.seek(LENGTH_BYTES)
        if file.read(len(shard.header)) != shard.header:
            raise HubError(f"{path.name}: its header came damaged at first: run the same command again")
