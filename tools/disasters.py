"""make disasters: seeds of tests/faults/simulation.py, one after the other; a seed that fails says how to see it again.

Exit code 1: a seed failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.faults.forking import in_processes
from tests.faults.simulation import Simulation

BATCH = 20  # seeds a process
SHOWN = 2000  # characters of what is wrong


def main(arguments: list[str]) -> int:
    """Live through the seeds that are asked for."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is a part of a seed
        words = [sys.executable, "-m", "tools.disasters", *arguments]
        os.execve(sys.executable, words, os.environ | {"PYTHONHASHSEED": "0"})  # noqa: S606
    said = argparse.ArgumentParser(prog="make disasters", description=__doc__)
    said.add_argument("--seeds", type=int, default=200, help="how many")
    said.add_argument("--first", type=int, default=0, help="the first of them")
    said.add_argument("--seed", type=int, help="this one alone, with all that happens in it")
    said.add_argument("--jobs", type=int, default=1, help="processes at the same time")
    said.add_argument("--until-red", action="store_true", help="end with the first that fails")
    options = said.parse_args(arguments)
    if options.seed is not None:
        return _told(options.seed)
    begin, red, shapes = time.monotonic(), 0, Counter[str]()
    seeds = range(options.first, options.first + options.seeds)
    for number, (seed, lived, broken) in enumerate(in_processes(_lived, seeds, jobs=options.jobs, batch=BATCH), 1):
        fate, wrong = lived or ("?", [broken])
        shapes[fate.partition(" ")[0]] += 1
        if wrong:
            red += 1
            print(f"seed {seed} ({fate}): {'; '.join(wrong)[:SHOWN]}\n  again: make disasters SEED={seed}", flush=True)
            if options.until_red:
                break
        if number % BATCH == 0:
            print(f"{number} seeds, {red} of them red, {time.monotonic() - begin:.0f} s", flush=True)
    print(f"{sum(shapes.values())} seeds, {red} of them red, in {time.monotonic() - begin:.0f} s: ", end="")
    print(", ".join(f"{name} {count}" for name, count in sorted(shapes.items())))
    return 1 if red else 0


def _lived(seed: int, folder: Path) -> Any:
    """A seed's fate in words, and what is wrong after it."""
    simulation = Simulation(seed, folder)
    return [str(simulation.fate), simulation.run()]


def _told(seed: int) -> int:
    """One seed, with everything that happened in it."""
    with tempfile.TemporaryDirectory() as folder:
        simulation = Simulation(seed, Path(folder))
        print(f"seed {seed}: {simulation.fate}", flush=True)
        wrong = simulation.run()
        events = [(event.at, event.text) for home in simulation.homes for event in home.ledger.events.all()]
        happened = [f"{time.strftime('%m-%d %H:%M:%S', time.gmtime(at))}     {text}" for at, text in set(events)]
        print("\n".join(sorted([*simulation.told, *happened])))
    for one in wrong:
        print(f"WRONG: {one}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
