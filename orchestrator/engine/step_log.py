"""A step's log at home: copied while it grows on the machine, and read back without ever holding all of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from orchestrator.engine.context import Context
from orchestrator.ledger.rows import CourseRow
from orchestrator.transport.agent import Agent
from orchestrator.transport.job_replies import Course, Sample
from orchestrator.words.lifecycle import StepState

LONGEST_LOG = 64 << 20  # bytes of a step's log at home
TIMES = ".times"  # beside a log: Unix seconds, and the byte of it that was new then
BYTES = "surrogateescape"  # how output is a text and every byte of it still there
BLOCK = 1 << 20  # bytes that a search holds at a time
LAST_BYTES = 1 << 16  # enough for the last lines of any log


class StepLog:
    """What was copied so far, and from which offset the machine's log goes on. One thread adds to it at a time."""

    def __init__(self, context: Context, phase: str, step: str, node: int = 0) -> None:
        """`step` is a step's id: PHASE/STEP."""
        folder = context.folder / "logs" / phase
        folder.mkdir(parents=True, exist_ok=True)
        name = step.removeprefix(f"{phase}/").replace("/", ".")
        self.path = folder / f"{name}{f'.{node}' if node else ''}.log"
        self._stdout = self.path.with_suffix(".stdout")
        self._offset_file, self._job_file = self.path.with_suffix(".offset"), self.path.with_suffix(".job")
        self._context, self._phase, self._step, self._node = context, phase, step, node
        self._noted = 0.0  # when a time was written down last
        self._searched = 0  # no text that `prints` was asked for ends before this byte

    @property
    def offset(self) -> int:
        """Where the machine's log was read up to; 0 for a new one."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int(self._offset_file.read_text())
        return 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever copied."""
        return not self._bytes()

    def restart(self, job: str) -> None:
        """A job of another name begins: its log starts at 0, below what earlier attempts left."""
        if self._began()[0] != job:
            self._stdout.unlink(missing_ok=True)
            self._offset_file.write_text("0")
            self._job_file.write_text(f"{job}\n{self._bytes()}")

    def add(self, text: str, offset: int) -> None:
        """Append new output byte for byte, up to LONGEST_LOG; the machine keeps the end of what is longer.

        A byte of it that is no UTF-8 is half a surrogate pair.
        """
        with self.path.open("a", encoding="utf-8", errors=BYTES) as log:
            self._note_time(log.tell())
            if log.tell() < LONGEST_LOG:
                log.write(text)
                if log.tell() >= LONGEST_LOG:
                    log.write("\n[gpuplan: this log is full: what follows is not kept here]\n")
        self._offset_file.write_text(str(offset))
        self._context.log(self._step, text.encode("utf-8", BYTES).decode("utf-8", "replace"))

    def _note_time(self, at: int) -> None:
        """Write down, once a second, from which byte of the file on output is that new: `logs --since` asks."""
        now = self._context.clock.wall().timestamp()
        if now - self._noted >= 1:
            self._noted = now
            with self.path.with_suffix(TIMES).open("a") as times:
                times.write(f"{now:.0f} {at}\n")

    def note(self, text: str) -> None:
        """A line of ours, below what came so far: between two tries of a step."""
        with self.path.open("a", encoding="utf-8") as log:
            log.write(f"[gpuplan: {text}]\n")

    def sample(self, sample: Sample, machine: str) -> None:
        """Keep what the step uses beside it while it runs, and tell whoever looks on how far it says it is."""
        running = {"run": self._context.run, "phase": self._phase, "id": self._step, "state": StepState.RUNNING}
        self._context.ledger.steps.change(running, detail=str(sample))
        if sample.progress:
            self._context.progress(self._step, sample.progress)
        self.keep_course(sample.course, machine)

    def keep_course(self, course: Course | None, machine: str) -> None:
        """Keep what the GPUs of that machine did so far; what a CPU does that stands in for them is no GPU's."""
        if course is None or not self._context.provider.shows_gpu:
            return
        row = CourseRow(
            run=self._context.run,
            step=self._step,
            node=self._node,
            machine=machine,
            since=course.since.timestamp(),
            every_s=course.every_s,
            points=json.dumps({"memory": course.memory, "busy": course.busy}, separators=(",", ":")),
        )
        self._context.ledger.courses.put(row)

    def fetch_stdout(self, agent: Agent, job: str, timeout_s: float) -> None:
        """Copy what the job, which has ended, printed on standard output; what an earlier one did is forgotten."""
        with self._stdout.open("w", encoding="utf-8", errors=BYTES) as file:

            def add(text: str) -> None:
                if file.tell() < LONGEST_LOG:
                    file.write(text)

            agent.stdout(job, add, timeout_s)

    def restore(self, log: str, stdout: str) -> None:
        """Take what a done-record has kept of both for this step's, unless there is something already."""
        if self.is_empty:
            self.add(log, 0)
        if not self._stdout.exists():
            self._stdout.write_text(stdout, encoding="utf-8", errors=BYTES)

    def lines(self) -> Iterator[str]:
        """Each line of the newest job's standard output; one that redraws itself is one for each of its states."""
        if not self._stdout.exists():
            return
        with self._stdout.open("rb") as file:
            for line in file:
                yield from line.decode("utf-8", "replace").splitlines()

    def keep(self) -> None:
        """Let whoever goes on with the run from elsewhere have the ends of both."""
        self._context.keep(self.path)
        self._context.keep(self._stdout)

    def ends(self, most: int) -> tuple[str, str]:
        """The last bytes of all that was copied, and of the standard output alone, as `restore` takes them."""
        log, stdout = (_end_of(path, most) if path.exists() else b"" for path in (self.path, self._stdout))
        return log.decode("utf-8", BYTES), stdout.decode("utf-8", BYTES)

    def prints(self, text: str) -> bool:
        """Whether the newest job has printed that text. Asked again, only what came since is read."""
        wanted, carried = text.encode(), b""
        if not self.path.exists():
            return False
        with self.path.open("rb") as log:
            log.seek(max(self._searched, self._began()[1]))
            while block := log.read(BLOCK):
                if wanted in carried + block:
                    return True
                carried = (carried + block)[-len(wanted) + 1 :] if len(wanted) > 1 else b""
                self._searched = log.tell() - len(carried)
        return False

    def end(self, most: int = LAST_BYTES) -> str:
        """The last bytes of all that was copied, as text for people."""
        if self.is_empty:
            return ""
        return _end_of(self.path, most).decode("utf-8", "replace")

    def last_lines(self, count: int = 15) -> str:
        """Its last lines, for the message that says why a step failed."""
        return "\n".join(self.end().splitlines()[-count:])

    def _bytes(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return self.path.stat().st_size
        return 0

    def _began(self) -> tuple[str, int]:
        """The job whose log this is, and at which byte of the file it begins."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            job, begins = self._job_file.read_text().split("\n")
            return job, int(begins)
        return "", 0


def _end_of(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - most, 0))
        return file.read(most)
