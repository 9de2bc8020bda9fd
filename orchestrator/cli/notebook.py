"""Jupyter on a machine of a run: a job there that a port here leads to, for as long as somebody looks at it."""

from __future__ import annotations

import re
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable

from orchestrator.cli.reaching import Way
from orchestrator.transport.agent import Agent
from orchestrator.transport.commands import NO_JUPYTER, serve_jupyter, ssh_argv
from orchestrator.transport.job import Job
from orchestrator.words.errors import ConnectionLost, StepFailed, UsageError
from orchestrator.words.secret import Secret
from orchestrator.world.signals import told_to_stop

START_S = 120.0  # for Jupyter to say where it listens
FORWARD_S = 30.0  # for ssh to listen here
GRACE_S = 10.0  # for Jupyter to end
WHERE = re.compile(r"http://127\.0\.0\.1:([0-9]{1,5})/")
LAST_LINES = 10
INSTALL = (
    "name jupyterlab in a file of `requirements:`, or write `setup: pip install jupyterlab` in gpuplan.yaml, "
    "or take an image that has it"
)


class Notebook:
    """Jupyter on one machine."""

    def __init__(self, way: Way, agent: Agent, port: int) -> None:
        """`port`: here, where it is free; else another one."""
        self._way, self._agent, self._port = way, agent, port
        self._told, self._said = threading.Event(), ""
        self._forward: subprocess.Popen[bytes] | None = None
        self._began = time.monotonic()

    def serve(self, tell: Callable[[str], None]) -> None:
        """Start it, tell the link that opens it, and end it when Ctrl-C comes or it has ended.

        UsageError: it is not installed there. StepFailed: it ended by itself, or does not say where it listens.
        """
        token = secrets.token_urlsafe(32)
        job = f"open.{secrets.token_hex(8)}"
        with told_to_stop() as self._told:
            try:
                end = self._agent.run(self._job(job, token), 0, lambda text, _: self._hear(text, token, tell),
                                      stop=self._is_over)  # fmt: skip
            finally:
                self._close()
                self._end(job)
        if end is not None and end.exit == NO_JUPYTER:
            raise UsageError(f"Jupyter is not installed on {self._way.row.name}", remedy=INSTALL)
        if self._told.is_set():
            return
        last = "\n".join(self._said.splitlines()[-LAST_LINES:])
        why = "ended by itself" if end is not None else "did not begin to listen, or the way to it ended"
        raise StepFailed(f"Jupyter on {self._way.row.name} {why}\n{last}".rstrip())

    def _job(self, name: str, token: str) -> Job:
        """A service: the dead-man's switch waits for none. The token passes in memory, into the job's environment."""
        command, secret = serve_jupyter().text, {"JUPYTER_TOKEN": Secret(token)}
        return Job(id=name, command=command, cwd=self._agent.workspace, timeout_s=None, secrets=secret, service=True)

    def _hear(self, text: str, token: str, tell: Callable[[str], None]) -> None:
        self._said += text
        if self._forward is None and (found := WHERE.search(self._said)):
            port = _free_port(self._port)
            forward = [f"127.0.0.1:{port}:127.0.0.1:{found[1]}"]
            way = self._way
            argv = ssh_argv(way.address, way.key_file, way.known_hosts, "cat", forward=forward)  # ends with its input
            self._forward = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            _await_port(port, self._forward)
            tell(f"http://127.0.0.1:{port}/?token={token}")

    def _is_over(self) -> bool:
        late = self._forward is None and time.monotonic() - self._began > START_S
        return self._told.is_set() or late or (self._forward is not None and self._forward.poll() is not None)

    def _close(self) -> None:
        if self._forward:
            if self._forward.stdin:
                self._forward.stdin.close()
            self._forward.terminate()
            self._forward.wait()

    def _end(self, job: str) -> None:
        """End it there, unless the machine is gone, which is its end too."""
        try:
            if any(one.job == job for one in self._agent.jobs()):
                self._agent.stop(job, GRACE_S)
        except ConnectionLost:
            return


def _free_port(wanted: int) -> int:
    """That port of this computer, or any that is free."""
    for port in (wanted, 0):
        with socket.socket() as door:
            try:
                door.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(door.getsockname()[1])
    raise UsageError("no port of 127.0.0.1 is free", remedy="end what listens there")


def _await_port(port: int, forward: subprocess.Popen[bytes]) -> None:
    """Wait until ssh listens here. StepFailed: it does not."""
    limit = time.monotonic() + FORWARD_S
    while time.monotonic() < limit and forward.poll() is None:
        with socket.socket() as guest:
            guest.settimeout(1.0)
            if guest.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise StepFailed("ssh forwards no port to the machine", remedy="it says why above")
