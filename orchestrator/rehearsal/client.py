"""The controller's side of a rehearsal: start a daemon or find one, ask it, end it. Standard library only."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orchestrator
from orchestrator.words.errors import GpuplanError, UsageError

FACTS = "rehearsal.json"
START_S = 30.0
STOP_S = 20.0
CALL_S = 30.0
ALREADY_RUNNING = 9


@dataclass(frozen=True, slots=True)
class CloudAccess:
    """How an emulated cloud is reached. `graphql`: None where it has none; `ssh_port`: of its machines, None: 22."""

    url: str
    api_key: str
    graphql: str | None = None
    ssh_port: int = 22


@dataclass(frozen=True, slots=True)
class S3Access:
    """How the emulated S3 is reached."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str
    region: str


@dataclass(frozen=True, slots=True)
class Conditions:
    """How unkind a rehearsal is from its first to its last second."""

    network: str = ""  # RATE,DELAY of each line; "": as fast as this computer
    clock_skew_s: float = 0.0  # by how much the machines' clocks are ahead

    def __str__(self) -> str:
        """`network 100mbit,50ms, clocks 600 s ahead`."""
        way = "ahead" if self.clock_skew_s > 0 else "behind"
        skew = f"clocks {abs(self.clock_skew_s):g} s {way}" if self.clock_skew_s else ""
        return ", ".join(filter(None, [self.network and f"network {self.network}", skew])) or "this computer's own"


