"""The dead-man's switch: a machine that nobody asks after any more starts nothing new and ends its own bill.

heartbeat.json holds the newest beat. A detached process looks at its age: when it is too old, and no step runs any
more, it runs the shell text that ends the bill. Services do not count: they would never end by themselves.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from gpuplan_agent import locks
from gpuplan_agent.jobfolder import RUNNING, JobFolder
from gpuplan_agent.places import home, write_atomic
from gpuplan_agent.processes import boot_id, detach
from gpuplan_agent.wire import AgentError

LONGEST_LOOK_S = 15.0
RETRY_S = 60.0  # after an end_bill that failed, e.g. for want of a network
AGAIN_S = 0.5  # how often a running step is looked at once nobody asks any more
STOP_GRACE_S = 10.0


def op_heartbeat(request: dict[str, Any]) -> dict[str, Any]:
    """Start the switch or feed it. `deadman`: too late, it has ended the bill or is about to.

    `stop_after_s`, if given, also stops the running steps when no beat came for so long.
    """
    with locks.locked(os.path.join(home(), "deadman.lock")):
        if _has_fired():
            raise AgentError("deadman", "the dead-man's switch has ended this machine's bill")
        beat = {
            "at": _clock(),
            "deadman_s": float(request["deadman_s"]),
            "stop_after_s": request.get("stop_after_s"),
            "end_bill": request.get("end_bill", ""),
        }
        write_atomic(_beat(), json.dumps(beat).encode())
        if not locks.held(_alive()):
            holder = locks.take(_alive())
            detach(lambda: _stand_by(holder), os.path.join(home(), "deadman.err"))
            os.close(holder)
    return {}


def refuse_if_expired() -> None:
    """AgentError deadman: no heartbeat for too long, nothing new is started."""
    beat = _read()
    if _has_fired() or (beat and _clock() - beat["at"] > beat["deadman_s"]):
        raise AgentError("deadman", "no heartbeat for too long: nothing new is started on this machine")


def _stand_by(holder: int) -> None:
    """Wait for the heartbeat to stop and the steps to end, then end the bill. `holder` is the lock `alive`."""
    with open(os.path.join(home(), "deadman.pid"), "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    while True:
        beat = _read()
        age = _clock() - beat["at"]
        if beat["stop_after_s"] is not None and age > beat["stop_after_s"]:
            _stop_all()
        if age <= beat["deadman_s"]:
            time.sleep(min(LONGEST_LOOK_S, beat["deadman_s"] - age + 0.05))
        elif _steps_running():
            time.sleep(AGAIN_S)
        elif _fire(holder):
            return
        else:
            time.sleep(RETRY_S)


def _fire(holder: int) -> bool:
    """Run end_bill; True: there is nothing more to do. False: a beat came in the last moment, or end_bill failed."""
    import subprocess

    with locks.locked(os.path.join(home(), "deadman.lock")):
        beat = _read()
        if _clock() - beat["at"] <= beat["deadman_s"] or _steps_running():
            return False
        if not beat["end_bill"]:  # nothing to end here: the next heartbeat starts another switch
            os.close(holder)
            return True
        write_atomic(_fired(), boot_id().encode())
    with open(os.path.join(home(), "deadman.log"), "ab") as log:
        quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        failed = subprocess.run(["bash", "-c", "--", beat["end_bill"]], **quiet, check=False).returncode
    if failed:
        os.unlink(_fired())
    return not failed


def _steps_running() -> bool:
    return any(
        folder.state() == RUNNING and not folder.json("request.json").get("service") for folder in JobFolder.all()
    )


def _stop_all() -> None:
    from gpuplan_agent.jobs import ask_to_stop

    for folder in JobFolder.all():
        if folder.state() == RUNNING and not os.path.exists(folder.file("stop")):
            ask_to_stop(folder, STOP_GRACE_S)


def _clock() -> float:
    """Seconds that no clock setting moves, the same for all processes; a suspended machine's sleep counts (Linux)."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _read() -> dict[str, Any]:
    try:
        with open(_beat(), encoding="utf-8") as file:
            return dict(json.load(file))
    except FileNotFoundError:
        return {}


def _beat() -> str:
    return os.path.join(home(), "heartbeat.json")


def _fired() -> str:
    return os.path.join(home(), "deadman.fired")


def _has_fired() -> bool:
    """Whether the bill was ended since the machine started last: one that was started again begins anew."""
    try:
        with open(_fired(), encoding="utf-8") as file:
            return file.read() == boot_id()
    except FileNotFoundError:
        return False


def _alive() -> str:
    return os.path.join(home(), "deadman.alive")
