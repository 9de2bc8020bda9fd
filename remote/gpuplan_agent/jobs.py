"""Starting jobs, stopping them, listing them. A job is started once, however often it is asked for."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from gpuplan_agent import codefolder, deadman, locks
from gpuplan_agent.jobfolder import ENDED, NEW, RUNNING, JobFolder
from gpuplan_agent.places import caches, machine_env, remove, search_path, workspace
from gpuplan_agent.processes import detach
from gpuplan_agent.wire import AgentError, alive, emit

LONGEST_COMMAND = 128 * 1024 - 1  # bytes: what Linux takes as one argument
KILL_ALLOWANCE_S = 30.0  # beyond the grace: what the kernel may need to end a process that is writing to a disk


def op_start(request: dict[str, Any]) -> dict[str, Any]:
    """Start a job that has not run yet; of any other say only where it stands.

    `clears` is removed first. With an `offset` the job is then followed from there, as `watch` does.
    """
    folder = JobFolder.of(request["job"])
    os.makedirs(folder.path, mode=0o700, exist_ok=True)
    with locks.locked(folder.file("lock")):
        state = folder.state()
        if state == NEW:
            _check(request)
        if request.get("clears"):
            remove(request, request["clears"])
        if state == NEW:
            _launch(folder, request)
            state = RUNNING
    if "offset" not in request:
        return {"state": state}
    from gpuplan_agent.watching import op_watch

    emit({"state": state})
    return op_watch(request)


def _check(request: dict[str, Any]) -> None:
    """Refuse what cannot be started, before anything is written down."""
    deadman.refuse_if_expired()
    if not os.path.isabs(request["cwd"]):
        raise AgentError("bad_request", f"cwd {request['cwd']!r} is not absolute")
    if not os.path.isdir(request["cwd"]):
        raise AgentError("no_cwd", f"there is no folder {request['cwd']}")
    if len(os.fsencode(request["command"])) > LONGEST_COMMAND:
        raise AgentError("bad_request", f"the command is longer than {LONGEST_COMMAND} bytes: put it into a script")
    for name, text in {**request.get("env", {}), **request.get("secrets", {})}.items():
        if not name or "=" in name or "\0" in name + str(text):
            raise AgentError("bad_request", f"the variable {name!r} cannot be set")


def _launch(folder: JobFolder, request: dict[str, Any]) -> None:
    """Fork the supervisor. It holds the lock `alive` from before this returns until it dies.

    The secrets pass in memory, from this process to its fork, and into the job's environment: they are in no file.
    """
    from gpuplan_agent.supervisor import Supervisor

    secrets = request.get("secrets", {})
    env = {**caches(), **machine_env(), "PYTHONUNBUFFERED": "1", **request.get("env", {}), **secrets}
    env["PATH"] = search_path() if "PATH" not in request.get("env", {}) else search_path(request["env"]["PATH"])
    env["WORKSPACE"] = workspace(request)
    if request.get("code"):
        env["GPUPLAN_CODE"], env["GPUPLAN_CODE_HASH"] = codefolder.folder(request["code"]), request["code"]
    env["GPUPLAN_METRICS"] = folder.file("metrics")
    env["GPUPLAN_PROGRESS"] = folder.file("progress")
    env["GPUPLAN_CHECKSUMS"] = folder.file("checksums")
    kept = {key: request.get(key) for key in ("job", "command", "cwd", "env", "timeout_s", "service")}
    holder = locks.take(folder.file("alive"))
    folder.write("request.json", {**kept, "secrets": sorted(secrets), "at": time.time()})
    supervisor = Supervisor(
        folder, request["command"], request["cwd"], env, request.get("timeout_s"), list(secrets.values())
    )
    detach(supervisor.run, folder.file("supervisor.err"))
    os.close(holder)


def op_stop(request: dict[str, Any]) -> dict[str, Any]:
    """End a job: SIGTERM to all of it, after `grace_s` SIGKILL. Says how it ended; one that has ended is left alone."""
    folder = JobFolder.of(request["job"])
    grace = float(request.get("grace_s", 10.0))
    deadline = time.monotonic() + grace + KILL_ALLOWANCE_S
    ask_to_stop(folder, grace)
    beat = time.monotonic()
    while folder.state() not in (ENDED, NEW):
        if time.monotonic() > deadline:
            raise AgentError("will_not_end", f"job {request['job']} does not end, not even by SIGKILL")
        if time.monotonic() - beat > 4.0:
            alive()
            beat = time.monotonic()
        time.sleep(0.02)
    if folder.state() == NEW:
        raise AgentError("no_job", f"there is no job {request['job']}")
    return {"end": folder.end()}


def ask_to_stop(folder: JobFolder, grace_s: float) -> None:
    """Tell a job's supervisor, if it lives, to end the job."""
    if folder.state() in (ENDED, NEW):
        return
    folder.write("stop", {"grace_s": grace_s})
    supervisor = folder.number("supervisor")
    if supervisor:
        try:
            os.kill(supervisor, signal.SIGTERM)
        except ProcessLookupError:  # it ended just now
            return


def op_jobs(_request: dict[str, Any]) -> dict[str, Any]:
    """Every job of this machine with its state; of those that run the newest sample, of the others the end."""
    return {"jobs": [_entry(folder) for folder in JobFolder.all()]}


def _entry(folder: JobFolder) -> dict[str, Any]:
    asked = folder.json("request.json")
    entry = {
        "job": asked.get("job"),
        "state": folder.state(),
        "service": bool(asked.get("service")),
        "at": asked.get("at"),
    }
    key, file = ("end", "exit.json") if entry["state"] == ENDED else ("sample", "sample.json")
    return {**entry, key: folder.json(file)}
