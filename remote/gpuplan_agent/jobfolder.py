"""What is on disk of a job, and what it says of the job's state.

~/.gpuplan/jobs/JOB/: request.json (without secrets), lock (held while it is being started), alive (held by its
supervisor for as long as that lives), pid (leader of the job's session), supervisor, log and log.*, sample.json,
metrics, progress and checksums (the job's own words), stdout/ (of its log what came on standard output), stop (somebody
asks for its end), exit.json (how it ended; written once, whole).
"""

from __future__ import annotations

import json
import os
from typing import Any

from gpuplan_agent.locks import held
from gpuplan_agent.places import file_name, home, write_atomic
from gpuplan_agent.wire import AgentError

NEW, RUNNING, ENDED = "new", "running", "ended"
SUPERVISOR_LOST = 255  # the exit code of a job whose supervisor died: how the job itself ended, nobody knows
BURIALS = 5  # times that what is left of it is looked for and killed


class JobFolder:
    """The files of one job."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def of(cls, job: str) -> JobFolder:
        """The folder of the job with this id, which need not exist."""
        if not isinstance(job, str) or not job:
            raise AgentError("bad_request", "a job needs an id")
        return cls(os.path.join(home(), "jobs", file_name(job)))

    @classmethod
    def all(cls) -> list[JobFolder]:
        """Every job of this machine, oldest id first."""
        root = os.path.join(home(), "jobs")
        names = sorted(os.listdir(root)) if os.path.isdir(root) else []
        return [
            cls(os.path.join(root, name)) for name in names if os.path.exists(os.path.join(root, name, "request.json"))
        ]

    @property
    def stdout(self) -> str:
        """The folder that standard output is kept in, in the form of a log."""
        return os.path.join(self.path, "stdout")

    def file(self, name: str) -> str:
        """Path of one of the job's files."""
        return os.path.join(self.path, name)

    def text(self, name: str) -> str:
        """What a file says; "" if it is not there."""
        try:
            with open(self.file(name), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def json(self, name: str) -> dict[str, Any]:
        """What a JSON file says; {} if it is not there."""
        text = self.text(name)
        found = json.loads(text) if text else {}
        return found if isinstance(found, dict) else {}

    def write(self, name: str, document: dict[str, Any]) -> None:
        """Write a JSON file whole."""
        write_atomic(self.file(name), json.dumps(document).encode())

    def number(self, name: str) -> int:
        """The process id in a file; 0 if it is not there."""
        text = self.text(name).strip()
        return int(text) if text.isdigit() else 0

    def state(self) -> str:
        """NEW, RUNNING or ENDED. A job whose supervisor died has ended; what is left of it is killed here."""
        if os.path.exists(self.file("exit.json")):
            return ENDED
        if not os.path.exists(self.file("request.json")):
            return NEW
        if held(self.file("alive")):
            return RUNNING
        if not os.path.exists(self.file("exit.json")):
            self._bury()
        return ENDED

    def end(self) -> dict[str, Any]:
        """How the job ended (only when ENDED)."""
        return self.json("exit.json")

    def _bury(self) -> None:
        """Write the end of a job whose supervisor was killed or whose machine went down."""
        import signal
        import time

        from gpuplan_agent.processes import carriers, send, send_session, started_at

        leader = self.number("pid")
        if leader and started_at(leader) == self.number("leader_started"):
            send_session(leader, signal.SIGKILL)
        for _ in range(BURIALS):  # who left the session still has the job's own variable; it may fork meanwhile
            left = carriers(b"GPUPLAN_METRICS=" + os.fsencode(self.file("metrics")))
            if not left:
                break
            send(left, signal.SIGKILL)
        began = os.stat(self.file("request.json")).st_mtime
        lost = {
            "exit": SUPERVISOR_LOST,
            "signal": None,
            "oom": False,
            "timed_out": False,
            "stopped": False,
            "lost": True,
        }
        log_bytes = os.stat(self.file("log")).st_size if os.path.exists(self.file("log")) else 0
        times = {"started": began, "ended": time.time(), "log_bytes": log_bytes}
        self.write("exit.json", {**lost, **times, "peaks": {}, "cards": [], "metrics": {}})
