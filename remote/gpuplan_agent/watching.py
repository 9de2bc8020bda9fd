"""Following a job: its log from an offset on, its samples, its end."""

from __future__ import annotations

import codecs
import json
import os
import stat
import time
from typing import Any

from gpuplan_agent import logs
from gpuplan_agent.jobfolder import ENDED, NEW, JobFolder
from gpuplan_agent.wire import AgentError, alive, emit

CHUNK = 1 << 16
BEAT_S = 4.0
SHORTEST_WAIT_S = 0.01
LONGEST_WAIT_S = 0.15
PROGRESS_EVERY_S = 1.0
PROGRESS_BYTES = 1 << 12


class Follower:
    """Reads the log in a folder on from an offset; characters are never cut in two, and no byte is lost.

    One that is no UTF-8 comes as half a surrogate pair, which `surrogateescape` makes the same byte of again.
    """

    def __init__(self, folder: str, offset: int) -> None:
        self.folder, self.offset = folder, offset
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def more(self, *, final: bool = False) -> tuple[str, int]:
        """The next piece of text and the offset to go on from; "" when there is none now."""
        data, dropped, self.offset = logs.read(self.folder, self.offset, CHUNK)
        note = ""
        if dropped:
            note = self._decoder.decode(b"", final=True) + f"\n[{dropped} bytes of the log were dropped]\n"
        text = self._decoder.decode(data, final=final and not data)
        return note + text, self.offset - len(self._decoder.getstate()[0])


class Newest:
    """A job's newest sample, with what the job itself says of its progress."""

    def __init__(self, folder: JobFolder) -> None:
        self.folder = folder
        self._seen: tuple[Any, Any] = (None, None)
        self._progress: dict[str, Any] | None = None
        self._looked = float("-inf")

    def more(self) -> dict[str, Any] | None:
        """The sample, if it or the progress is another one than last time; progress is looked at once a second."""
        now = time.monotonic()
        sample, progress = _modified(self.folder.file("sample.json")), self._seen[1]
        if now - self._looked >= PROGRESS_EVERY_S:
            self._looked, progress = now, _modified(self.folder.file("progress"))
        if sample is None or (sample, progress) == self._seen:
            return None
        if progress != self._seen[1]:
            self._progress = _progress(self.folder.file("progress")) or self._progress
        self._seen = (sample, progress)
        found = self.folder.json("sample.json")
        return {**found, "progress": self._progress} if self._progress else found


def op_watch(request: dict[str, Any]) -> dict[str, Any]:
    """Stream the log from `offset` on and the samples, until the job has ended; then say how.

    With `stdout` it is what the job printed on standard output that is streamed.
    """
    folder = JobFolder.of(request["job"])
    if folder.state() == NEW:
        raise AgentError("no_job", f"there is no job {request['job']}")
    source = folder.stdout if request.get("stdout") else folder.path
    follower = Follower(source, int(request.get("offset", 0)))
    newest = Newest(folder)
    said, wait = time.monotonic(), SHORTEST_WAIT_S
    while True:
        ended = folder.state() == ENDED  # asked before the log is read: nothing comes after the end
        text, offset = follower.more(final=ended)
        if text:
            emit({"log": text, "offset": offset})
            said, wait = time.monotonic(), SHORTEST_WAIT_S
        elif ended:
            return {"end": folder.end()}
        if sample := newest.more():
            emit({"sample": sample})
            said = time.monotonic()
        if text:
            continue
        if time.monotonic() - said > BEAT_S:
            alive()
            said = time.monotonic()
        time.sleep(wait)
        wait = min(LONGEST_WAIT_S, wait * 1.2)


def _modified(path: str) -> tuple[int, ...] | None:
    """What differs once a file was written anew; None: there is no such file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def _progress(path: str) -> dict[str, Any] | None:
    """What a job says of how far it is; None: nothing that can be read (half of it, a device, not JSON)."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            found = json.loads(file.read(PROGRESS_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
