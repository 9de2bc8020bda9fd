"""A scripted machine behind `Transport`: it answers the agent's protocol from memory, in the clock's time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from orchestrator.rehearsal.faults import Switchboard
from orchestrator.rehearsal.standins import armed_cuda_fault
from orchestrator.testing.files import WORKSPACE, Disk, FileAnswers, Json, Refusal
from orchestrator.testing.traffic import Flow, Move, Traffic
from orchestrator.words.errors import ConnectionLost
from orchestrator.words.transport import CommandResult
from orchestrator.words.waiting import Clock, Signal

FOREVER = math.inf
SAMPLE_S = 60.0  # between two samples of a job that has stalled
CHANGING = frozenset(
    {"start", "stop", "write", "remove", "lease", "put", "get"}
)  # operations that outlive who asked for them


@dataclass(frozen=True, slots=True)
class Script:
    """What a command does when it runs on the bench."""

    seconds: float = 1.0
    exit: int = 0
    output: str = ""  # standard output
    errors: str = ""  # standard error, after it
    creates: Mapping[str, str] = field(default_factory=dict)  # path below the workspace -> content
    metrics: Mapping[str, float | Json] = field(default_factory=dict)  # a figure, or all that a line says of it
    peaks: Mapping[str, float] = field(default_factory=dict)
    cards: tuple[str, ...] = ()  # that the agent sees at work
    course: Mapping[str, object] | None = None  # what they do over time, without `since`
    exits: tuple[int, ...] = ()  # of its first tries, one each; then `exit`
    stalls: int = 0  # so many of its first tries move no byte and never end, and their samples say so
    moves: tuple[Move, ...] = ()  # what it moves in place of `seconds`; what it creates arrives meanwhile, in order


@dataclass
class Job:
    """One job of a machine."""

    id: str
    script: Script
    exit: int
    began: float
    ends: float
    service: bool
    timed_out: bool = False
    stopped: bool = False
    lost: bool = False  # its machine was started again under it
    done: bool = False
    flow: Flow | None = None
    stalls: bool = False


@dataclass
class Door:
    """A port that a machine has open for others, by its address."""

    knocked: Signal
    came: int = 0


class ScriptedMachine(FileAnswers):
    """One machine. `scripts` tells what each command does; one that is not there takes a second and ends well.

    `put(url, data)` takes a part of an upload, as the store's signed URL would; it returns an HTTP status.
    """

    skew_s = 0.0  # by which its clock is ahead

    def __init__(  # noqa: PLR0913, a machine is made of many things, in one place (bench.py)
        self,
        clock: Clock,
        disk: Disk,
        scripts: Mapping[str, Script],
        *,
        gpus: tuple[str, ...] = (),
        put: Callable[[str, bytes], int] = lambda _url, _data: 200,
        traffic: Traffic | None = None,
        doors: dict[str, Door] | None = None,
        changed: Callable[[str], None] = lambda _what: None,
        faults: Switchboard | None = None,
    ) -> None:
        """`traffic`: what bytes take; None: no time. `changed` hears of each operation that has changed something.

        `faults`: the disasters of its GPUs.
        """
        super().__init__(clock, disk, put, traffic)
        self._scripts, self._gpus = scripts, gpus
        self._jobs: dict[str, Job] = {}
        self._metrics: dict[str, Json] = {}
        self.up = True
        self.cuts = 0  # so many of the next calls find the line dead
        self.hangs = False  # nobody is answered any more
        self.alone = False  # nobody is reached from here, and nobody reaches it
        self._doors = {} if doors is None else doors
        self.silent: frozenset[str] = frozenset()  # operations that are answered with {}
        self._changed, self._booted = changed, clock.monotonic()
        self._no_kernel = bool(faults and gpus and faults.take("torch-no-kernel"))
        self._cuda_fault = armed_cuda_fault(faults, clock.scaled(1.0)) if faults and gpus else None

    # -- Transport ------------------------------------------------------------------------------------------

    def run(self, command: str, *, stdin: bytes = b"", timeout_s: float = 60.0) -> CommandResult:
        """See Transport."""
        self._reach()
        if not stdin:
            return CommandResult(0 if self._listens() else 1, b"", b"")
        lines: list[bytes] = []
        self._answer(json.loads(stdin), lines.append, lambda: False, timeout_s)
        return CommandResult(0, b"\n".join(lines) + b"\n", b"")

    def stream(
        self,
        command: str,
        on_line: Callable[[bytes], None],
        *,
        stdin: bytes = b"",
        silence_s: float = 60.0,
        timeout_s: float = FOREVER,
        most_bytes: float = FOREVER,
        stop: Callable[[], bool] = lambda: False,
    ) -> int:
        """See Transport."""
        self._reach()
        return 0 if self._answer(json.loads(stdin), on_line, stop, min(silence_s, timeout_s)) else -1

    def send(self, command: str, chunks: Iterable[bytes], *, timeout_s: float = 3600.0) -> CommandResult:
        """See Transport."""
        self._reach()
        return CommandResult(0, b"", b"")

    def fetch(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """See Transport."""
        self._reach()
        if path not in self.disk.files:
            raise FileNotFoundError(path)
        yield self.disk.files[path][offset:]

    def close(self) -> None:
        """See Transport."""

    # -- the world's hand -----------------------------------------------------------------------------------------

    def end(self) -> None:
        """The machine is no more: what runs on it ends without a trace."""
        self._settle()
        self.up = False

    def hang(self) -> None:
        """It answers nobody any more; what runs goes on."""
        self.hangs = True

    def go_on_from(self, before: ScriptedMachine) -> None:
        """This is that machine, started again: it knows its jobs, and nobody knows how those ended that ran."""
        self._jobs = before._jobs
        for job in self._jobs.values():
            job.lost, job.done = job.lost or not job.done, True

    def _reach(self) -> None:
        self._settle()
        if self.cuts:
            self.cuts -= 1
            raise ConnectionLost("the line was cut")
        if not self.up:
            raise ConnectionLost("nobody answers")
        if self.hangs:
            raise ConnectionLost("it does not answer")

    def _settle(self) -> None:
        """Bring every job to where it is by now."""
        now = self._clock.monotonic()
        for job in self._jobs.values():
            if job.flow and self._traffic and self.up and not job.done:
                job.ends = self._traffic.ends(job.id)
                created = list(job.script.creates.items())
                self._write(created[: math.floor(job.flow.progress * len(created))])
            if self.up and not job.done and job.ends <= now:
                job.done = True
                if job.exit == 0 and not job.timed_out and not job.stopped:
                    self._write(list(job.script.creates.items()))

    def _listens(self) -> bool:
        return any(job.service and not job.done for job in self._jobs.values())

    # -- the agent's operations -----------------------------------------------------------------------------------

    def _answer(self, request: Json, say: Callable[[bytes], None], stop: Callable[[], bool], limit: float) -> bool:
        """Say every line of the reply; False: it was stopped before its end."""
        op = str(request["op"])
        if op in self.silent:
            say(b"{}")
            self._clock.signal().wait(stop, limit)
            return not stop()
        try:
            if op == "watch":
                if (watched := self._watch(request, say, stop)) is None:
                    return False
                reply = watched
            elif op == "put":
                reply = self._send_parts(request, say)
            elif op == "pack":
                reply = self._pack(request, say)
            elif op == "get":
                reply = self._fetch_files(request, say)
            elif op == "door":
                reply = self._hold_open(request, say)
            else:
                reply = getattr(self, f"_op_{op}")(request)
        except Refusal as no:
            say(json.dumps(no.reply).encode())
            return True
        if op in CHANGING:
            self._changed(f"machine: {op}")
        say(json.dumps({"ok": True, **reply}).encode())
        return True

    def _op_hello(self, _request: Json) -> Json:
        gpus = [{"index": n, "name": name, "memory_mib": 81920} for n, name in enumerate(self._gpus)]
        now = self._clock.wall().timestamp() + self.skew_s
        facts: Json = {"agent": "bench", "python": "3.11", "boot_id": "b", "cores": 8, "user": "root", "time": now}
        return {**facts, "workspace": WORKSPACE, "memory_mib": 65536, "disk_free_mib": 4 << 20, "gpus": gpus}

    def _op_probe(self, request: Json) -> Json:
        fault, wanted = self._cuda_fault, range(int(request["gpus"]))
        if missing := [n for n in wanted if n >= len(self._gpus)]:
            raise Refusal("no_gpu", f"GPU {missing[0]}: error 101: invalid device ordinal")
        lasts = fault and (fault.lasts_s is None or self._clock.monotonic() < self._booted + fault.lasts_s)
        if fault and lasts and (failing := [n for n in wanted if fault.gpus is None or n in fault.gpus]):
            raise Refusal("gpu_fault", f"GPU {failing[0]}: error 802: system not yet initialized")
        return {}

    def _op_nothing(self, _request: Json) -> Json:
        return {}

    _op_heartbeat = _op_nothing

    def _op_bootstrap(self, request: Json) -> Json:
        if self._no_kernel and request.get("gpus"):
            raise Refusal("torch", "torch 2.8.0 does not compute on NVIDIA H100: no kernel image is available")
        return {}

    def _op_view(self, _request: Json) -> Json:
        return {"attach": ""}

    def _op_start(self, request: Json) -> Json:
        job = str(request["job"])
        if job not in self._jobs:
            command = str(request["command"])
            script = self._scripts.get(command, Script())
            tries = self.disk.runs.count(command)
            self.disk.runs.append(command)
            code = script.exits[tries] if tries < len(script.exits) else script.exit
            now, limit = self._clock.monotonic(), request.get("timeout_s") or FOREVER
            stalls = tries < script.stalls
            lasts = FOREVER if stalls or (request.get("service") and not code) else script.seconds
            self._jobs[job] = Job(job, script, code, now, now + min(lasts, limit), bool(request.get("service")))
            self._jobs[job].timed_out, self._jobs[job].stalls = limit < lasts, stalls
            if self._traffic and script.moves:
                self._jobs[job].flow = self._traffic.begin(job, script.moves)
                self._settle()
        return {"state": "ended" if self._jobs[job].done else "running"}

    def _watch(self, request: Json, say: Callable[[bytes], None], stop: Callable[[], bool]) -> Json | None:
        job = self._job(request)
        text, offset = job.script.output, int(request.get("offset", 0))
        if not request.get("stdout"):
            text += job.script.errors
        if offset < len(text):
            say(json.dumps({"log": text[offset:], "offset": len(text)}).encode())
        while not job.done:
            left = job.ends - self._clock.monotonic()
            wait = None if math.isinf(left) else max(left, 0.0)
            if job.stalls:
                wait = min(left, SAMPLE_S)
                sample: Json = {"at": self._clock.now().timestamp(), "gpus": [], "disk_free_mib": 1, "moved_bytes": 0}
                say(json.dumps({"sample": sample}).encode())
            self._clock.signal().wait(lambda: stop() or job.done or not self.up or self.hangs, wait)
            self._reach()
            if stop() and not job.done:
                return None
        return {"end": self._end_of(job)}

    def _end_of(self, job: Job) -> Json:
        start = self._clock.now().timestamp() - (self._clock.monotonic() - job.began)
        code = 143 if job.stopped or job.timed_out or job.lost else job.exit
        ended = start + min(job.ends, self._clock.monotonic()) - job.began
        facts = {"exit": code, "signal": None, "oom": False, "timed_out": job.timed_out, "stopped": job.stopped}
        sizes = {
            "lost": job.lost,
            "started": start,
            "ended": ended,
            "log_bytes": len(job.script.output + job.script.errors),
        }
        said = {name: f if isinstance(f, Mapping) else {"value": f} for name, f in job.script.metrics.items()}
        seen = {"peaks": dict(job.script.peaks), "cards": list(job.script.cards), "metrics": said}
        if job.script.course:
            seen["course"] = {"since": start, **job.script.course}
        return {**facts, **sizes, **seen}

    def _op_stop(self, request: Json) -> Json:
        job = self._job(request)
        if not job.done:
            job.stopped, job.done, job.ends = True, True, self._clock.monotonic()
        return {"end": self._end_of(job)}

    def _op_jobs(self, _request: Json) -> Json:
        rows = [
            {"job": j.id, "state": "ended" if j.done else "running", "service": j.service,
             "end": self._end_of(j) if j.done else None}
            for j in self._jobs.values()
        ]  # fmt: skip
        return {"jobs": rows}

    def _job(self, request: Json) -> Job:
        if (job := self._jobs.get(str(request["job"]))) is None:
            raise Refusal("no_job", f"there is no job {request['job']}")
        return job

    def _hold_open(self, request: Json, say: Callable[[bytes], None]) -> Json:
        door = self._doors[str(request["address"])] = Door(self._clock.signal())
        say(json.dumps({"port": 1}).encode())
        door.knocked.wait(lambda: door.came >= int(request["guests"]), float(request["within_s"]))
        del self._doors[str(request["address"])]
        return {"came": door.came}

    def _op_knock(self, request: Json) -> Json:
        door = self._doors.get(str(request["address"]))
        if door is None or self.alone:
            return {"why": "timed out"}
        door.came += 1
        door.knocked.notify()
        return {"why": ""}
