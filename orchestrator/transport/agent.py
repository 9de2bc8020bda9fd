"""The controller's side of the agent: one typed method for each thing that can be asked of a machine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from orchestrator.transport import bundle, commands
from orchestrator.transport.limits import LONGEST_REPLY, Limits
from orchestrator.transport.replies import (
    AgentFailed,
    Checksums,
    FileInfo,
    Hello,
    JobEnd,
    JobInfo,
    Lease,
    Sample,
    SentPart,
    failure,
)
from orchestrator.words.errors import ConnectionLost, GpuplanError, StepFailed
from orchestrator.words.ports import CommandResult, SignedPart, Transport
from orchestrator.words.secret import Secret

NOISE = 1000  # bytes that are kept of what is no answer


class Agent:
    """The agent of one machine. Thread-safe as far as its transport is.

    ConnectionLost: the machine cannot be reached; what was asked for may have happened (all of it may be asked again).
    AgentFailed: it was reached and says no, or nothing that makes sense in its time; `code` tells why.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        workspace: str,
        source: Path | None = None,
        check: Callable[[], None] = lambda: None,
        limits: Limits = Limits(),  # noqa: B008  it never changes
    ) -> None:
        """`workspace` is where the provider mounts the volume; an emulated host knows better. `source`: remote/.

        `check` raises when what takes long is to be given up: it is asked while a machine hashes, sends or installs.
        """
        self._check, self._limits = check, limits
        self.transport = transport
        self.workspace = workspace
        self._bundle = bundle.load(source)
        self._call = commands.call_agent(self._bundle.digest).text

    # --- the machine ---

    def install(self) -> None:
        """Push the agent if this version of it is not there; whole or not at all."""
        command = commands.install_agent(self._bundle.digest).text
        result = self.transport.send(command, [self._bundle.tar], timeout_s=self._patience())
        if result.exit:
            said = result.stderr.decode("utf-8", "replace").strip()
            raise StepFailed(
                f"the agent cannot be installed on the machine: {said or f'exit code {result.exit}'}",
                remedy="the machine needs tar and Python 3.8 or newer",
            )

    def hello(self) -> Hello:
        """What the machine is. Its workspace, absolute, is used from now on."""
        found = Hello.read(self._ask("hello"))
        self.workspace = found.workspace
        return found

    def probe(self, gpus: int) -> None:
        """Make a real CUDA call on each of so many GPUs. AgentFailed no_gpu or gpu_fault."""
        each = self._limits.probe_s
        self._stream("probe", {"gpus": gpus}, silence_s=each, timeout_s=each * (gpus + 1))

    def bootstrap(self, payload: str, on_log: Callable[[str], None] = lambda _: None) -> None:
        """Make the machine's Python environment, from the payload's bootstrap.sh. Idempotent."""
        facts, limit = {"payload": payload}, self._limits.bootstrap_s
        self._stream("bootstrap", facts, lambda line: on_log(line.get("log", "")), silence_s=limit, timeout_s=limit)

    def view(self) -> str:
        """Start the tmux session with the live logs and return the command that attaches to it; "": no tmux there."""
        return str(self._ask("view")["attach"])

    def heartbeat(self, deadman_s: float, end_bill: str, *, stop_after_s: float | None = None) -> None:
        """Feed the dead-man's switch (and start it). AgentFailed deadman: it has acted.

        After `deadman_s` without a heartbeat nothing new starts, and when no step runs the shell text `end_bill` does.
        `stop_after_s`: running steps are stopped after so long.
        """
        self._ask("heartbeat", deadman_s=deadman_s, end_bill=end_bill, stop_after_s=stop_after_s)

    # --- jobs ---

    def start(
        self,
        job: str,
        command: str,
        *,
        cwd: str,
        env: dict[str, str],
        secrets: dict[str, Secret],
        timeout_s: float | None,
        service: bool = False,
    ) -> str:
        """Start a job, once for its id: "running" or "ended". `cwd` absolute; `timeout_s` None: as long as it takes."""
        texts = {name: secret.reveal() for name, secret in secrets.items()}
        job_facts: dict[str, Any] = {"job": job, "command": command, "cwd": cwd, "env": env, "secrets": texts}
        return str(self._ask("start", **job_facts, timeout_s=timeout_s, service=service)["state"])

    def follow(
        self,
        job: str,
        offset: int,
        on_log: Callable[[str, int], None],
        on_sample: Callable[[Sample], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
        timeout_s: float = float("inf"),
    ) -> JobEnd | None:
        """Stream a job's log from `offset` to its end, and return how it ended; None: `stop` turned true first.

        `timeout_s`: the job must have ended by then, whatever the machine says of it (AgentFailed late).
        `on_log` gets text and the offset to go on from after a ConnectionLost. A line that redraws itself comes as its
        newest states, each ended by a carriage return.
        """

        def line(reply: dict[str, Any]) -> None:
            if "log" in reply:
                on_log(reply["log"], reply["offset"])
            elif "sample" in reply:
                on_sample(Sample.read(reply["sample"]))

        facts, endless = {"job": job, "offset": offset}, float("inf")
        last = self._stream("watch", facts, line, timeout_s=timeout_s, most_bytes=endless, stop=stop)
        return JobEnd.read(last["end"]) if last else None

    def stop(self, job: str, grace_s: float = 10.0) -> JobEnd:
        """End a job: SIGTERM, after `grace_s` SIGKILL, to all of it. One that has ended is left alone."""
        facts, limit = {"job": job, "grace_s": grace_s}, grace_s + self._limits.stop_s  # nothing is more urgent
        last = self._stream("stop", facts, silence_s=limit, timeout_s=limit, stop=lambda: False)
        return JobEnd.read(self._complete(last)["end"])

    def jobs(self) -> list[JobInfo]:
        """Every job that was started on the machine."""
        return [JobInfo.read(entry) for entry in self._ask("jobs")["jobs"]]

    # --- files ---

    def files(
        self,
        root: str,
        patterns: Iterable[str],
        *,
        sha256: bool = False,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> list[FileInfo]:
        """Regular files below `root` that match a glob (** spans folders), without links. `on_bytes`: hashed so far."""
        request = {"root": root, "patterns": list(patterns), "sha256": sha256}
        last = self._stream("files", request, lambda line: on_bytes(line.get("hashed", 0)))
        return [FileInfo.read(entry) for entry in self._complete(last)["files"]]

    def read(self, path: str) -> str | None:
        """A small text file, relative to the workspace; None: there is none."""
        text = self._ask("read", path=path)["text"]
        return None if text is None else str(text)

    def write(self, path: str, text: str) -> None:
        """Replace a small text file below the workspace's .gpuplan, whole."""
        self._ask("write", path=path, text=text)

    def names(self, path: str) -> list[str]:
        """Names in a folder, sorted; [] when there is no such folder."""
        return [str(name) for name in self._ask("list", path=path)["names"]]

    def remove(self, path: str) -> None:
        """Remove a file or folder below the workspace's .gpuplan. Idempotent."""
        self._ask("remove", path=path)

    def clean_incomplete(self, folder: str) -> int:
        """Remove what killed downloads of the hub's client left in a checkout; returns the bytes freed."""
        return int(self._ask("clean_incomplete", dir=folder)["bytes"])

    def lease(self, name: str, holder: str, ttl_s: float, action: str = "acquire") -> Lease:
        """Acquire, renew or release a lease on the volume. LeaseHeld: somebody else has it."""
        return Lease.read(self._ask("lease", name=name, holder=holder, ttl_s=ttl_s, action=action))

    def await_lease(self, name: str, holder: str, ttl_s: float) -> Lease:
        """Acquire a lease that somebody else has once nobody has renewed it for `ttl_s`. LeaseHeld: somebody did."""
        facts = {"name": name, "holder": holder, "ttl_s": ttl_s, "action": "await"}
        return Lease.read(self._complete(self._stream("lease", facts)))

    # --- artifacts ---

    def checksums(
        self, path: str, part_bytes: int, *, md5: bool = False, on_bytes: Callable[[int], None] = lambda _: None
    ) -> Checksums:
        """Checksums of a file and of its parts. `md5` only on request: Google's store reports that one."""
        request = {"path": path, "part_bytes": part_bytes, "md5": md5}
        last = self._stream("checksums", request, lambda line: on_bytes(line.get("hashed", 0)))
        return Checksums.read(self._complete(last))

    def put(
        self,
        path: str,
        parts: Iterable[SignedPart],
        *,
        ordered: bool = False,
        on_part: Callable[[SentPart], None] = lambda _: None,
    ) -> list[SentPart]:
        """Have the machine PUT the parts, four at a time or in order. What the store refused is in the result's error.

        In order, the first refusal is the last entry. A part that was not sent is missing.
        """
        rows = [
            {
                "number": signed.part.number,
                "offset": signed.part.offset,
                "length": signed.part.length,
                "url": signed.url,
                "headers": signed.headers,
                "accept": list(signed.accept),
            }
            for signed in parts
        ]
        sent: list[SentPart] = []

        def line(reply: dict[str, Any]) -> None:
            if "part" in reply:
                sent.append(SentPart.read(reply))
                on_part(sent[-1])

        facts, silence_s = {"path": path, "parts": rows, "ordered": ordered}, self._limits.put_silence_s
        self._complete(self._stream("put", facts, line, silence_s=silence_s))
        return sent

    # --- the wire ---

    def _request(self, op: str, facts: dict[str, Any]) -> bytes:
        return json.dumps({"op": op, "workspace": self.workspace, **facts}).encode()

    def _ask(self, op: str, **facts: Any) -> dict[str, Any]:
        """Ask for what is answered at once. A connection that is cut meanwhile is made again, once."""
        request = self._request(op, facts)
        give_up = time.monotonic() + self._patience()

        def run() -> CommandResult:
            return self.transport.run(self._call, stdin=request, timeout_s=max(0.0, give_up - time.monotonic()))

        try:
            result = run()
        except ConnectionLost:
            if time.monotonic() >= give_up:
                raise
            result = run()
        if result.exit == commands.NO_AGENT:
            self.install()
            result = run()
        reply = _object(result.stdout.rpartition(b"\n")[0].rpartition(b"\n")[2])
        if result.exit or reply is None:
            raise _broken(op, result.exit, result.stderr or result.stdout[-200:])
        return _accept(op, reply)

    def _patience(self) -> float:
        """How long a request may take: less while the run is stopping."""
        return self._limits.stopping_s if self._halted() else self._limits.request_s

    def _stream(
        self,
        op: str,
        facts: dict[str, Any],
        on_line: Callable[[dict[str, Any]], None] = lambda _: None,
        *,
        silence_s: float | None = None,
        timeout_s: float | None = None,
        most_bytes: float = LONGEST_REPLY,
        stop: Callable[[], bool] | None = None,
    ) -> dict[str, Any] | None:
        """Ask for what takes time; `on_line` gets every line before the last.

        None: `stop` turned true first. Without a `stop` of its own it raises what `check` raises.
        """
        request = self._request(op, facts)
        last: dict[str, Any] | None = None
        noise = b""

        def take(data: bytes) -> None:
            nonlocal last, noise
            reply = _object(data)
            if reply is None:
                noise = data[-NOISE:]  # not ours: the interpreter's last words
            elif "ok" in reply:
                last = reply
            elif reply:
                try:
                    on_line(reply)
                except OSError as error:  # ours, not the connection's: a full disk at home, say
                    raise GpuplanError(f"what the machine says cannot be kept: {error}") from error

        def run() -> int:
            return self.transport.stream(
                self._call, take, stdin=request, silence_s=silence_s or self._limits.silence_s,
                timeout_s=self._limits.work_s if timeout_s is None else timeout_s, most_bytes=most_bytes,
                stop=stop or self._halted,
            )  # fmt: skip

        code = run()
        if code == commands.NO_AGENT:
            self.install()
            code = run()
        if last is not None:
            return _accept(op, last)
        if stop is None:
            self._check()
        elif stop():
            return None
        raise _broken(op, code, noise)

    def _halted(self) -> bool:
        try:
            self._check()
        except GpuplanError:
            return True
        return False

    @staticmethod
    def _complete(reply: dict[str, Any] | None) -> dict[str, Any]:
        assert reply is not None, "only a stream that can be stopped ends without a reply"
        return reply


def _object(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line; None: it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _accept(op: str, reply: dict[str, Any]) -> dict[str, Any]:
    if not reply.get("ok"):
        raise failure(op, reply)
    return reply


def _broken(op: str, code: int, said: bytes) -> AgentFailed:
    text = said.decode("utf-8", "replace").strip().splitlines()
    return AgentFailed("broken", f"the agent ended with {code} in {op}: {text[-1] if text else 'it said nothing'}")
