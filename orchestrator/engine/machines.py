"""A machine's life: name written down, created once, waited for, prepared, and destroyed until proven gone."""

from __future__ import annotations

import math
import shlex
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from orchestrator.engine import gone, setup
from orchestrator.engine.context import Context
from orchestrator.engine.creation import CUT, Creations
from orchestrator.engine.effects import Created, End, Gone, NotGone, NotReached, Reached, Readiness, Refused
from orchestrator.engine.names import MachineName
from orchestrator.engine.peers import meet
from orchestrator.engine.reach import through_cuts
from orchestrator.engine.readiness import ENDED_STATUSES, POLL_S, address, charge, wait
from orchestrator.engine.transfers import CODE, Transfer
from orchestrator.ledger.database import Connection
from orchestrator.ledger.rows import ChargeRow, MachineRow
from orchestrator.transport.agent import Agent
from orchestrator.transport.job_replies import JobInfo
from orchestrator.transport.refusals import TorchFailed
from orchestrator.words.errors import AccountRefused, MachineLost, ProviderUnavailable, StepFailed
from orchestrator.words.lifecycle import MachineState
from orchestrator.words.provider import Offer
from orchestrator.words.spec import plain

T = TypeVar("T")
CUTS_APART_S = 120.0  # between two that are said of one machine, in the cloud's time
LOOKS = 2  # at a machine before it is ended: one request that fails says nothing of it
STOP_JOBS_S = 120.0  # real seconds for the jobs on a machine that stays


