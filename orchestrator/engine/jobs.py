"""One command on one machine, followed to its end through every cut connection."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestrator.engine.context import Context
from orchestrator.engine.machines import Machines
from orchestrator.ledger import tables
from orchestrator.transport.replies import JobEnd, Sample
from orchestrator.words.errors import ConnectionLost, HostKeyChanged, MachineLost
from orchestrator.words.lifecycle import StepState

LONGEST_LOG = 64 << 20  # bytes of a step's log at home
GRACE_S = 10.0  # between SIGTERM and SIGKILL of a job that is stopped
LATE_S = 600.0  # beyond a job's time-out: the machine must have said by then that it ended
LAST_LINES_S = 20.0  # for what a stopped job's log still holds


class StepLog:
    """A step's log at home: what was copied so far, and from which offset the machine's log goes on."""

    def __init__(self, context: Context, phase: str, step: str, node: int = 0) -> None:
        """`step` is a step's id: PHASE/STEP."""
        folder = context.folder / "logs" / phase
        folder.mkdir(parents=True, exist_ok=True)
        name = step.removeprefix(f"{phase}/").replace("/", ".")
        self.path = folder / f"{name}{f'.{node}' if node else ''}.log"
        self._offset_file = self.path.with_suffix(".offset")
        self._context, self._phase, self._step = context, phase, step
        self._lock = threading.Lock()

    @property
    def offset(self) -> int:
        """Where the machine's log was read up to; 0 for a new one."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int(self._offset_file.read_text())
        return 0

    def restart(self, job: str) -> None:
        """A job of another name begins: its log starts at 0, below what earlier attempts left."""
        if self._began()[0] != job:
            begins = self.path.stat().st_size if self.path.exists() else 0
            self._offset_file.write_text("0")
            self.path.with_suffix(".job").write_text(f"{job}\n{begins}")

    def _began(self) -> tuple[str, int]:
        """The job whose log this is, and at which byte of the file it begins."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            job, begins = self.path.with_suffix(".job").read_text().split("\n")
            return job, int(begins)
        return "", 0

    def since_restart(self) -> str:
        """What the newest job has printed."""
        if not self.path.exists():
            return ""
        return self.path.read_bytes()[self._began()[1] :].decode("utf-8", "replace")

    def add(self, text: str, offset: int) -> None:
        """Append new output, up to LONGEST_LOG; the machine keeps the end of what is longer."""
        with self._lock:
            with self.path.open("a", encoding="utf-8") as log:
                if log.tell() < LONGEST_LOG:
                    log.write(text)
                    if log.tell() >= LONGEST_LOG:
                        log.write("\n[gpuplan: this log is full: what follows is not kept here]\n")
            self._offset_file.write_text(str(offset))
        self._context.log(self._step, text)

    def sample(self, sample: Sample) -> None:
        """Keep what the step uses beside it while it runs, and tell whoever looks on how far it says it is."""
        running = {"run": self._context.run, "phase": self._phase, "id": self._step, "state": str(StepState.RUNNING)}
        self._context.ledger.change(tables.steps, running, detail=str(sample))
        if sample.progress:
            self._context.progress(self._step, sample.progress)

    def text(self) -> str:
        """Everything that was copied so far."""
        return self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""


def follow(
    context: Context,
    machines: Machines,
    machine: str,
    job: str,
    log: StepLog,
    *,
    timeout_s: float,
    until: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Follow a job, which may take `timeout_s`, to its end. {} when `until()` turned true first.

    A cut is invisible: the address is read again and the log goes on from its offset, for as long as the provider
    says that the machine is there. MachineLost: it says otherwise. Interrupted/OverBudget: the job was stopped.
    StepFailed: LATE_S after its time-out the machine still talks as if it ran.
    """
    waits = 0.5
    give_up = time.monotonic() + timeout_s
    stop = until or (lambda: False)
    while True:
        try:
            end = context.agents(machine).follow(
                job,
                log.offset,
                on_log=log.add,
                on_sample=log.sample,
                stop=lambda: stop() or context.control.stopping,
                timeout_s=max(0.0, give_up - time.monotonic()) + LATE_S,
            )
            if end is not None:
                return _plain(end)
            if context.control.stopping:
                _stop_quietly(context, machine, job, log)
                context.control.check()
            return {}
        except HostKeyChanged as error:
            machines.distrust(machine, error.message)
            raise MachineLost(f"{machine}: {error.message}") from error
        except ConnectionLost as error:
            context.control.check()  # a machine that is ended because the run stops is not lost
            context.event(f"{machine}: connection lost ({error.message}); {job} goes on there")
            if reason := machines.lost(machine):
                raise MachineLost(f"{machine}: {reason}") from error
            context.clock.sleep(waits)
            waits = min(2 * waits, 30.0)


def _stop_quietly(context: Context, machine: str, job: str, log: StepLog) -> None:
    """Stop a job and bring its last lines home, if the machine still answers; nothing here waits for it for long."""
    with contextlib.suppress(Exception):  # whatever the machine says: why the run stops is what counts
        agent = context.agents(machine)
        agent.stop(job, GRACE_S)
        agent.follow(job, log.offset, on_log=log.add, stop=lambda: False, timeout_s=LAST_LINES_S)


def stop(context: Context, machine: str, job: str, log: StepLog) -> None:
    """Stop a service's job; its machine being gone is as good."""
    _stop_quietly(context, machine, job, log)


def _plain(end: JobEnd) -> dict[str, Any]:
    """A job's end as a plain value, for the record."""
    return {
        "exit": end.exit,
        "oom": end.oom,
        "timed_out": end.timed_out,
        "stopped": end.stopped,
        "lost": end.lost,
        "seconds": end.seconds,
        "peaks": {name: value for name, value in asdict(end.peaks).items() if value is not None},
        "metrics": {name: value for name, value in end.metrics.items() if _finite(value)},
    }


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def last_lines(path: Path, count: int = 15) -> str:
    """The end of a log, for the message that says why a step failed."""
    if not path.exists():
        return ""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])
