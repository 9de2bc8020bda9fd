"""A machine that fell silent though its provider calls it healthy: rebooted once in its life, and waited for."""

from __future__ import annotations

from orchestrator.engine.context import Context
from orchestrator.engine.effects import NotReached
from orchestrator.engine.machines import Machines
from orchestrator.ledger.rows import MachineRow
from orchestrator.transport.job_replies import JobInfo
from orchestrator.words.errors import Ambiguous, ConnectionLost, ProviderUnavailable, Refused, StepFailed
from orchestrator.words.provider import Capability

BACK_S = 600.0  # until a machine that is rebooted is as ready as a new one, in the cloud's time


class Reboots:
    """The reboots of one run. Every method is safe to run again after a crash in the middle of it."""

    def __init__(self, context: Context, machines: Machines) -> None:
        self._context, self._machines, self._ledger = context, machines, context.ledger

    def ask(self, phase: str) -> list[str]:
        """Have those of the phase's machines rebooted that fell silent; the names of those to be waited for."""
        rows = self._context.machines(phase)
        return [row.name for row in rows if row.silent_at is not None and self._ask(row, row.silent_at)]

    def _ask(self, row: MachineRow, silent_at: float) -> bool:
        """Whether the machine is being rebooted. It is written down before the provider is asked, and asked once.

        A process that dies around the call never learns whether it was heard: the machine is waited for all the same.
        """
        if row.rebooted_at is not None:
            return row.rebooted_at >= silent_at
        if Capability.REBOOT not in self._context.provider.capabilities:
            return False
        self._context.control.check()
        self._ledger.machines.change({"name": row.name}, rebooted_at=self._context.now())
        how = "rebooted"
        try:
            self._context.provider.reboot(row.provider_id)
        except Ambiguous as error:
            how = f"perhaps rebooted ({error.message})"
        except (Refused, ProviderUnavailable) as error:
            self._context.event(f"{row.name}: {row.reason}; it is not rebooted: {error.message}")
            return False
        self._context.event(f"{row.name}: {row.reason}; {how}, and waited for up to {BACK_S / 60:g} min")
        return True

    def await_back(self, phase: str, names: list[str]) -> list[str]:
        """Wait until they are as ready as new ones, each layer of it, for BACK_S at most; those that are.

        The steps that ran there go on where their jobs do; services, and what had to do with other nodes, begin anew.
        """
        away = [
            name for name in names if self._ledger.machines.get(name=name).reason
        ]  # else it was seen before a crash
        for name in away:
            self._context.agents.forget(name)
        ends = self._machines.await_again(away, BACK_S) if away else []
        for name, end in zip(away, ends, strict=True):
            why = end.why if isinstance(end, NotReached) else self._clear(phase, name)
            reason = self._ledger.machines.get(name=name).reason
            if why:
                self._context.event(f"{name}: the reboot has not brought it back: {why}")
                continue
            self._ledger.machines.change({"name": name}, reason="", silent_at=None)
            self._context.event(f"{name}: it answers again (before: {reason})")
        return [name for name in names if not self._ledger.machines.get(name=name).reason]

    def _clear(self, phase: str, name: str) -> str:
        """Stop what a reboot that came to nothing has left running and nobody goes on with; why that failed."""
        alone = self._context.phase(phase).phase.machine.nodes == 1

        def in_the_way(job: JobInfo) -> bool:
            return job.service or not alone

        try:
            self._machines.stop_jobs(name, in_the_way)
        except (ConnectionLost, StepFailed) as error:
            return error.message
        return ""
