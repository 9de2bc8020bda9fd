"""Rules of the engine, each with the one line that breaks it: the disasters must see every one of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("orchestrator", "tests/faults", "tests/unit/engine", "tools", "remote", "configs", "phases", "texts")
FILES = ("gpuplan.yaml", "tests/conftest.py")
SEEDS = 300  # within which it must be found, where the seed that is known does not show it any more
TIME_OUT_S = 1500


@dataclass(frozen=True, slots=True)
class Sabotage:
    """One line of `file` (below orchestrator/) changed. `seen`: words of what is then wrong; `seed`: where it is."""

    rule: str
    file: str
    old: str
    new: str
    seen: str
    seed: int = 0


SABOTAGES = (
    Sabotage(
        "nothing is left",
        "engine/ending.py",
        "if not row.state.is_final]",
        "if row.reachable_at]",
        "machine left",
        1915,
    ),
    Sabotage(
        "done means that nothing is left",
        "engine/story.py",
        "        if not left:\n",
        "        if True:\n",
        "left",
        571,
    ),
    Sabotage(
        "a create is sent once",
        "engine/creation.py",
        "        if row.sent_at:",
        "        if False:",
        "created twice",
        117,
    ),
    Sabotage(
        "a volume is made once", "engine/volumes.py", "if row.sent_at and self", "if False and self", "volume", 77
    ),
    Sabotage(
        "what is done is not done again", "engine/step_work.py", "spec.force:", "spec.force or True:", "again", 63
    ),
    Sabotage(
        "the budget is kept",
        "engine/limits.py",
        "if (whole := spec.plan.settings.budget_usd) is not None:",
        "if False and (whole := spec.plan.settings.budget_usd) is not None:",
        "budget was",
        3,
    ),
    Sabotage("what is billed has accrued", "engine/readiness.py", "or price <= known:", "or True:", "is billed", 256),
    Sabotage(
        "the provider's bill is read", "engine/ending.py", "for row in rows])", "for row in rows[1:]])", "settled"
    ),
    Sabotage(
        "reap ends its owner's alone", "engine/reaper.py", "if f.owner == owner]", "if f.owner]", "reap ended", 1633
    ),
)


def broken(sabotage: Sabotage, folder: Path) -> None:
    """Lay a copy of the project there in which the rule is broken."""
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, folder / file)
    source = folder / "orchestrator" / sabotage.file
    text = source.read_text()
    assert text.count(sabotage.old) == 1, f"{sabotage.file} has {text.count(sabotage.old)} of {sabotage.old!r}"
    source.write_text(text.replace(sabotage.old, sabotage.new))


def said(folder: Path, first: int, seeds: int) -> str:
    """What `make disasters` says in that copy, until a seed is red."""
    words = [sys.executable, "-m", "tools.disasters", "--first", str(first), "--seeds", str(seeds), "--until-red"]
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(folder)}
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=TIME_OUT_S)
    return f"exit code {done.returncode}\n{done.stdout}{done.stderr[-1000:]}"
