"""The end of a run: nothing of it may be left running; what may be is said, with the command that ends it."""

from __future__ import annotations

from decimal import Decimal

from orchestrator import cost
from orchestrator.engine import leftovers
from orchestrator.engine.books import close_books
from orchestrator.engine.context import Context
from orchestrator.engine.effects import NotGone, RunEnd
from orchestrator.engine.machines import Machines
from orchestrator.engine.names import VolumeName
from orchestrator.engine.volumes import Volumes
from orchestrator.ledger.rows import MachineRow, VolumeRow
from orchestrator.words.lifecycle import Outcome, RunState, VolumeState
from orchestrator.words.provider import Capability
from orchestrator.words.spec import plain

BILLING_UNIT_S = 60.0  # the longest that a vendor bills at a time: so much less than ours a whole bill may be


class Ending:
    """Ends what a run has made."""

    def __init__(self, context: Context, machines: Machines, volumes: Volumes) -> None:
        self._context, self._machines, self._volumes = context, machines, volumes

    def end_machines(self, reason: str) -> list[str]:
        """Destroy every machine that the ledger knows and every one that the provider lists under the run's name.

        Return what could not be ended, in words.
        """
        leftovers.recall(self._context)
        rows = self._context.ledger.machines.all(run=self._context.run)
        names = [row.name for row in reversed(rows) if not row.state.is_final]  # last in, first out
        prices = {row.name: row.price_hour for row in rows}
        ends = self._machines.destroy_all(names, reason)
        left = [f"{name} (${prices[name]:.2f} an hour; {end.why})" for name, end in ends if isinstance(end, NotGone)]
        return left + leftovers.sweep(self._context, reason)

    def end_volumes(self, outcome: Outcome) -> list[str]:
        """Delete the volumes whose work is done; the others are kept until their deadline, and said so."""
        left = []
        spec = self._context.spec
        over = outcome == Outcome.SUCCEEDED or spec.fleeting
        done = over and spec.ends_volume  # what is to be saved is verified, or it had failed
        needs = {v.name: v for name in spec.wanted if (v := spec.plan.phase(name).volume)}
        for need in needs.values():
            row = self._volumes.row(need)
            if row is None:
                continue
            if not done and row.state != VolumeState.DESTROYING and not self._is_new_and_unused(row):
                self._context.event(f"{row.name}: kept, ${row.price_hour * 24:.2f} a day", minor=True)
                continue
            if isinstance(end := self._volumes.destroy(row.name), NotGone):
                left.append(f"{row.name} ({end.why})")
        return left

    def _is_new_and_unused(self, row: VolumeRow) -> bool:
        """Whether this very run made the volume, and no step of it ever began: nothing is on it."""
        name, run = VolumeName.parse(row.name), self._context.run
        if name is None or name.run != plain(run):
            return False
        return not any(step.started_at for step in self._context.ledger.steps.all(run=run))

    def settle(self) -> None:
        """Take the provider's own bill for what the machines cost, where there is one that knows all of their time."""
        context = self._context
        if Capability.BILLING not in context.provider.capabilities:
            return
        rows = [row for row in context.ledger.machines.all(run=context.run) if row.provider_id]
        try:
            billed = context.provider.billed([row.provider_id for row in rows])
        except Exception as error:  # noqa: BLE001  whatever the bill looks like, the run has ended
            context.event(f"{context.provider.name}'s billing could not be read: {error}")
            return
        if len(billed) < len(rows):
            return
        machines = "1 machine" if len(rows) == 1 else f"{len(rows)} machines"
        said = f"{context.provider.name} has billed ${sum(billed.values()):.4f} for {machines}"
        if not all(_is_whole(row, billed[row.provider_id]) for row in rows):
            context.event(f"{said} so far: less than their time, so what was counted stands", minor=True)
            return
        for row in rows:
            context.ledger.machines.change({"name": row.name}, billed_usd=billed[row.provider_id])
        context.ledger.runs.change({"id": context.run}, settled=True)
        context.event(said, minor=True)

    def close(self) -> None:
        """The run is done: every machine of it is proven gone."""
        self._context.ledger.runs.move({"id": self._context.run}, RunState.DONE, ended_at=self._context.now())

    def again(self) -> RunEnd:
        """End what a run has left whose story came to its end before; what cannot be ended is said as it is today.

        Nothing of it is recorded: it is done again for as long as something is left.
        """
        ledger, run = self._context.ledger, self._context.run
        outcome = ledger.runs.get(id=run).outcome or Outcome.INTERRUPTED
        left = self.end_machines(outcome) + self.end_volumes(outcome)
        self.settle()
        if not left:
            close_books(ledger, run)
        return RunEnd(outcome, tuple(left))


def _is_whole(row: MachineRow, usd: Decimal) -> bool:
    """Whether a bill covers the machine's time: some know of the last minutes only later.

    Its disk is billed from some moment before we reach it on, and by a month that the vendor knows.
    """
    if row.gone_at is None:
        return False
    machine, disk = (
        Decimal(str(max(row.gone_at - (since or row.gone_at) - BILLING_UNIT_S, 0.0))) / 3600
        for since in (row.sent_at, row.reachable_at)
    )
    least = cost.HOURS_A_MONTH / cost.LONGEST_MONTH
    return usd >= (row.price_hour - row.disk_hour) * machine + row.disk_hour * least * disk
