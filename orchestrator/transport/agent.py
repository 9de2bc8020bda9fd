"""The controller's side of the agent: one typed method for each thing that can be asked of a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from orchestrator.plan.globs import matches
from orchestrator.transport.asking import Asking, Streamed
from orchestrator.transport.job import Job
from orchestrator.transport.job_replies import Ended, JobEnd, JobInfo, Jobs, Sample, Started, Watched
from orchestrator.transport.limits import SHORT_ANSWER
from orchestrator.transport.refusals import AgentFailed, senseless
from orchestrator.transport.replies import (
    Checksums,
    Closed,
    CodeFolder,
    Done,
    Fetched,
    FileInfo,
    Files,
    Freed,
    Hello,
    Knocked,
    Lease,
    Names,
    Opened,
    Published,
    SentPart,
    SmallText,
    View,
    Working,
)
from orchestrator.words.ports import SignedPart
from orchestrator.words.source import Wanted

ATTACH = 'tmux -S "$HOME"/.gpuplan/tmux attach -t gpuplan'  # ours, whatever command the machine would have us type

PROBE, BOOTSTRAP = Streamed("probe", Done, Working), Streamed("bootstrap", Done, Working)
STOP, FILES = Streamed("stop", Ended, Working), Streamed("files", Files, Working)
LEASE, CHECKSUMS = Streamed("lease", Lease, Working), Streamed("checksums", Checksums, Working)
USED, DOOR = Streamed("used", Freed, Working), Streamed("door", Closed, Opened)
PUT, CODE = Streamed("put", Done, SentPart), Streamed("code", CodeFolder, Working)
GET = Streamed("get", Done, Fetched)


class Agent(Asking):
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

    def bootstrap(self, requirements: Iterable[str] = (), on_log: Callable[[str], None] = lambda _: None) -> None:
        """Make the machine's Python environment with what these files (absolute) ask for. Idempotent."""
        facts, limit = {"requirements": list(requirements)}, self._limits.bootstrap_s
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

    def files(
        self,
        root: str,
        patterns: Iterable[str],
        *,
        sha256: bool = False,
        samples: bool = False,
        strict: bool = False,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> list[FileInfo]:
        """Regular files below `root` that match a glob (** spans folders). `on_bytes`: hashed so far.

        A link to a file of the workspace is that file. `strict`: AgentFailed where one leads out; else it is left out.
        AgentFailed broken: the machine names one that was not asked for.
        """
        globs = list(patterns)
        request = {"root": root, "patterns": globs, "sha256": sha256, "samples": samples}
        found = self._complete(self._stream(FILES, request, lambda line: on_bytes(line.hashed)))
        if stray := next((f.path for f in found.files if not any(matches(f.path, glob) for glob in globs)), None):
            raise senseless("files", f"{stray!r} was not asked for")
        if strict and (outside := found.outside):
            more = f" and {len(outside) - 1} more" if len(outside) > 1 else ""
            message = f"{outside[0]}{more}: a link that leads out of the workspace"
            raise AgentFailed("outside", message, remedy="copy the file into the workspace, or link to one in it")
        return list(found.files)

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

    # --- artifacts ---

    def checksums(
        self,
        path: str,
        part_bytes: int,
        *,
        md5: bool = False,
        parts_md5: bool = False,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> Checksums:
        """Checksums of a file and of its parts. MD5 only on request: of the whole (Google's store), of each part."""
        request = {"path": path, "part_bytes": part_bytes, "md5": md5, "parts_md5": parts_md5}
        last = self._stream(CHECKSUMS, request, lambda line: on_bytes(line.hashed))
        found = self._complete(last)
        if parts_md5 and not all(part.md5 for part in found.parts):
            raise senseless("checksums", "parts without the MD5 that was asked for")
        if not found.cuts(part_bytes):
            raise senseless("checksums", f"parts that are not those of {found.bytes:,} bytes")
        return found

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
        unsaid = {row["number"] for row in rows}

        def take(line: SentPart) -> None:
            if line.number not in unsaid:
                raise senseless("put", f"part {line.number} was not asked for")
            unsaid.remove(line.number)
            sent.append(line)
            on_part(line)

        facts, silence_s = {"path": path, "parts": rows, "ordered": ordered}, self._limits.put_silence_s
        self._complete(self._stream(PUT, facts, take, silence_s=silence_s, most_bytes=SHORT_ANSWER))
        return sent

    # --- inputs ---

    def get(self, wanted: Sequence[Wanted], on_line: Callable[[Fetched], None]) -> None:
        """Have the machine fetch files, several ranges at a time, going on with what an earlier try left of each.

        `on_line` hears how far each is, and once that it is done or why not.
        """
        rows = [
            {"path": one.path, "bytes": one.bytes, "tag": one.tag, "url": one.get.url, "headers": one.get.headers,
             "follow": one.get.follow, "ranges": one.get.ranges, "etag": one.get.etag,
             "crc32": one.crc32, "md5": one.md5, "sha256": one.sha256}
            for one in wanted
        ]  # fmt: skip

        def take(line: Fetched) -> None:
            if line.file >= len(rows) or line.arrived > wanted[line.file].bytes:
                raise senseless("get", f"file {line.file} has {line.arrived:,} bytes")
            on_line(line)

        self._complete(self._stream(GET, {"files": rows}, take, silence_s=self._limits.put_silence_s))
