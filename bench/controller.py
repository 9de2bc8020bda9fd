"""Measure what gpuplan itself costs while its steps run: in sequence, waiting, and printing. Nothing is rented.

It takes some two minutes on an idle computer; on a busy one its figures say little.

usage: python bench/controller.py [--steps N] [--waiting N] [--lines N] [--seconds S]
"""
# ruff: noqa: T201 - a script whose output is its interface

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

GPUPLAN = [sys.executable, "-c", "from orchestrator.cli import main; main()"]
TICKS = os.sysconf("SC_CLK_TCK")
SETTLE_S = 6.0  # before a quiet phase is measured: everything that is to begin has begun
ENOUGH_S = 300.0


def main() -> None:
    """Measure, print each figure beside its limit, and end with 1 if one is above it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, help="that run one after another")
    parser.add_argument("--waiting", type=int, default=100, help="steps that wait while one sleeps")
    parser.add_argument("--lines", type=int, default=2_000_000, help="that one step prints")
    parser.add_argument("--seconds", type=float, default=15.0, help="that a quiet phase is looked at")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpuplan-bench-") as folder:
        room, figures = Path(folder), list[Figure]()
        for measured in (
            in_sequence(room / "sequence", args.steps),
            quiet(room / "quiet", args.waiting, args.seconds),
            printing(room / "printing", args.lines),
        ):
            for figure in measured:
                print(figure, flush=True)
                figures.append(figure)
    sys.exit(any(figure.is_above for figure in figures))


@dataclass(frozen=True)
class Figure:
    """One measured value and its limit."""

    what: str
    value: float
    limit: float
    unit: str

    @property
    def is_above(self) -> bool:
        """Whether the limit is broken."""
        return self.value > self.limit

    def __str__(self) -> str:
        """One line of the report."""
        return f"{self.what:<58} {self.value:>9.3f} {self.unit:<8} (at most {self.limit:g})"


def in_sequence(folder: Path, steps: int) -> Iterator[Figure]:
    """The controller's own CPU seconds a step, beyond those of a run of one step."""
    one = _own_seconds(folder / "one", _chain(1))
    many = _own_seconds(folder / "many", _chain(steps))
    yield Figure(f"{steps} steps in sequence: own time a step", (many - one) / max(steps - 1, 1), 0.1, "s")


def quiet(folder: Path, waiting: int, seconds: float) -> Iterator[Figure]:
    """What a phase costs in which one step sleeps and the others wait for it."""
    sleeper = f"  - {{name: sleeper, run: sleep {seconds + SETTLE_S + 10:.0f}}}\n"
    others = "".join(f"  - {{name: waits-{n}, run: 'true', needs: [sleeper]}}\n" for n in range(waiting))
    with _run(folder, sleeper + others) as process:
        _until_runs(folder / "home", "only/sleeper")
        time.sleep(SETTLE_S)
        cpu, woken, began = _cpu_s(process.pid), _switches(process.pid), time.monotonic()
        time.sleep(seconds)
        span = time.monotonic() - began
        busy, wakes = _cpu_s(process.pid) - cpu, _switches(process.pid) - woken
        process.terminate()
        process.wait(ENOUGH_S)
    yield Figure(f"a quiet phase, {waiting} steps waiting: of a core", 100 * busy / span, 2.0, "%")
    yield Figure(f"a quiet phase, {waiting} steps waiting: wake-ups", wakes / span, 60.0, "a second")


def printing(folder: Path, lines: int) -> Iterator[Figure]:
    """The most memory that a run takes one step of which prints so many lines."""
    with _run(folder, f"  - {{name: talks, run: seq -f 'line %.0f of many' {lines}}}\n") as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"the printing run ended with {process.returncode}: see above")
    yield Figure(f"{lines:,} lines of log: memory", used.ru_maxrss / 1024, 150.0, "MiB")


def _chain(steps: int) -> str:
    names = [f"s{n}" for n in range(steps)]
    needs = ["", *(f", needs: [{name}]" for name in names)]
    return "".join(f"  - {{name: {name}, run: 'true'{need}}}\n" for name, need in zip(names, needs, strict=False))


def _own_seconds(folder: Path, steps: str) -> float:
    """CPU seconds of the run's own process, without those of the machines and clouds beside it."""
    with _run(folder, steps) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"a run in sequence ended with {process.returncode}:\n{(folder / 'said').read_text()[-2000:]}")
    return used.ru_utime + used.ru_stime


@contextmanager
def _run(folder: Path, steps: str) -> Iterator[subprocess.Popen[bytes]]:
    """A rehearsed run of one phase of those steps, with a home of its own; ended with the block."""
    plan, home = folder / "plan", folder / "home"
    plan.mkdir(parents=True)
    home.mkdir()
    (plan / "gpuplan.yaml").write_text("budget_usd: 50\nstep_seconds: 1\n")
    head = "name: only\ntitle: Measure\nmachine: {gpu: [RTX-4090]}\nplanned: {hours: 1, usd: 1}\ntimeout: 1h\n"
    (plan / "only.yaml").write_text(
        f"{head}steps:\n{steps}deliverables:\n  - {{name: it is there, machine: reachable}}\n"
    )
    words = [*GPUPLAN, "run", "all", "--plan", str(plan), "--dry-run", "--yes"]
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            words, env=os.environ | {"GPUPLAN_HOME": str(home)}, stdout=said, stderr=said, stdin=subprocess.DEVNULL
        )
        try:
            yield process
        finally:
            if process.returncode is None and process.poll() is None:
                process.terminate()
                process.wait(ENOUGH_S)


def _until_runs(home: Path, step: str) -> None:
    """Wait for a step to begin, as the ledger has it: what is printed of that is a matter of taste."""
    give_up = time.monotonic() + ENOUGH_S
    while not _runs(home / "gpuplan.db", step):
        if time.monotonic() > give_up:
            sys.exit(f"{step} did not begin within {ENOUGH_S:.0f} s")
        time.sleep(0.5)


def _runs(ledger: Path, step: str) -> bool:
    if not ledger.exists():
        return False
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database, suppress(sqlite3.OperationalError):
        asked = "select 1 from gpuplan_steps where id = ? and state = 'RUNNING'"
        return database.execute(asked, (step,)).fetchone() is not None
    return False  # its tables are being made


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _switches(pid: int) -> int:
    """How often the process's threads were put on a processor: voluntary and other context switches together."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        found += sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return found


if __name__ == "__main__":
    main()
