"""How far files are on their way, written down while they move: for whoever looks on, from here or another terminal."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace

from orchestrator.engine.context import Context
from orchestrator.ledger.rows import TransferRow

UPLOAD, PULL, CODE = "upload", "pull", "code"
WRITE_S = 1.0  # between two times that the ledger is told


class Transfer:
    """The files of one phase that go to one place: to a store, home, or to a machine. Threads tell it what arrives."""

    def __init__(
        self, context: Context, phase: str, kind: str, place: str, files: Mapping[str, int], there: Iterable[str] = ()
    ) -> None:
        """`files`: name -> bytes, of all that is to arrive there; `there`: those that had before."""
        self._context, self._lock, self._sizes = context, threading.Lock(), files
        self._bytes = {name: files[name] for name in there if name in files}
        self._whole = set(self._bytes)
        now = context.now()
        self._row = TransferRow(
            run=context.run, phase=phase, kind=kind, place=place, files=len(files), bytes=sum(files.values()),
            files_done=len(self._whole), bytes_done=sum(self._bytes.values()), since=now, at=now,
        )  # fmt: skip
        self._write()

    def arrived(self, name: str, count: int, moved: int) -> None:
        """So many bytes of that file are there, of which `moved` came just now."""
        with self._lock:
            self._bytes[name] = min(count, self._sizes[name])
            self._row = replace(self._row, bytes_done=sum(self._bytes.values()), moved=self._row.moved + moved)
            if self._context.clock.monotonic() - self._written >= WRITE_S:
                self._write()

    def whole(self, name: str) -> None:
        """That file is there to its last byte; it may have been before."""
        with self._lock:
            self._bytes[name] = self._sizes[name]
            self._whole.add(name)
            self._row = replace(self._row, bytes_done=sum(self._bytes.values()), files_done=len(self._whole))
            if len(self._whole) == len(self._sizes):
                self._row = replace(self._row, ended_at=self._context.now())
                self._write()

    def _write(self) -> None:
        self._written = self._context.clock.monotonic()
        self._row = replace(self._row, at=self._context.now())
        self._context.ledger.transfers.put(self._row)
