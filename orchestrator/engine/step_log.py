"""A step's log at home: copied while it grows on the machine, and read back without ever holding all of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from orchestrator.engine.context import Context
from orchestrator.transport.replies import Sample
from orchestrator.words.lifecycle import StepState

LONGEST_LOG = 64 << 20  # bytes of a step's log at home
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
        self._offset_file, self._job_file = self.path.with_suffix(".offset"), self.path.with_suffix(".job")
        self._context, self._phase, self._step = context, phase, step
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
            self._offset_file.write_text("0")
            self._job_file.write_text(f"{job}\n{self._bytes()}")

    def add(self, text: str, offset: int) -> None:
        """Append new output, up to LONGEST_LOG; the machine keeps the end of what is longer."""
        with self.path.open("a", encoding="utf-8") as log:
            if log.tell() < LONGEST_LOG:
                log.write(text)
                if log.tell() >= LONGEST_LOG:
                    log.write("\n[gpuplan: this log is full: what follows is not kept here]\n")
        self._offset_file.write_text(str(offset))
        self._context.log(self._step, text)

    def sample(self, sample: Sample) -> None:
        """Keep what the step uses beside it while it runs, and tell whoever looks on how far it says it is."""
        running = {"run": self._context.run, "phase": self._phase, "id": self._step, "state": StepState.RUNNING}
        self._context.ledger.steps.change(running, detail=str(sample))
        if sample.progress:
            self._context.progress(self._step, sample.progress)

    def lines(self) -> Iterator[str]:
        """Each line that the newest job has printed; a line that redraws itself is one for each of its states."""
        if not self.path.exists():
            return
        with self.path.open("rb") as log:
            log.seek(self._began()[1])
            for line in log:
                yield from line.decode("utf-8", "replace").splitlines()

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
        """The last bytes of all that was copied, as text."""
        if self.is_empty:
            return ""
        with self.path.open("rb") as log:
            log.seek(max(self._bytes() - most, 0))
            return log.read(most).decode("utf-8", "replace")

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
