"""How far files are on their way, written down while they move: for whoever looks on, from here or another terminal."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace

from orchestrator.engine.context import Context
from orchestrator.ledger.rows import TransferRow

UPLOAD, PULL, CODE, INPUT = "upload", "pull", "code", "input"
WRITE_S = 1.0  # between two times that the ledger is told


class Transfer:
    """The files of one phase on their way to or from one place: a store, home, a machine. Threads tell what arrives."""

    def __init__(self, context: Context, phase: str, kind: str, place: str) -> None:
        self._context, self._lock = context, threading.Lock()
        self._sizes: dict[str, int] = {}  # of all that is expected there
        self._bytes: dict[str, int] = {}
        self._whole: set[str] = set()
        self._is_all = False  # that is expected; else there will be more
        self._moved, self._written = 0, 0.0
        now = context.now()
        self._row = TransferRow(
            run=context.run, phase=phase, kind=kind, place=place, files=0, bytes=0, since=now, at=now
        )

    def expect(self, files: Mapping[str, int], there: Iterable[str] = (), *, is_all: bool = True) -> None:
        """So many bytes of these files are to arrive; `there`: those that had before. `is_all`: no other will."""
        with self._lock:
            if self._is_whole:  # nothing was under way since then: a pause between two steps is no slow line
                pause = self._context.now() - self._row.at
                self._row = replace(self._row, since=self._row.since + pause)
            self._sizes |= files
            self._is_all = is_all
            for name in there:
                if name in self._sizes:
                    self._bytes[name] = self._sizes[name]
                    self._whole.add(name)
            self._write()

    def arrived(self, name: str, count: int, moved: int) -> None:
        """So many bytes of that file are there, of which `moved` came just now."""
        with self._lock:
            self._bytes[name] = min(count, self._sizes[name])
            self._moved += moved
            self._write_now_and_then()

    def whole(self, name: str) -> None:
        """That file is there to its last byte; it may have been before."""
        with self._lock:
            self._bytes[name] = self._sizes[name]
            self._whole.add(name)
            self._write_now_and_then()

    @property
    def _is_whole(self) -> bool:
        """Whether all that is expected so far is there: nothing more may be heard for hours."""
        return len(self._whole) == len(self._sizes)

    def _write_now_and_then(self) -> None:
        if self._is_whole or self._context.clock.monotonic() - self._written >= WRITE_S:
            self._write()

    def _write(self) -> None:
        """All of it anew, from what is known of each file."""
        self._written, now = self._context.clock.monotonic(), self._context.now()
        self._row = replace(
            self._row, at=now, files=len(self._sizes), bytes=sum(self._sizes.values()), files_done=len(self._whole),
            bytes_done=sum(self._bytes.values()), moved=self._moved,
            ended_at=(self._row.ended_at or now) if self._is_all and self._is_whole else None,
        )  # fmt: skip
        self._context.ledger.transfers.put(self._row)
