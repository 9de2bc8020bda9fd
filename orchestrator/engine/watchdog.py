"""Ends a run's machines at the provider, by name, when its stopping lasts too long: it asks nothing of them."""

from __future__ import annotations

import contextlib
from functools import partial

from orchestrator.engine.context import Context
from orchestrator.engine.names import MachineName

STOPPING_S = 90.0  # after which the machines are ended, in the cloud's time
LOOK_S = 0.5
AGAIN_S = 10.0  # a machine may appear late, and a delete may be refused


class Watchdog:
    """Looks on while the run is driven. Proving that the machines are gone stays the story's own part."""

    def __init__(self, context: Context, look_s: float = LOOK_S) -> None:
        self._context, self._look_s = context, look_s
        self._limit_s = context.clock.real(STOPPING_S)
        self._ended = False
        self._changed = context.clock.signal()
        self._told: set[str] = set()
        context.clock.spawn("watchdog", self._look_on)

    def end(self) -> None:
        """Look no more."""
        self._ended = True
        self._changed.notify()

    def _look_on(self) -> None:
        """Until ended. What the user's own host has to do is left to the story: it costs nothing."""
        while not self._changed.wait(lambda: self._ended, self._look_s):
            if self._context.control.stopping_s > self._limit_s and self._context.provider.rented:
                self._end_machines()
                self._changed.wait(lambda: self._ended, AGAIN_S)

    def _end_machines(self) -> None:
        """Send a delete for each at the same time, and wake whoever waits for one of them to answer."""
        living = self._living()
        self._context.clock.gather([partial(self._end, machine_id, name) for machine_id, name in living.items()])
        for name in living.values():
            self._context.agents.drop(name)

    def _living(self) -> dict[str, str]:
        """Id -> name of what the provider lists under the run's name, or where it does not answer, the ledger."""
        context, found = self._context, dict[str, str]()
        with contextlib.suppress(Exception):  # the ledger may be the one that cannot be read
            rows = context.ledger.machines.all(run=context.run)
            found = {r.provider_id: r.name for r in rows if r.provider_id and not r.state.is_final}
        with contextlib.suppress(Exception):
            found |= {v.id: v.name for v in context.provider.machines() if self._is_ours(v.name)}
        return found

    def _is_ours(self, name: str) -> bool:
        parsed = MachineName.parse(name)
        return parsed is not None and parsed.is_of(self._context.spec.owner, self._context.run)

    def _end(self, machine_id: str, name: str) -> None:
        why = "stopping takes too long"
        try:
            self._context.provider.destroy(machine_id)
        except Exception as error:  # noqa: BLE001  it is sent again in the next round
            why = str(error)
        if name not in self._told:
            self._told.add(name)
            with contextlib.suppress(Exception):  # a full disk must not keep the others alive
                self._context.event(f"{name}: ended at {self._context.provider.name}, by its name: {why}")
