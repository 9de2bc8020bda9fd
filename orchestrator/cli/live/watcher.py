"""Looks on at the provider while a run has its one machine: it changes nothing, and nothing waits for it."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

from orchestrator.words.errors import GpuplanError
from orchestrator.words.lifecycle import MachineState
from orchestrator.words.provider import Address, Facts

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.ledger.rows import MachineRow
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.world import World

LOOK_S = 4.0  # between two looks, in the cloud's time: a vendor's least known quota is 60 requests a minute
BANNER_S = 3.0  # real seconds that SSH has to say its name
ENDING = frozenset({MachineState.DESTROYING, MachineState.DESTROYED, MachineState.LOST})


class Watcher:
    """What was seen, in seconds of the cloud's time: each as often as it was looked, so up to LOOK_S too late."""

    def __init__(self, world: World, spec: RunSpec) -> None:
        self._world, self._run = world, spec.run
        self._provider = world.provider(spec.world.provider)
        self._scale = world.clock.time_scale
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watcher")
        self._asked = ""  # the machine that is looked at
        self._ended_at: float | None = None
        self.seen: dict[str, float] = {}  # fields of Observed
        self.tier = ""
        self.facts = Facts()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        with contextlib.suppress(GpuplanError):
            self.facts = self._provider.facts()
        ledger = self._world.home.open_ledger()
        try:
            while not self._stop.wait(self._world.clock.scaled(LOOK_S)):
                self._look(ledger)
            self._look(ledger)
        finally:
            ledger.close()

    def _look(self, ledger: Ledger) -> None:
        rows = [row for row in ledger.machines.all(run=self._run) if row.accepted_at]
        if not rows:
            return
        row = max(rows, key=lambda one: one.accepted_at or 0.0)
        if row.name != self._asked:  # one before it did not come up
            self._asked, self._ended_at = row.name, None
            self.seen.clear()
        for look in (self._look_at_end,) if row.state in ENDING else (self._look_at_list, self._look_at_machine):
            with contextlib.suppress(GpuplanError):
                look(row)

    def _since(self, moment: float) -> float:
        return round((self._world.home.timeline() - moment) / self._scale, 1)

    def _note(self, what: str, since: float) -> None:
        self.seen.setdefault(what, self._since(since))

    def _look_at_list(self, row: MachineRow) -> None:
        if "listed_s" not in self.seen and any(v.id == row.provider_id for v in self._provider.machines()):
            self._note("listed_s", row.accepted_at or 0.0)
        if not self.tier:
            self.tier = next((v.tier for v in self._provider.volumes() if v.tier and v.name.find(self._run) > 0), "")

    def _look_at_machine(self, row: MachineRow) -> None:
        since = row.accepted_at or 0.0
        if {"ssh_s", "private_s"} <= self.seen.keys():
            return
        view = self._provider.machine(row.provider_id)
        if view is None:
            return
        self._note("known_s", since)
        if view.private_ip:
            self._note("private_s", since)
        if view.address:
            self._note("address_s", since)
            if "ssh_s" not in self.seen and _speaks_ssh(view.address):
                self._note("ssh_s", since)

    def _look_at_end(self, row: MachineRow) -> None:
        if self._ended_at is None:
            self._ended_at = self._world.home.timeline()
        if "unlisted_s" not in self.seen and all(v.id != row.provider_id for v in self._provider.machines()):
            self._note("unlisted_s", self._ended_at)
        if "unknown_s" not in self.seen and self._provider.machine(row.provider_id) is None:
            self._note("unknown_s", self._ended_at)


def _speaks_ssh(address: Address) -> bool:
    """Whether what answers there says that it is SSH. Nothing is sent."""
    try:
        with socket.create_connection((address.host, address.port), timeout=BANNER_S) as line:
            return line.recv(4) == b"SSH-"
    except OSError:
        return False
