"""The end of a run: nothing of it may be left running; what may be is said, with the command that ends it."""

from __future__ import annotations

from orchestrator.engine.context import Context
from orchestrator.engine.machines import Machines, each
from orchestrator.engine.volumes import Volumes
from orchestrator.ledger import tables
from orchestrator.words.lifecycle import ENDED, Outcome, VolumeState
from orchestrator.words.ports import Capability


class Ending:
    """Ends what a run has made; each method returns what could not be ended, in words."""

    def __init__(self, context: Context, machines: Machines, volumes: Volumes) -> None:
        self._context, self._machines, self._volumes = context, machines, volumes

    def machines(self, reason: str) -> list[str]:
        """Destroy every machine that the ledger knows and every one that the provider lists under the run's name."""
        rows = self._context.ledger.all(tables.machines, run=self._context.run)
        names = [str(r["name"]) for r in reversed(rows) if r["state"] not in ENDED]  # last in, first out
        ends = each(names, lambda n: self._machines.destroy(n, reason))
        prices = {str(r["name"]): r["price_hour"] for r in rows}
        left = [f"{name} (${prices[name]} an hour; {end['why']})" for name, end in ends.items() if not end["gone"]]
        return left + self._machines.sweep(reason)

    def volume(self, outcome: Outcome) -> list[str]:
        """Delete the volumes whose work is done; the others are kept until their deadline, and said so."""
        left = []
        spec = self._context.spec
        done = outcome == Outcome.SUCCEEDED and spec.ends_volume  # what is to be saved is verified, or it had failed
        needs = {p.phase.volume for p in self._context.phases if p.phase.volume}
        for need in needs:
            row = self._volumes.row(need)
            if row is None:
                continue
            name = row.name
            if not done and row.state != VolumeState.DESTROYING:
                day = row.price_hour * 24
                self._context.event(f"{name}: kept, ${day:.2f} a day")
                continue
            end = self._volumes.destroy(name)
            if not end["gone"]:
                left.append(f"{name} ({end['why']})")
        return left

    def settle(self) -> str:
        """Compare with the provider's own billing where there is one; note it in the ledger."""
        context = self._context
        if Capability.BILLING in context.provider.capabilities:
            rows = [r for r in context.ledger.all(tables.machines, run=context.run) if r["provider_id"]]
            try:
                billed = context.provider.billed([str(r["provider_id"]) for r in rows])
            except Exception as error:  # noqa: BLE001  whatever the bill looks like, the run has ended
                context.event(f"{context.provider.name}'s billing could not be read: {error}")
                return ""
            if len(billed) == len(rows):
                context.ledger.change(tables.runs, {"id": context.run}, settled=1)
                machines = "1 machine" if len(rows) == 1 else f"{len(rows)} machines"
                context.event(f"{context.provider.name} has billed ${sum(billed.values()):.4f} for {machines}")
                return str(sum(billed.values()))
        return ""
