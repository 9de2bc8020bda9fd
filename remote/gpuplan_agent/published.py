"""What a job says of the files that it wrote: their checksums, known to it without reading them again."""

from __future__ import annotations

import os
import re
from typing import Any

from gpuplan_agent.jobfolder import JobFolder
from gpuplan_agent.places import open_regular
from gpuplan_agent.wire import AgentError

FILE = "checksums"
MOST_BYTES = 1 << 20
LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")  # as sha256sum writes it


def op_published(request: dict[str, Any]) -> dict[str, Any]:
    """Absolute path -> sha256 of every line that the job has written there; the last word on a file counts.

    Lines that are none are left out. A relative path is meant from the folder that the job ran in.
    """
    folder = JobFolder.of(request["job"])
    try:
        with open_regular(folder.file(FILE)) as file:
            lines = file.read(MOST_BYTES).decode("utf-8", "replace").splitlines()
    except (FileNotFoundError, AgentError):
        return {"files": {}}
    top = folder.json("request.json").get("cwd", "/")
    found = [match for match in map(LINE.fullmatch, lines) if match]
    return {"files": {os.path.normpath(os.path.join(top, match[2])): match[1] for match in found}}
