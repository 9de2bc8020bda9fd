"""How far files are on their way, written down while they move: for whoever looks on, from here or another terminal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestrator.engine.context import Context
from orchestrator.engine.effects import ManifestFile
from orchestrator.ledger.rows import TransferRow

WRITE_S = 1.0  # between two times that the ledger is told

UPLOAD, PULL, CODE = "upload", "pull", "code"


class Transfer:
    """The files of one phase that go to one place. Threads tell it; a second one of the same kind and place goes on."""

    def __init__(self, context: Context, phase: str, kind: str, place: str, files: int, size: int) -> None:
        """`files`, `size`: all that is to arrive there, in number and bytes."""
        self._context, self._lock = context, threading.Lock()
        now, key = context.now(), {"run": context.run, "phase": phase, "kind": kind, "place": place}
        before = context.ledger.transfers.maybe(**key)
        fresh = TransferRow(
            run=context.run, phase=phase, kind=kind, place=place, files=files, bytes=size, since=now, at=now
        )
        same = before is not None and (before.files, before.bytes) == (files, size)
        self._row = before if before and same else fresh
        self._files: dict[str, int] = {}  # name -> its bytes that have arrived
        self._written = float("-inf")
        self._write()

    def arrived(self, name: str, count: int, *, moved: int) -> None:
        """So many bytes of a file are there, of which `moved` just came."""
        with self._lock:
            new = count - self._files.get(name, 0)
            self._files[name] = count
            row = self._row
            self._row = replace(
                row, bytes_done=min(row.bytes_done + new, row.bytes), moved=row.moved + moved, at=self._context.now()
            )
            if self._context.clock.monotonic() - self._written >= WRITE_S:
                self._write()

    def whole(self, name: str, size: int) -> None:
        """That file is there, to its last byte."""
        self.arrived(name, size, moved=0)
        with self._lock:
            done = min(self._row.files_done + 1, self._row.files)
            ended = self._context.now() if done == self._row.files else None
            self._row = replace(self._row, files_done=done, ended_at=ended)
            if ended:
                self._write()

    def _write(self) -> None:
        self._written = self._context.clock.monotonic()
        self._context.ledger.transfers.put(self._row)


def of_files(context: Context, phase: str, kind: str, place: str) -> Callable[[Sequence[ManifestFile]], Transfer]:
    """A transfer of all of a phase's files, from its manifest."""
    return lambda files: Transfer(context, phase, kind, place, len(files), sum(file.bytes for file in files))
