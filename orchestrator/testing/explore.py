"""Every place where a process can die: around each effect, or after each change that outlives it.

It is tried by forking there and going on in the child.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.engine.effects import RunEnd
from orchestrator.testing.bench import Bench

Way = Callable[[Bench], list[str]]  # what the next process does; what is wrong afterwards
AT_A_TIME = 2  # children


@dataclass(frozen=True, slots=True)
class Death:
    """One way to die and to go on. `wrong`: what does not hold afterwards; empty: all well."""

    where: str  # WORKFLOW: EFFECT, before | after; or the number of a change, and what changed
    way: str
    wrong: tuple[str, ...]


class Explorer:
    """Runs a story to its end, and beside it every story that is cut short at one of its effects."""

    def __init__(self, bench: Bench, ways: dict[str, Way], scratch: Path, *, changes: bool = False) -> None:
        """`changes`: after each change that outlives a process; else before and after each effect."""
        self._bench, self._ways, self._scratch, self._changes = bench, ways, scratch, changes
        self.places = 0  # where it died, each time in every way
        self._children: list[tuple[str, str, int, int, Path]] = []  # where, way, pid, pipe, its copy of what is on disk
        self.deaths: list[Death] = []

    def run(self) -> RunEnd:
        """The undisturbed end; `deaths` is filled."""
        gc.collect()
        gc.freeze()  # a child that collects touches, and so copies, every page
        if self._changes:
            self._bench.watchers.changed = self._die
            end = self._bench.controller().run()
        else:
            end = self._bench.controller().run(lambda *place: self._die("{}: {}, {}".format(*place)))
        while self._children:
            self._collect()
        gc.unfreeze()
        return end

    def _die(self, where: str) -> None:
        self.places += 1
        for name, way in self._ways.items():
            while len(self._children) >= AT_A_TIME:
                self._collect()
            folder = self._scratch / str(len(self.deaths) + len(self._children))
            self._bench.copy_to(folder)  # here, where nothing writes: this process goes on while the child looks at it
            read, write = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(read)
                self._live_on(way, folder, write)
            os.close(write)
            self._children.append((f"{self.places}: {where}" if self._changes else where, name, pid, read, folder))

    def _live_on(self, way: Way, folder: Path, write: int) -> None:
        """In the child: nothing of the controller is left but what lies on disk and in the clouds."""
        gc.disable()
        self._bench.watchers.changed = lambda _where: None
        try:
            self._bench.go_on_in(folder)
            wrong = way(self._bench)
        except BaseException:  # noqa: BLE001  the parent is to hear of whatever goes wrong
            wrong = [traceback.format_exc()]
        with os.fdopen(write, "w") as pipe:
            json.dump(wrong, pipe)
        os._exit(0)

    def _collect(self) -> None:
        where, way, pid, read, folder = self._children.pop(0)
        with os.fdopen(read) as pipe:
            text = pipe.read()
        os.waitpid(pid, 0)
        shutil.rmtree(folder)
        wrong = json.loads(text) if text else ["its process died without a word"]
        self.deaths.append(Death(where, way, tuple(wrong)))
