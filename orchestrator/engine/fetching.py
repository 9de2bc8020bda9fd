"""Artifacts from a store to this computer: several files at the same time, each in ranges, each verified."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.engine.artifacts import PARTIAL, Home, is_whole, make_place, safe
from orchestrator.engine.download import Download, forget
from orchestrator.engine.effects import ManifestFile
from orchestrator.engine.together import AT_ONCE
from orchestrator.engine.unpacking import Unpacking
from orchestrator.words.errors import StepFailed
from orchestrator.words.store import ArtifactStore
from orchestrator.words.waiting import Clock


def fetch_all(  # noqa: PLR0913  who asks, who listens, and what becomes of it
    store: ArtifactStore,
    files: list[ManifestFile],
    home: Home,
    clock: Clock,
    *,
    check: Callable[[], None] = lambda: None,
    said: Callable[[ManifestFile, str], None] = lambda _file, _how: None,
    arrived: Callable[[str, int, int], None] = lambda _name, _bytes, _moved: None,
    unpacked: Mapping[str, Unpacking] = {},
) -> None:
    """Bring uploaded files home, going on with what is there, each verified; AT_ONCE ranges at the same time.

    `unpacked`: names of tars among them that become files here (unpacking.py), and are not kept.

    `said` hears of each whether it was "fetched" or "already there", `arrived` of its bytes, and of those that
    just came. Errors: see download.Download; the first one ends it when what is under way has ended, and is kept.
    """
    fetching = _Fetching(store, files, home, clock, check, said, arrived, unpacked)
    try:
        clock.gather([fetching.work] * AT_ONCE)
    finally:
        fetching.close()


@dataclass
class _Coming:
    """A file of which ranges are still to come."""

    file: ManifestFile
    final: Path
    half: Path
    download: Download
    left: int  # ranges


class _Fetching:
    """Files that wait, and ranges of those that are under way: whoever has nothing to do takes a range, else a file.

    So a large file's ranges come side by side, and so do many files of one range each.
    """

    def __init__(  # noqa: PLR0913, PLR0917  as fetch_all has them
        self,
        store: ArtifactStore,
        files: list[ManifestFile],
        home: Home,
        clock: Clock,
        check: Callable[[], None],
        said: Callable[[ManifestFile, str], None],
        arrived: Callable[[str, int, int], None],
        unpacked: Mapping[str, Unpacking],
    ) -> None:
        self._unpacked = unpacked
        self._store, self._home, self._clock, self._check = store, home, clock, check
        self._said, self._arrived = said, arrived
        self._files, self._spans = deque(files), deque[tuple[_Coming, int]]()
        self._open: list[_Coming] = []
        self._opening = 0  # files that may have ranges in a moment
        self._failed = False
        self._lock, self._moved = threading.Lock(), clock.signal()

    def work(self) -> None:
        """Fetch until nothing is left, or somebody has failed."""
        while (job := self._next()) is not None:
            try:
                job()
            except BaseException:
                self._failed = True
                raise
            finally:
                self._moved.notify()

    def close(self) -> None:
        """Close the halves of files that did not become whole."""
        for coming in self._open:
            with contextlib.suppress(OSError):
                coming.download.close()

    def _next(self) -> Callable[[], None] | None:
        while True:
            with self._lock:
                if self._failed:
                    return None
                if self._spans:
                    coming, span = self._spans.popleft()
                    return lambda: self._fetch(coming, span)
                if self._files:
                    file = self._files.popleft()
                    self._opening += 1
                    return lambda: self._begin(file)
                if not self._opening:
                    return None
            self._moved.wait(lambda: bool(self._spans) or not self._opening or self._failed)

    def _begin(self, file: ManifestFile) -> None:
        """Look what is there of a file already; its ranges are everybody's."""
        try:
            name = safe(file.name)
            final, half = self._home.folder / name, self._home.folder / f"{name}{PARTIAL}"
            unpacking = self._unpacked.get(file.name)
            if unpacking.is_done(self._home) if unpacking else is_whole(final, file):
                forget(half)
                self._said(file, "already there")
                return
            if unpacking:
                unpacking.prepare(self._home, half)
            else:
                make_place(final, half, file, self._home.runs, force=self._home.force)
            told: Callable[[int, int], None] = lambda *of: self._arrived(file.name, *of)  # noqa: E731  one line
            download = Download(self._store, file, half, self._clock, self._check, told)
            missing = download.missing()
            coming = _Coming(file, final, half, download, len(missing))
            with self._lock:
                self._open.append(coming)
                self._spans.extend((coming, span) for span in missing)
        finally:
            with self._lock:
                self._opening -= 1
        if not missing:
            self._end(coming)

    def _fetch(self, coming: _Coming, span: int) -> None:
        coming.download.fetch(span)
        with self._lock:
            coming.left -= 1
            whole = coming.left == 0
        if whole:
            self._end(coming)

    def _end(self, coming: _Coming) -> None:
        """Give a file its name, when all of it is what the manifest says."""
        found = coming.download.sha256()
        with self._lock:
            self._open.remove(coming)
        coming.download.close()
        if found != coming.file.sha256:
            forget(coming.half)
            raise StepFailed(
                f"{coming.file.name} came from {self._store.url} with another sha256",
                remedy="pull again: it starts over",
            )
        if unpacking := self._unpacked.get(coming.file.name):
            unpacking.unpack(coming.half, self._home, self._check)
        else:
            coming.half.replace(coming.final)
        forget(coming.half)
        self._said(coming.file, "fetched")
