"""Measure how soon a tiny model says its first token, and how long a new machine compiles; write docs/benchmarks.md.

usage: python bench/start.py [--rounds N] [--print]

Seconds of the wall, and of the processors, which other work on the computer disturbs less.
"""
# ruff: noqa: T201 - a script whose output is its interface

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from runtime import write_section
from runtime_load import QUIET, busy_seconds, load_cell

HERE = Path(__file__).resolve().parents[1]
PAYLOAD = HERE / "remote" / "distributed-llama"
sys.path.insert(0, str(PAYLOAD))
CHECKPOINT = HERE / "tests" / "models" / "zai-org" / "GLM-4.5-Air-Base"
ENOUGH_S = 900.0


@dataclass(frozen=True)
class Taken:
    """What a command took: seconds of the wall and of the processors; the load of other work meanwhile."""

    wall: float
    cpu: float
    load: float


def take(words: list[str], cache: Path) -> Taken:
    """Run a command to its end, with the kernels' cache in a folder."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONDONTWRITEBYTECODE": ""}
    own, busy, began = _children(), busy_seconds(), time.perf_counter()
    subprocess.run([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL, check=True, timeout=ENOUGH_S)
    wall, cpu = time.perf_counter() - began, _children() - own
    return Taken(wall, cpu, max(0.0, (busy_seconds() - busy - cpu) / wall))


def measure(rounds: int, room: Path) -> dict[str, list[Taken]]:
    """Compile into an empty cache, once; then ask for a first token and import the compiler alone, in turns."""
    model, tokenizer = room / "tiny.m", room / "tiny.t"
    for script, words, output in (
        ("convert-hf.py", ["q40"], model),
        ("convert-tokenizer-hf.py", [], tokenizer),
    ):
        take([str(PAYLOAD / "converter" / script), str(CHECKPOINT), *words, "x", "--output", str(output)], room / "a")
    dllama, cache = str(PAYLOAD / "dllama"), room / "kernels"
    compiled = take([dllama, "warm"], cache)
    ask = [dllama, "inference", "--model", str(model), "--tokenizer", str(tokenizer)]
    ask += ["--prompt", "The capital of France is", "--max-tokens", "1"]
    found: dict[str, list[Taken]] = {"first token, warm": [], "import of numba alone": []}
    for number in range(rounds + 1):  # the first round reads the disk, and does not count
        for name, words in zip(found, (ask, ["-c", "import numba"]), strict=True):
            taken = take(words, cache)
            if number:
                found[name].append(taken)
    return {"dllama warm, empty cache": [compiled], **found}


def section(found: dict[str, list[Taken]]) -> str:
    """The page's section: the best round of each, by wall and by processors."""
    from dllama_glm.runtime.machine import processor

    about = (
        f"Measured on {processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, "
        f"numba {version('numba')}, llvmlite {version('llvmlite')}."
    )
    what = (
        "`dllama inference` of the rehearsal's tiny model for one token, a process from its start to its end, with its "
        "kernels in the cache; what importing the compiler alone takes of that; `dllama warm` as the shipped plan's "
        "`setup:` has it. Best of the rounds. Load is what other work took, in processors; above "
        f"{QUIET} a row is marked, and its seconds of the wall, which say nothing then, are left out."
    )
    head = ["| what | rounds | seconds of the wall | of the processors | load |", "|---|---|---|---|---|"]
    lines = ["## Start", "", about, "", what, "", *head]
    for name, turns in found.items():
        wall, cpu = min(taken.wall for taken in turns), min(taken.cpu for taken in turns)
        load = min(taken.load for taken in turns)
        shown = f"{wall:.2f}" if load <= QUIET else "-"
        lines.append(f"| {name} | {len(turns)} | {shown} | {cpu:.2f} | {load_cell(load)} |")
    return "\n".join(lines)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--print", action="store_true", help="do not write docs/benchmarks.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpuplan-bench-") as room:
        page = section(measure(args.rounds, Path(room)))
    print(page)
    if not args.print:
        write_section("start", page)


if __name__ == "__main__":
    main()