@dataclass(frozen=True, slots=True)
class Facts:
    """Addresses and keys of everything that is emulated: what rehearsal.json says."""

    pid: int
    guard_pid: int
    time_scale: float
    control: str
    control_key: str
    clouds: dict[str, CloudAccess]  # by the provider's name
    s3: S3Access
    gcs: str  # its endpoint
    hub: str  # likewise
    hub_token: str
    machine_env: dict[str, str]  # what emulated machines add to every step's environment
    git_env: dict[str, str]  # the part of it by which git finds the mirror
    conditions: Conditions

    @staticmethod
    def read(file: Path) -> Facts:
        """What the file says. OSError, ValueError: it is not there, or not whole."""
        said: dict[str, Any] = json.loads(file.read_text())
        try:
            runpod, lambdalabs = said["runpod"], said["lambda"]
            return Facts(
                **{name: said[name] for name in ("pid", "guard_pid", "time_scale", "control", "control_key")},
                clouds={
                    "runpod": CloudAccess(runpod["rest"], runpod["api_key"], graphql=runpod["graphql"]),
                    "lambda": CloudAccess(lambdalabs["url"], lambdalabs["api_key"], ssh_port=lambdalabs["ssh_port"]),
                },
                s3=S3Access(**said["s3"]),
                gcs=said["gcs"]["endpoint"],
                hub=said["hub"]["endpoint"],
                hub_token=said["hub"]["token"],
                machine_env=said["machine_env"],
                git_env=said["git"]["env"],
                conditions=Conditions(said["network"], said["clock_skew_s"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{file} is of another version: {error!r}") from error


class Rehearsal:
    """A running rehearsal, known by its rehearsal.json."""

    def __init__(self, file: Path, facts: Facts) -> None:
        self.file = file
        self.facts = facts

    def invoice(self) -> dict[str, Any]:
        """What the clouds have charged: decimal strings by name, their total, and each vendor's billing unit."""
        return dict(self._call("invoice"))

    def log(self) -> list[dict[str, Any]]:
        """Every request that changed something in a cloud, in order."""
        return list(self._call("log"))

    def alive(self) -> dict[str, Any]:
        """The names of the machines and volumes that exist, and how many processes run on the machines."""
        return dict(self._call("alive"))

    def faults(self) -> list[dict[str, Any]]:
        """What is armed and what has happened."""
        return list(self._call("faults"))

    def arm(self, fault: str) -> None:
        """Arm NAME or NAME@ARG. UsageError says what is wrong with it."""
        name, _, arg = fault.partition("@")
        self._call("fault", {"name": name, "arg": arg or None})

    def step_started(self, step: str, machine: str) -> None:
        """Say that a step began on the machine of that name: disasters at that step happen now."""
        self._call("step", {"step": step, "machine": machine, "state": "started"})

    def step_ended(self, step: str, machine: str) -> None:
        """Say that a step ended."""
        self._call("step", {"step": step, "machine": machine, "state": "ended"})

    def stop(self) -> None:
        """End everything and wait until no process of the rehearsal is left. Idempotent."""
        try:
            self._call("stop", {})
        except GpuplanError:
            if self._living():  # it hangs: the guard ends the rest
                _kill(self.facts.pid)
        deadline = time.monotonic() + STOP_S
        while self._living():
            if time.monotonic() > deadline:
                raise GpuplanError(f"the rehearsal in {self.file.parent} does not end", remedy=f"kill {self.facts.pid}")
            time.sleep(0.02)

    def _living(self) -> bool:
        return _alive(self.facts.pid) or _alive(self.facts.guard_pid)

    def _call(self, what: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the address is the daemon's own
            f"{self.facts.control}/{what}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Rehearsal-Key": self.facts.control_key, "Content-Type": "application/json"},
        )
        try:
            with _OPENER.open(request, timeout=CALL_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise UsageError(str(json.load(error)["error"])) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise GpuplanError(
                f"the rehearsal of {self.file} does not answer: {error}",
                remedy="it ended with its run or after idle minutes: begin a new one with --dry-run",
            ) from None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through a proxy


class _Daemon(subprocess.Popen[bytes]):
    """A process that is meant to outlive us: no warning when it does."""

    def __del__(self) -> None:
        self.poll()


_started: dict[int, _Daemon] = {}  # those of this process, to be buried when they end


def start(
    folder: Path,
    *,
    time_scale: float = 0.02,
    idle_minutes: float = 10,
    faults: Sequence[str] = (),
    conditions: Conditions | None = None,
    fixtures: Path | None = None,
) -> Rehearsal:
    """Return the rehearsal that is alive in this folder, or start one there with these faults armed.

    `fixtures`: a folder with what doctor --live has written of the real clouds; a new one's do as they did.

    The daemon has a session of its own and outlives this process. GpuplanError when it does not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FACTS
    if (found := _find(file)) is not None:
        return found
    with _interruptions_wait() as no_longer:
        daemon = _spawn(folder, _arguments(folder, time_scale, idle_minutes, conditions or Conditions(), fixtures))
        try:
            no_longer()
            rehearsal = _await(file, daemon)
        except BaseException:  # Ctrl-C while it comes up: nobody would end it
            _end(daemon)
            raise
    if rehearsal.facts.pid == daemon.pid:
        try:
            for fault in faults:
                rehearsal.arm(fault)
        except GpuplanError:
            rehearsal.stop()
            raise
    return rehearsal


def attach(file: Path) -> Rehearsal:
    """Return the rehearsal that wrote this file. UsageError when it is gone."""
    found = _find(file)
    if found is None:
        raise UsageError(f"no rehearsal is running behind {file}", remedy="begin one with --dry-run --cloud DIR")
    return found


def _find(file: Path) -> Rehearsal | None:
    try:
        facts = Facts.read(file)
    except (OSError, ValueError):
        return None
    rehearsal = Rehearsal(file, facts)
    try:
        rehearsal.faults()
    except GpuplanError:
        return None
    return rehearsal


def _arguments(
    folder: Path, time_scale: float, idle_minutes: float, conditions: Conditions, fixtures: Path | None
) -> list[str]:
    said = ["--folder", str(folder.resolve()), "--time-scale", str(time_scale), "--idle-minutes", str(idle_minutes)]
    said += [f"--network={conditions.network}", f"--clock-skew={conditions.clock_skew_s}"]
    return [*said, "--fixtures", str(fixtures.resolve())] if fixtures else said


def _spawn(folder: Path, arguments: Sequence[str]) -> _Daemon:
    root = str(Path(orchestrator.__file__).resolve().parent.parent)
    program = f"import sys; sys.path.insert(0, {root!r}); {_RUN}"
    command = [sys.executable, "-P", "-c", program, *arguments]  # -P: not the caller's folder
    with (folder / "daemon.log").open("ab") as log:
        daemon = _Daemon(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=folder)
    _started[daemon.pid] = daemon
    return daemon


_RUN = "from orchestrator.rehearsal.daemon import main; sys.exit(main(sys.argv[1:]))"


@contextmanager
def _interruptions_wait() -> Iterator[Callable[[], None]]:
    """Ctrl-C and its like are heard when what this yields is called: a process half begun has no name to end it by."""
    if threading.current_thread() is not threading.main_thread():  # the only one that they are raised in
        yield lambda: None
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if callable(signal.getsignal(number))  # the others raise nothing
    }

    def no_longer() -> None:
        for number in list(before):
            signal.signal(number, before.pop(number))
        while came:
            signal.raise_signal(came.pop())

    try:
        yield no_longer
    finally:
        no_longer()


def _await(file: Path, daemon: _Daemon) -> Rehearsal:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        code = daemon.poll()
        if (code is None or code == ALREADY_RUNNING) and file.exists() and (found := _find(file)) is not None:
            return found
        if code not in {None, ALREADY_RUNNING}:
            break
        time.sleep(0.01)
    _end(daemon)
    tail = (file.parent / "daemon.log").read_text(errors="replace").splitlines()[-1:]
    raise GpuplanError(
        f"the rehearsal's daemon did not start: {' '.join(tail) or 'it said nothing'}",
        remedy=f"see {file.parent / 'daemon.log'}; the dry run needs gpuplan[rehearsal]",
    )


def _alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    if pid in _started:
        return _started[pid].poll() is None
    from orchestrator.rehearsal import processes

    process = processes.table().get(pid)
    return process is not None and process.state != "Z"


def _end(daemon: _Daemon) -> None:
    """End one that is coming up, and what it may have started; it is gone when this returns."""
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(STOP_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
