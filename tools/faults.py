"""The fault matrix: every disaster in every shape, every change that a process can die after; docs/faults.md.

Part of `make faults`. Exit code 1: a cell is red or empty; what is wrong is printed, and the page is written all the
same. `--quick`: the matrix alone, and no page.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.faults import page, rehearsals
from tests.faults.cells import cells, lived
from tests.faults.deaths import deaths
from tests.faults.forking import in_processes
from tests.unit.engine.stories import NAMES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "faults.md"
BATCH = 12  # cells a process


def main(arguments: list[str]) -> int:
    """Fill the matrix."""
    said = argparse.ArgumentParser(prog="make faults", description=__doc__)
    said.add_argument("--jobs", type=int, default=2, help="processes at the same time")
    said.add_argument("--seed", type=int, default=1, help="of the sample on the real emulators")
    said.add_argument("--quick", action="store_true")
    options = said.parse_args(arguments)
    filling = _Filling(options.seed)
    for (fault, shape, way), result, broken in in_processes(_cell, cells(), jobs=options.jobs, batch=BATCH):
        cell = result or {"fault": fault, "shape": shape, "way": way, "exit": None, "machines": 0, "wrong": [broken]}
        filling.cells.append(cell)
        filling.say(f"{fault}, {shape}, {way}", cell["wrong"])
    if options.quick:
        return filling.ended()
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(rehearsals.sample(options.seed)):
            filling.rehearsed.append(rehearsals.lived(case, Path(folder) / str(number)))
            filling.say(f"rehearsed {case.fault}", filling.rehearsed[-1]["wrong"])
            filling.write()
    for name, result, broken in in_processes(deaths, NAMES, jobs=1, batch=1):  # each forks two at a time
        filling.dead[name] = result or {"places": 0, "deaths": 0, "wrong": [broken]}
        filling.say(name, filling.dead[name]["wrong"])
        filling.write()
    return filling.ended()


class _Filling:
    """What is known so far; the page has it as soon as it is."""

    def __init__(self, seed: int) -> None:
        self._seed, self._begin, self._red = seed, time.monotonic(), 0
        self.cells, self.rehearsed = list[dict[str, Any]](), list[dict[str, Any]]()
        self.dead: dict[str, dict[str, Any]] = {}

    def say(self, where: str, wrong: list[str]) -> None:
        """A line for each that is wrong, and now and then how far it is."""
        self._red += len(wrong)
        for one in wrong:
            print(f"RED {where}: {one[:1500]}", flush=True)
        if len(self.cells) % 100 == 0 or self.rehearsed:
            print(f"{self._seconds:.0f} s: {len(self.cells)} cells, {where}", flush=True)

    def write(self) -> None:
        """The page."""
        said = page.render(self.cells, self.dead, self.rehearsed, seed=self._seed, seconds=self._seconds)
        PAGE.write_text(said)

    def ended(self) -> int:
        """The exit code."""
        print(f"{self._seconds:.0f} s, {self._red} are wrong")
        return 1 if self._red else 0

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._begin


def _cell(cell: tuple[str, str, str], folder: Path) -> dict[str, Any]:
    return lived(*cell, folder).document()


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the same cells are the same runs
        again = [sys.executable, "-m", "tools.faults", *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | {"PYTHONHASHSEED": "0"})  # noqa: S606
    sys.exit(main(sys.argv[1:]))
