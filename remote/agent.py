"""The agent: gpuplan's hand on a rented machine. Standard library only, Python 3.8 or newer.

A request is a JSON object with the key `op` on standard input, its answer JSON lines on standard output. The last line
is {"ok": true, ...} or {"ok": false, "code": ..., "message": ...}; lines before it are progress, and an empty object
says no more than that the agent lives. Each operation is a function of one module of gpuplan_agent, which is loaded
only when it is asked for: starting up is most of what a request costs. One process answers one request, or, called
with the word `standing`, as many as come (gpuplan_agent/standing.py).
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
from typing import Any

MODULES = {
    "hello": "machine",
    "probe": "machine",
    "bootstrap": "machine",
    "code": "codefolder",
    "start": "jobs",
    "stop": "jobs",
    "jobs": "jobs",
    "watch": "watching",
    "view": "viewing",
    "files": "files",
    "used": "files",
    "read": "files",
    "write": "files",
    "list": "files",
    "remove": "files",
    "clean_incomplete": "files",
    "lease": "leases",
    "heartbeat": "deadman",
    "checksums": "checksums",
    "pack": "packing",
    "put": "uploads",
    "get": "fetching",
    "published": "published",
    "door": "meeting",
    "knock": "meeting",
}
ROLES = {"cuda": "cuda", "follow": "viewing"}  # what the agent runs of itself: agent ROLE ARGUMENTS


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Carry out one request and return its last line. Errors are values here: nothing is raised."""
    wire = importlib.import_module("gpuplan_agent.wire")
    try:
        op = request["op"]
        if op not in MODULES:
            raise wire.AgentError("bad_request", f"there is no operation {op!r}")
        module = importlib.import_module(f"gpuplan_agent.{MODULES[op]}")
        return {"ok": True, **getattr(module, f"op_{op}")(request)}
    except wire.AgentError as error:
        return {"ok": False, "code": error.code, "message": error.message, **error.facts}
    except BrokenPipeError:
        raise
    except OSError as error:
        code = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "os_error"
        return {"ok": False, "code": code, "message": str(error)}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return {"ok": False, "code": "bad_request", "message": f"{type(error).__name__}: {error}{_place(error)}"}


def _place(error: Exception) -> str:
    """Where it was raised, for whoever has to find out whether the request or the agent is wrong."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})" if trace else ""  # noqa: PTH119


def main() -> int:
    """Answer the request on standard input, or play the role that the arguments name."""
    if sys.argv[1:] == ["standing"]:
        return int(importlib.import_module("gpuplan_agent.standing").Standing(answer, MODULES).serve())
    if len(sys.argv) > 1:
        role = importlib.import_module(f"gpuplan_agent.{ROLES[sys.argv[1]]}")
        return int(role.main(sys.argv[2:]))
    try:
        request = json.loads(sys.stdin.buffer.read())
    except ValueError as error:
        reply = {"ok": False, "code": "bad_request", "message": f"the request is not JSON: {error}"}
    else:
        reply = answer(request)
    sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    try:
        status = main()
    except BrokenPipeError:  # the controller hung up: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 1
    sys.exit(status)
