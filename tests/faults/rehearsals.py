"""A seeded sample of the matrix in whole runs: commands, the rehearsal's daemon, SSH, stores and hub."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests import forked
from tests.e2e.tool import PLANS, Tool

MOST = 6  # cases of a sample
UNIT_USD = Decimal("0.02")  # a billing unit of a rehearsal's machines, whose seconds are real


@dataclass(frozen=True, slots=True)
class Case:
    """A disaster in a plan of tests/plans. `exit`: the documented code."""

    fault: str
    plan: str
    provider: str = "runpod"
    exit: int = 0


_ANYWHERE = (
    "create-reply-lost", "create-reply-cut", "create-500", "create-refused-capacity", "volume-reply-lost", "list-lag",
    "boot-error", "boot-no-gpu", "delete-still-listed", "delete-500", "delete-404", "delete-refused", "rate-limited",
    "unavailable", "cuda-late@20",
)  # fmt: skip
CASES = (
    *(
        Case(fault, "saving")
        for fault in (*_ANYWHERE, "preempt@count", "ssh-cut@second", "s3-503", "s3-cut", "s3-busy")
    ),
    *(Case(fault, "small", "lambda") for fault in _ANYWHERE),
    Case("create-refused-payment", "saving", exit=4),
    Case("create-refused-payment", "small", "lambda", exit=4),
)
HUB = tuple(Case(fault, "hub") for fault in ("hub-429", "hub-503", "hub-cut", "hub-stall", "hub-corrupt", "hub-moved"))

TORCH = (Case("image-old-torch", "torch"), Case("torch-no-kernel", "torch"))


def sample(seed: int) -> list[Case]:
    """All that only a real hub and a real venv have, and some of the others."""
    return [*HUB, *TORCH, *random.Random(seed).sample(CASES, MOST)]


def lived(case: Case, folder: Path) -> dict[str, Any]:
    """Run it; what does not hold, by the emulators' books."""
    begin = time.monotonic()
    os.environ["NUMBA_CACHE_DIR"] = str(forked.WARM)
    (folder / "home").mkdir(parents=True)
    (folder / "cloud").mkdir()
    cloud = forked.cloud(folder / "cloud")
    try:
        tool = Tool(folder / "home", cloud)
        cloud.arm(case.fault)
        words = ["run", "all", "--plan", str(PLANS / case.plan), "--dry-run", "--provider", case.provider, "--yes"]
        done = tool.run(*words, timeout=300)
        wrong = _wrong(tool, case, done.returncode)
        if wrong:
            wrong.append((done.stdout + done.stderr)[-1500:])
    finally:
        cloud.stop()
    seconds = round(time.monotonic() - begin)
    return {
        "fault": case.fault, "plan": case.plan, "provider": case.provider, "exit": done.returncode, "wrong": wrong,
        "seconds": seconds,
    }  # fmt: skip


def _wrong(tool: Tool, case: Case, code: int) -> list[str]:
    cloud = tool.cloud
    found = [] if code == case.exit else [f"exit code {code}, not {case.exit}"]
    found += [] if any(fault["fired"] for fault in cloud.faults()) else ["the disaster did not come: the cell is empty"]
    found += [f"machine left: {name}" for name in cloud.alive()["machines"]]
    found += [f"created twice: {name}" for name, times in Counter(tool.creates()).items() if times > 1]
    found += [f"ended as {state}" for ((state),) in tool.rows("select state from gpuplan_runs") if state != "DONE"]
    billed = sum(map(Decimal, cloud.invoice()["machines"].values()), Decimal(0))
    accrued = Decimal(tool.cost()["total_usd"]) if tool.creates() else Decimal(0)
    if billed > accrued + UNIT_USD:
        found.append(f"${billed} are billed, ${accrued} accrued")
    return found
