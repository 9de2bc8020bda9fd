"""Ends a run's machines at the provider, by name, when its stopping lasts too long: it asks nothing of them."""

from __future__ import annotations

import contextlib
import threading

from orchestrator.engine.context import Context
from orchestrator.engine.machines import each
from orchestrator.ledger import tables
from orchestrator.words.lifecycle import ENDED

STOPPING_S = 90.0  # after which the machines are ended, in the cloud's time
LOOK_S = 0.5
AGAIN_S = 10.0  # a machine may appear late, and a delete may be refused


class Watchdog(threading.Thread):
    """Looks on while the run is driven. Proving that the machines are gone stays the story's own part."""

    def __init__(self, context: Context) -> None:
        super().__init__(daemon=True, name="watchdog")
        self._context = context
        self._limit_s = context.clock.real(STOPPING_S)
        self._ended = threading.Event()
        self._told: set[str] = set()

    def run(self) -> None:
        """Until ended. What the user's own host has to do is left to the story: it costs nothing."""
        while not self._ended.wait(LOOK_S):
            if self._context.control.stopping_s > self._limit_s and self._context.provider.rented:
                self._end_machines()
                self._ended.wait(AGAIN_S)

    def end(self) -> None:
        """Look no more."""
        self._ended.set()

    def _end_machines(self) -> None:
        """Send a delete for each at the same time, and wake whoever waits for one of them to answer."""
        living = self._living()
        each(list(living), lambda machine_id: self._end(machine_id, living[machine_id]))
        for name in living.values():
            self._context.agents.drop(name)

    def _living(self) -> dict[str, str]:
        """Id -> name of what the provider lists under the run's name, or where it does not answer, the ledger."""
        context, found = self._context, dict[str, str]()
        with contextlib.suppress(Exception):  # the ledger may be the one that cannot be read
            rows = context.ledger.all(tables.machines, run=context.run)
            found = {r["provider_id"]: r["name"] for r in rows if r["provider_id"] and r["state"] not in ENDED}
        with contextlib.suppress(Exception):
            found |= {v.id: v.name for v in context.provider.machines() if v.name.startswith(context.spec.prefix)}
        return found

    def _end(self, machine_id: str, name: str) -> dict[str, str]:
        why = "stopping takes too long"
        try:
            self._context.provider.destroy(machine_id)
        except Exception as error:  # noqa: BLE001  it is sent again in the next round
            why = str(error)
        if name not in self._told:
            self._told.add(name)
            with contextlib.suppress(Exception):  # a full disk must not keep the others alive
                self._context.event(f"{name}: ended at {self._context.provider.name}, by its name: {why}")
        return {}
