"""The controller's side of the agent: one typed method for each thing that can be asked of a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from orchestrator.transport.asking import Streamed
from orchestrator.transport.job import Job
from orchestrator.transport.job_replies import Ended, JobEnd, JobInfo, Jobs, Sample, Started, Watched
from orchestrator.transport.limits import SHORT_ANSWER
from orchestrator.transport.moving import Moving
from orchestrator.transport.replies import (
    Closed,
    CodeFolder,
    Done,
    Freed,
    Hello,
    Knocked,
    Lease,
    Names,
    Opened,
    Published,
    SmallText,
    View,
    Working,
)

ATTACH = 'tmux -S "$HOME"/.gpuplan/tmux attach -t gpuplan'  # ours, whatever command the machine would have us type

PROBE, BOOTSTRAP = Streamed("probe", Done, Working), Streamed("bootstrap", Done, Working)
STOP, LEASE = Streamed("stop", Ended, Working), Streamed("lease", Lease, Working)
USED, DOOR = Streamed("used", Freed, Working), Streamed("door", Closed, Opened)
CODE = Streamed("code", CodeFolder, Working)


class Agent(Moving):
    """The agent of one machine. Thread-safe as far as its transport is. Errors: see Asking."""

    # --- the machine ---

    def hello(self) -> Hello:
        """What the machine is. Its workspace, absolute, is used from now on."""
        found = self._ask("hello", Hello)
        self.workspace = found.workspace
        return found

    def probe(self, gpus: int) -> None:
        """Make a real CUDA call on each of so many GPUs. AgentFailed no_gpu or gpu_fault."""
        each = self._limits.probe_s
        self._stream(PROBE, {"gpus": gpus}, silence_s=each, timeout_s=each * (gpus + 1))

    def code(self, digest: str, *, kept: bool) -> str:
        """The machine's folder with exactly the code of that hash; "": it has none (any more), and is to be sent it.

        `kept`: whatever is in the folder of that name.
        """
        return self._complete(self._stream(CODE, {"code": digest, "kept": kept})).folder

    def bootstrap(
        self, requirements: Iterable[str] = (), on_log: Callable[[str], None] = lambda _: None, *, gpus: int = 0
    ) -> None:
        """Make the machine's Python environment with what these files (absolute) ask for. Idempotent.

        TorchFailed: they ask for torch, and the one that is there now does not compute on the first `gpus` cards.
        """
        facts, limit = {"requirements": list(requirements), "gpus": gpus}, self._limits.bootstrap_s
        self._stream(BOOTSTRAP, facts, lambda line: on_log(line.log), silence_s=limit, timeout_s=limit)

    def view(self) -> str:
        """Start the tmux session with the live logs and return the command that attaches to it; "": no tmux there."""
        return ATTACH if self._ask("view", View).attach else ""

    def heartbeat(self, deadman_s: float, end_bill: str, *, stop_after_s: float | None = None) -> None:
        """Feed the dead-man's switch (and start it). AgentFailed deadman: it has acted.

        After `deadman_s` without a heartbeat nothing new starts, and when no step runs the shell text `end_bill` does.
        `stop_after_s`: running steps are stopped after so long.
        """
        self._ask("heartbeat", Done, deadman_s=deadman_s, end_bill=end_bill, stop_after_s=stop_after_s)

    def door(self, address: str, guests: int, word: str, within_s: float, on_open: Callable[[int], None]) -> int:
        """Open a port at an address of the machine until so many have come who know `word`; return how many have.

        `on_open` is told the port. AgentFailed no_door: nothing can listen there.
        """
        facts = {"address": address, "guests": guests, "word": word, "within_s": within_s}
        limit = within_s + self._limits.silence_s

        def take(line: Opened) -> None:
            if line.port:
                on_open(line.port)

        return self._complete(self._stream(DOOR, facts, take, timeout_s=limit)).came

    def knock(self, address: str, port: int, word: str, within_s: float) -> str:
        """Connect to another machine's door; why it was not opened, "": it was."""
        return self._ask("knock", Knocked, address=address, port=port, word=word, within_s=within_s).why

    # --- jobs ---

    def start(self, job: Job) -> str:
        """Start a job, once for its id: "running" or "ended"."""
        if job.clears and self._calls.many:
            return self._ask("start", Started, **job.facts(), clears=job.clears).state
        if job.clears:
            self.remove(job.clears)
        return self._ask("start", Started, **job.facts()).state

    def run(
        self,
        job: Job,
        offset: int,
        on_log: Callable[[str, int], None],
        on_sample: Callable[[Sample], None] = lambda _: None,
        on_start: Callable[[], None] = lambda: None,
        stop: Callable[[], bool] = lambda: False,
        timeout_s: float = float("inf"),
    ) -> JobEnd | None:
        """`start` and `follow` in one request; `on_start` is called once the job is there."""
        if not self._calls.many:
            self.start(job)
            on_start()
            return self.follow(job.id, offset, on_log, on_sample, stop, timeout_s)
        there = False

        def started() -> None:
            nonlocal there
            there = True
            on_start()

        facts = {**job.facts(), "clears": job.clears, "offset": offset}
        may_stop = lambda: there and stop()  # noqa: E731  what may or may not have been started cannot be stopped
        return self._watch("start", facts, on_log, on_sample, may_stop, timeout_s, started)

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
        return self._watch("watch", {"job": job, "offset": offset}, on_log, on_sample, stop, timeout_s)

    def stdout(self, job: str, on_text: Callable[[str], None], timeout_s: float) -> None:
        """What a job that has ended printed on standard output, as far as the machine has kept it."""
        self._watch(
            "watch", {"job": job, "stdout": True}, lambda text, _: on_text(text), lambda _: None, timeout_s=timeout_s
        )

    def _watch(
        self,
        op: str,
        facts: dict[str, Any],
        on_log: Callable[[str, int], None],
        on_sample: Callable[[Sample], None],
        stop: Callable[[], bool] = lambda: False,
        timeout_s: float = float("inf"),
        on_start: Callable[[], None] = lambda: None,
    ) -> JobEnd | None:
        def take(line: Watched) -> None:
            if line.offset is not None:
                on_log(line.log, line.offset)
            if line.sample:
                on_sample(line.sample)
            if line.state:
                on_start()

        last = self._stream(
            Streamed(op, Ended, Watched), facts, take, timeout_s=timeout_s, most_bytes=float("inf"), stop=stop
        )
        return last.end if last else None

    def stop(self, job: str, grace_s: float = 10.0) -> JobEnd:
        """End a job: SIGTERM, after `grace_s` SIGKILL, to all of it. One that has ended is left alone."""
        facts, limit = {"job": job, "grace_s": grace_s}, grace_s + self._limits.stop_s  # nothing is more urgent
        last = self._stream(STOP, facts, silence_s=limit, timeout_s=limit, most_bytes=SHORT_ANSWER, stop=lambda: False)
        return self._complete(last).end

    def jobs(self) -> list[JobInfo]:
        """Every job that was started on the machine."""
        return list(self._ask("jobs", Jobs).jobs)

    # --- files ---

    def used_bytes(self) -> int:
        """What everything in the workspace takes on its disk."""
        return self._complete(self._stream(USED, {})).bytes

    def published(self, job: str) -> dict[str, str]:
        """Absolute path -> sha256 of the files whose checksums the job has said while it wrote them."""
        return self._ask("published", Published, job=job).files

    def read(self, path: str) -> str | None:
        """A small text file, relative to the workspace; None: there is none."""
        return self._ask("read", SmallText, path=path).text

    def write(self, path: str, text: str) -> None:
        """Replace a small text file below the workspace's .gpuplan, whole."""
        self._ask("write", Done, path=path, text=text)

    def names(self, path: str) -> list[str]:
        """Names in a folder, sorted; [] when there is no such folder."""
        return list(self._ask("list", Names, path=path).names)

    def remove(self, path: str) -> None:
        """Remove a file or folder below the workspace's .gpuplan. Idempotent."""
        self._ask("remove", Done, path=path)

    def clean_incomplete(self, folder: str) -> int:
        """Remove what killed downloads of the hub's client left in a checkout; returns the bytes freed."""
        return self._ask("clean_incomplete", Freed, dir=folder).bytes

    def lease(self, name: str, holder: str, ttl_s: float, action: str = "acquire") -> Lease:
        """Acquire, renew or release a lease on the volume. LeaseHeld: somebody else has it."""
        return self._ask("lease", Lease, name=name, holder=holder, ttl_s=ttl_s, action=action)

    def await_lease(self, name: str, holder: str, ttl_s: float) -> Lease:
        """Acquire a lease that somebody else has once nobody has renewed it for `ttl_s`. LeaseHeld: somebody did."""
        facts = {"name": name, "holder": holder, "ttl_s": ttl_s, "action": "await"}
        return self._complete(self._stream(LEASE, facts))