class Machines:
    """The machines of one run. Every method is safe to run again after a crash in the middle of it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.clock, self.control = context.clock, context.control
        self._ledger, self._provider = context.ledger, context.provider
        self.creations = Creations(context)
        self._naming = threading.Lock()
        self._vouched: set[str] = set()
        self._cut_at: dict[str, float] = {}  # machine -> its last cut, by the clock's monotonic time
        self._cutting = threading.Lock()  # all that follow what runs on a machine are cut at the same time

    # -- coming to life --------------------------------------------------------------------------------------------

    def request(self, phase: str, request: str, node: int, offer: Offer, seconds: float) -> str:
        """Write down that a machine is about to be created, and its name: the same one for the same request.

        `seconds`: how long it may live.
        """
        with self._naming:  # crews of one phase ask at the same time
            return self._request(phase, request, node, offer, seconds)

    def _request(self, phase: str, request: str, node: int, offer: Offer, seconds: float) -> str:
        run, now = self._context.run, self._context.now()
        mine = self._ledger.machines.all(run=run, phase=phase)
        if row := next((r for r in mine if r.request == request), None):
            if not row.state.is_final:
                self._ledger.charge(row.name, run, phase, now)
            return row.name
        deadline = int(self.clock.wall().timestamp() + seconds)
        name = str(MachineName(self._context.spec.owner, run, phase, len(mine) + 1, deadline))
        machine = MachineRow(
            name=name, run=run, phase=phase, request=request, node=node, provider=offer.provider,
            type_id=offer.type_id, gpu=offer.gpu, gpus=offer.gpus, place=offer.place, spot=offer.spot,
            price_hour=offer.price_hour, disk_hour=offer.disk_hour, state=MachineState.REQUESTED, requested_at=now,
            deadline=deadline,
        )  # fmt: skip

        def both(at_once: Connection) -> None:
            self._ledger.machines.put_in(at_once, machine)
            self._ledger.charges.put_in(at_once, ChargeRow(machine=name, run=run, phase=phase, since=now))

        self._ledger.write(both)
        return name

    def wait(self, names: list[str]) -> list[Readiness]:
        """Wait, for all at the same time, until each answers over SSH, its GPUs work, and it reaches the others."""
        found = self._wait(names, wait)
        for name, end in zip(names, found, strict=True):
            if isinstance(end, NotReached):
                self._ledger.machines.change({"name": name}, failed=end.why)
        return found

    def await_again(self, names: list[str], within_s: float) -> list[Readiness]:
        """The same of machines that were started again: in all within that time, of the cloud's."""

        def back(context: Context, row: MachineRow) -> Readiness:
            return wait(context, row, within_s, lambda: self.restarted(row.name))

        return self._wait(names, back)

    def _wait(self, names: list[str], ready: Callable[[Context, MachineRow], Readiness]) -> list[Readiness]:
        rows = [self._ledger.machines.get(name=name) for name in names]
        found = self.clock.gather([partial(ready, self._context, row) for row in rows])
        held = self._ledger.charges.all(run=self._context.run, machine=names[0], until=None)
        phase = held[0].phase if held else rows[0].phase
        crew = self._context.crew_of(phase, gpus=rows[0].gpus)
        if crew.need.nodes == 1 or not all(isinstance(end, Reached) for end in found):
            return found
        met = meet(self._context, phase, crew, names)
        return [met[name] for name in names]

    def prepare(self, name: str) -> None:
        """Bring code and venv to a machine that was reached, and open the live logs for people there.

        MachineLost: its torch does not compute on its cards. Another one takes over, before anything is downloaded.
        """
        agent = self._context.agents(name)
        folder = self._send_code(name, agent) if self._context.code.hash else ""
        settings, gpus = self._context.spec.plan.settings, self._ledger.machines.get(name=name).gpus
        more = settings.requirements_gpu if gpus or not self._provider.rented else ()
        files = [f"{folder}/{file}" for file in (*settings.requirements, *more)]
        try:
            agent.bootstrap(files, partial(self._said_of_venv, name), gpus=gpus if self._provider.rented else 0)
        except TorchFailed as error:
            self._ledger.machines.change({"name": name}, failed=error.message)
            self.distrust(name, error.message)
            raise MachineLost(f"{name}: {error.message}") from error
        if self._provider.rented and (attach := agent.view()):  # nothing is left on the user's own host
            self._context.event(f"{name}: live logs: gpuplan ssh -c {shlex.quote(attach)}", minor=True)

    def _said_of_venv(self, name: str, line: str) -> None:
        """Tell of what the image brings too old, or not at all, and of what computes on which card."""
        if line.startswith("not of the image:"):
            self._context.event(f"{name}: {line.strip()}: installed into the venv of the steps")
        elif line.startswith("torch "):
            self._context.event(f"{name}: {line.strip()}", minor=True)

    def _send_code(self, name: str, agent: Agent) -> str:
        """Bring the code there, as a transfer of one thing; its folder."""
        context, phase = self._context, self._ledger.machines.get(name=name).phase
        transfer = Transfer(context, phase, CODE, name)
        transfer.expect({"code": context.code.bytes})
        before = 0

        def sent(count: int) -> None:
            nonlocal before
            transfer.arrived("code", count, count - before)
            before = count

        folder = context.code.push(agent, kept=setup.has_begun(context, agent), sent=sent)
        transfer.whole("code")
        return folder

    # -- being there -----------------------------------------------------------------------------------------------

    def lost(self, name: str) -> str:
        """Why the machine is gone, in the provider's words; "": it is there as far as the provider knows."""
        row = self._ledger.machines.get(name=name)
        self._vouched.discard(name)
        if row.state.is_final or row.reason:
            return row.reason or "it was ended"
        try:
            view = self._provider.machine(row.provider_id)
            if view is None:  # one 404 is not proof
                self.clock.sleep(POLL_S)
                view = self._provider.machine(row.provider_id)
        except (ProviderUnavailable, AccountRefused):
            return ""
        if view is None:
            return f"{row.provider} has no such machine any more"
        if view.status in ENDED_STATUSES:
            return f"{row.provider} says {view.detail}"
        address(self._context, row, view)
        if self._provider.rented:  # of the user's own host nobody else knows anything
            self._vouched.add(name)
        return ""

    @property
    def silence_s(self) -> float:
        """See engine.reach.Reached."""
        return self._context.spec.plan.settings.unreachable_minutes * 60

    def was_cut(self, name: str, why: str) -> None:
        """See engine.reach.Reached. Said once for as long as it goes on, however many are cut with it."""
        now, apart = self.clock.monotonic(), self.clock.scaled(CUTS_APART_S)
        with self._cutting:
            last, self._cut_at[name] = self._cut_at.get(name), now
        if last is None or now - last > apart:
            self._context.event(f"{name}: connection lost ({why}); what runs there goes on")

    def is_vouched_for(self, name: str) -> bool:
        """See engine.reach.Reached."""
        return name in self._vouched

    def restarted(self, name: str) -> bool | None:
        """Whether the provider says that the machine was started again since we first reached it; None: it is silent.

        Then what shows another host key is the same machine: the key is forgotten, and the next one is pinned.
        """
        row = self._ledger.machines.get(name=name)
        try:
            view = self._provider.machine(row.provider_id)
        except (ProviderUnavailable, AccountRefused):
            return None
        if view is None or view.started is None or view.started.timestamp() <= (row.reachable_at or math.inf):
            return False
        address(self._context, row, view)
        self._ledger.machines.change({"name": name}, reachable_at=self._context.now())
        self._ledger.host_keys.remove(address=name)
        self._context.agents.forget(name)
        self._context.event(f"{name}: {row.provider} has restarted it: it shows another host key, which is trusted now")
        return True

    def reaching(self, name: str, body: Callable[[], T]) -> T:
        """Do what needs the machine, again after each cut (engine.reach)."""
        return through_cuts(self, name, body)

    def distrust(self, name: str, reason: str) -> None:
        """From now on the machine counts as lost, whatever the provider says."""
        self._ledger.machines.change({"name": name}, reason=reason)

    def fell_silent(self, name: str, reason: str) -> None:
        """The same of one that a reboot may bring back."""
        self._ledger.machines.change({"name": name}, reason=reason, silent_at=self._context.now())

    # -- coming to an end ------------------------------------------------------------------------------------------

    def destroy(self, name: str, reason: str) -> End:
        """End a machine and wait for proof: accepted, unknown to GET, absent from the list.

        Never raises: whatever goes wrong, the machine counts as not gone.
        """
        try:
            return self._destroy(name, reason)
        except Exception as error:  # noqa: BLE001  one machine's failure must not keep the others alive
            self._context.event(f"{name}: could not be ended: {error}")
            return NotGone(str(error))

    def destroy_all(self, names: list[str], reason: str) -> list[tuple[str, End]]:
        """End several at the same time; every one gets its turn whatever the others do."""
        ends = self.clock.gather([partial(self.destroy, name, reason) for name in names])
        return list(zip(names, ends, strict=True))

    def _destroy(self, name: str, reason: str) -> End:
        row = self._ledger.machines.get(name=name)
        if row.state.is_final:
            return Gone()
        if not row.provider_id and not row.sent_at:
            self._ledger.gone(name, reason, MachineState.DESTROYED)
            return Gone()
        if not row.provider_id:
            found = self.creations.reconcile(name, CUT)
            if not isinstance(found, Created):
                return Gone() if isinstance(found, Refused) else NotGone(found.why)
        if not self._provider.rented and row.reachable_at:
            self.stop_jobs(name)  # the machine stays: what this run started there must not
        self._ledger.machines.move({"name": name}, MachineState.DESTROYING, reason=reason)
        self._context.agents.drop(name)
        return self._until_gone(self._ledger.machines.get(name=name))

    def stop_jobs(self, name: str, which: Callable[[JobInfo], bool] = lambda _: True) -> None:
        """Stop the jobs of this run that still run there. StepFailed: that takes too long."""
        agent = self._context.agents(name)
        give_up = self._context.clock.monotonic() + STOP_JOBS_S
        for job in agent.jobs():
            if self._context.clock.monotonic() > give_up:
                raise StepFailed(f"its jobs were not all stopped within {STOP_JOBS_S:.0f} s")
            if job.state == "running" and job.job.startswith(f"{plain(self._context.run)}.") and which(job):
                agent.stop(job.job)

    def _until_gone(self, row: MachineRow) -> End:
        # A fresh machine may be unknown to GET and list for a while: until then absence proves nothing, and a delete
        # may have found nothing to end.
        age = self._context.now() - (row.accepted_at or self._context.now())
        fresh_s = max(self.clock.scaled(self._provider.list_lag_s) - age, 0.0)
        seen = row.reachable_at is not None or self._is_shown(row)
        look = partial(charge, self._context, row)  # a fresh one may show its price only now
        proof = gone.machine(self._provider, self.clock, row.provider_id, fresh_s=fresh_s, seen=seen, look=look)
        if isinstance(proof, NotGone):
            self._context.event(f"{row.name}: not proven gone: {proof.why}")
            return proof
        self._ledger.gone(row.name, "", MachineState.DESTROYED, proof.at.timestamp())
        self._context.event(f"{row.name}: gone", minor=True)
        return Gone()

    def _is_shown(self, row: MachineRow) -> bool:
        """Whether the provider knows the machine now: then a delete that it accepts ends it.

        Nobody has reached the machine, and perhaps nobody has looked at what it really costs.
        """
        for _ in range(LOOKS):
            try:
                view = self._provider.machine(row.provider_id)
            except (ProviderUnavailable, AccountRefused):
                continue
            if view:
                charge(self._context, row, view)
            return view is not None
        return False
