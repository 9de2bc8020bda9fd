"""Following a job: its log from an offset on, its samples, its end."""

from __future__ import annotations

import codecs
import os
import time
from typing import Any

from gpuplan_agent import logs
from gpuplan_agent.jobfolder import ENDED, NEW, JobFolder
from gpuplan_agent.wire import AgentError, alive, emit

CHUNK = 1 << 16
BEAT_S = 4.0
SHORTEST_WAIT_S = 0.01
LONGEST_WAIT_S = 0.15


class Follower:
    """Reads a job's log on from an offset; characters are never cut in two."""

    def __init__(self, folder: JobFolder, offset: int) -> None:
        self.folder, self.offset = folder, offset
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def more(self, *, final: bool = False) -> tuple[str, int]:
        """The next piece of text and the offset to go on from; "" when there is none now."""
        data, dropped, self.offset = logs.read(self.folder.path, self.offset, CHUNK)
        note = ""
        if dropped:
            note = self._decoder.decode(b"", final=True) + f"\n[{dropped} bytes of the log were dropped]\n"
        text = self._decoder.decode(data, final=final and not data)
        return note + text, self.offset - len(self._decoder.getstate()[0])


def op_watch(request: dict[str, Any]) -> dict[str, Any]:
    """Stream the log from `offset` on and the samples, until the job has ended; then say how."""
    folder = JobFolder.of(request["job"])
    if folder.state() == NEW:
        raise AgentError("no_job", f"there is no job {request['job']}")
    follower = Follower(folder, int(request.get("offset", 0)))
    said, wait, sampled = time.monotonic(), SHORTEST_WAIT_S, 0.0
    while True:
        ended = folder.state() == ENDED  # asked before the log is read: nothing comes after the end
        text, offset = follower.more(final=ended)
        if text:
            emit({"log": text, "offset": offset})
            said, wait = time.monotonic(), SHORTEST_WAIT_S
            continue
        if ended:
            return {"end": folder.end()}
        at = _modified(folder.file("sample.json"))
        if at != sampled:
            sampled, said = at, time.monotonic()
            emit({"sample": folder.json("sample.json")})
        if time.monotonic() - said > BEAT_S:
            alive()
            said = time.monotonic()
        time.sleep(wait)
        wait = min(LONGEST_WAIT_S, wait * 1.2)


def _modified(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0
