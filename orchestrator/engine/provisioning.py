"""The effects that bring a phase its machines: volume, offers, creates, and what is laid on them before a step runs."""

from __future__ import annotations

from functools import partial

from orchestrator.engine import agreement, setup
from orchestrator.engine.context import Context
from orchestrator.engine.creation import offer_of
from orchestrator.engine.effects import Creation, NotReached, Readiness
from orchestrator.engine.limits import ENDING_S, LEASE_S, lasting_s
from orchestrator.engine.machines import Machines
from orchestrator.engine.reach import patiently
from orchestrator.engine.resting import resting
from orchestrator.engine.volumes import Volumes
from orchestrator.ledger.rows import VolumeUseRow
from orchestrator.plan import Crew, fits, kinds, ranked
from orchestrator.plan.crews import Name
from orchestrator.transport.refusals import LeaseHeld
from orchestrator.words.errors import MachineLost, NoMachine, OverBudget
from orchestrator.words.lifecycle import MachineState, PhaseState, RunState
from orchestrator.words.model import Phase
from orchestrator.words.provider import Offer

MOST_NOWHERE = 2  # machines for one node that nobody could reach: each is paid for until it is given up
SPOT_GONE = (
    "every type was refused as interruptible: it seems that none is sold any more; leave --spot out, or take "
    "--spot-or-demand"
)
SPARE_S = 3600.0  # between the last phase's time-out and the machine's deadline


class Provisioning:
    """Machines and volume of the run's phases. Every method may run again after a crash in the middle of it."""

    def __init__(self, context: Context, machines: Machines, volumes: Volumes) -> None:
        self._context, self._machines, self._volumes = context, machines, volumes
        self._ledger = context.ledger

    def begin(self, name: str) -> None:
        """The phase is under way: its time-out and its budget count from here."""
        key, now = {"run": self._context.run, "name": name}, self._context.now()
        started = self._ledger.phases.get(**key).started_at or now
        self._ledger.phases.move(key, PhaseState.PROVISIONING, started_at=started)

    def volume(self, name: str) -> str:
        """The name of the phase's volume, made if need be; "": it has none."""
        self._context.control.check()
        need = self._phase(name).volume
        found = self._volumes.ensure(need) if need else ""
        if found:
            self._ledger.volume_uses.put(VolumeUseRow(volume=found, run=self._context.run))
        return found

    def take_over(self, name: str, crew: Crew) -> bool:
        """Go on with what the phase holds, or take over what an earlier phase has left for it, if it fits."""
        if len(self._context.of_crew(name, crew)) >= len(crew.nodes):
            return True  # it was not lost, or a crash came after it was taken over
        earlier = left_by(self._context, name)
        if not earlier or crew.name != self._context.crews(name)[0].name:
            return False
        row = self._context.root(earlier)
        if row is None or not fits(crew.need, offer_of(row)) or (crew.need.nodes > 1 and not row.private_ip):
            return False
        self._ledger.charge(row.name, self._context.run, name, self._context.now())
        self._context.event(f"{row.name}: taken over by {name}", minor=True)
        return True

    def offers(self, name: str, crew: Crew) -> list[Offer]:
        """The machines to try, best first; where the phase has one already, those at its place."""
        check = self._context.control.check
        check()
        need, spec = crew.need, self._context.spec
        phase = self._phase(name).model_copy(update={"machine": need})
        places = {row.place for row in self._context.machines(name)}
        sold = []
        for kind in kinds(phase, spot=spec.spot, spot_or_demand=spec.spot_or_demand):
            cuda = spec.plan.settings.cuda.get(self._context.provider.name, "")
            ask = partial(self._context.provider.offers, gpus=need.count if need.gpu else 0, spot=kind, min_cuda=cuda)
            sold.append((kind, patiently(self._context.clock, ask, check=check)))
        rests = resting(self._ledger, spec, self._context.clock)
        found = ranked(phase, sold, place=spec.place, rests=rests)
        if spec.movable and found and self._is_untouched():  # another type than that is looked for elsewhere first
            found = [offer for offer in found if offer.gpu == found[0].gpu]
        once = {(o.type_id, o.place, o.spot): o for o in reversed(found)}  # a type of several names is tried once
        first = [o for o in found if once[o.type_id, o.place, o.spot] is o]
        return [o for o in first if not places or o.place in places]

    def _is_untouched(self) -> bool:
        """Whether no step of the run ever began: nothing is on the volume that would have to stay where it is."""
        return not any(step.started_at for step in self._ledger.steps.all(run=self._context.run))

    def missing_nodes(self, name: str, crew: Crew) -> list[int]:
        """Which nodes of the crew have no machine."""
        have = {row.node for row in self._context.of_crew(name, crew)}
        return [node for node in crew.nodes if node not in have]

    def request(self, name: str, request: str, node: int, offer: Offer) -> str:
        """Choose a machine's name and write it down before anything is asked. OverBudget: it could only be ended."""
        clock, spec = self._context.clock, self._context.spec
        if lasting_s(self._ledger, spec, name, offer.price_hour) < clock.scaled(ENDING_S):
            rate = f"${offer.price_hour:.4f}/h"
            raise OverBudget(f"{name}: what is left of the budget does not last for a machine at {rate}")
        return self._machines.request(name, request, node, offer, self._lifetime(name))

    def create(self, name: str, crew: Crew, machine: str) -> Creation:
        """Create it, once."""
        need = self._phase(name).volume
        return self._machines.creations.create(machine, crew.need, self._volumes.row(need) if need else None)

    def wait(self, machines: list[str]) -> list[Readiness]:
        """Wait for all of them at the same time."""
        return self._machines.wait(machines)

    def prepare(self, name: str, crew: Crew) -> str:
        """Code, venv and setup on every node at once, then the volume's lease; "" or why the machine is lost."""
        self._context.control.check()
        rows = self._context.of_crew(name, crew)
        names = [row.name for row in rows]
        if not names:
            return f"{name} has no machine any more"
        reaching, prepare = self._machines.reaching, self._machines.prepare
        try:
            self._context.clock.gather([partial(reaching, node, partial(prepare, node)) for node in names])
            beyond = self._phase(name).machine.nodes if crew.name is Name.STAGING else 0  # its log is not the root's
            self._context.clock.gather(
                [partial(setup.run, self._context, self._machines, name, r.name, r.node + beyond) for r in rows]
            )
            volume = self._phase(name).volume
            if volume and crew.name == self._context.crews(name)[0].name:
                reaching(names[0], partial(self._lease, names[0], volume.name))
        except MachineLost as error:
            return error.message
        return ""

    def _lease(self, machine: str, volume: str) -> None:
        """Take the volume's lease; one that an ended run of ours left is taken over, another's if nobody renews it."""
        agent = self._context.agents(machine)
        try:
            agent.lease(volume, self._context.run, LEASE_S)
        except LeaseHeld as error:
            holder = self._ledger.runs.maybe(id=error.holder)
            if holder is None or holder.state != RunState.DONE:
                said = f"{volume} is held by {error.holder}: taken if it is not renewed for {LEASE_S:.0f} s"
                self._context.event(said)
                agent.await_lease(volume, self._context.run, LEASE_S)
                return
            agent.lease(volume, error.holder, LEASE_S, "release")
            agent.lease(volume, self._context.run, LEASE_S)

    def keep_alive(self, name: str) -> None:
        """Have this process feed the dead-man's switches of the phase's machines and renew its lease."""
        volume, root = self._phase(name).volume, self._context.root(name)
        if volume and root:
            self._context.agents.hold(root.name, volume.name)

    def agree(self, name: str, agreed: list[str]) -> list[str]:
        """See agreement.agree. A machine that is lost meanwhile is found so by its steps."""
        try:
            return agreement.agree(self._context, self._machines, name, agreed)
        except MachineLost:
            return []

    def replace(self, name: str, why: str) -> None:
        """End what the phase holds that is lost, and note why: the phase is provisioned anew."""
        self._ledger.phases.move({"run": self._context.run, "name": name}, PhaseState.PROVISIONING)
        for row in self._context.machines(name, MachineState.DESTROYING):  # a process died over it, or it was refused
            self._machines.destroy(row.name, why)
        rows = {row.name: self._machines.lost(row.name) for row in self._context.machines(name)}
        how = "another machine takes over" if any(rows.values()) or not rows else "it is prepared anew"
        self._context.event(f"{name}: {why}: {how}")
        for machine, reason in rows.items():
            if reason:
                self._machines.destroy(machine, reason)
        credit = self._context.provider.credit() if any(rows.values()) or not rows else None
        if credit is not None and credit <= 0:  # that is why it was stopped, and no other one would be given
            cloud = self._context.provider.name
            raise NoMachine(f"{cloud} has stopped it: the account's credit is used up (${credit:.2f})")

    def _lifetime(self, name: str) -> float:
        """Seconds after which a machine made now must be gone: after every phase that may still use it."""
        names = [p.phase.name for p in self._context.phases]
        total = 0.0
        for phase in self._context.phases[names.index(name) :]:
            if total and not left_by(self._context, phase.phase.name):
                break
            total += phase.phase.timeout
        return total + SPARE_S

    def _phase(self, name: str) -> Phase:
        return self._context.phase(name).phase


def left_by(context: Context, name: str) -> str:
    """The phase whose machine this one may take over; "": none.

    A staging machine goes from phase to phase as long as each is staged on that volume, others as `reuse` says.
    """
    names = [p.phase.name for p in context.phases]
    before = names[names.index(name) - 1] if names.index(name) else ""
    if name in context.spec.staged:
        phases = context.spec.plan.phase
        return before if before in context.spec.staged and phases(before).volume == phases(name).volume else ""
    reuse = context.need(name).reuse or ""
    return reuse if reuse and reuse == before and reuse not in context.spec.staged else ""


class Candidates:
    """Which offer each node of a phase tries next. Its nodes share a private network, so they are at one place."""

    def __init__(self, phase: str, offers: list[Offer], nodes: list[int], before: int = 0) -> None:
        """`before`: the machines that did not come up in the runs that this one goes on from."""
        self._phase, self._offers, self._before = phase, offers, before
        self._tried: dict[int, set[int]] = {node: set() for node in nodes}
        self._held: dict[int, Offer] = {}
        self._why = "nobody sells a machine that fits"
        self._nowhere: dict[int, list[str]] = {node: [] for node in nodes}

    @property
    def open(self) -> list[int]:
        """The nodes that have no machine."""
        return [node for node in self._tried if node not in self._held]

    def next(self, node: int) -> tuple[int, Offer]:
        """The offer that the node tries now, and its number. NoMachine: all were tried, or are elsewhere."""
        places = {offer.place for offer in self._held.values()}
        for number, offer in enumerate(self._offers):
            if number not in self._tried[node] and (not places or offer.place in places):
                self._tried[node].add(number)
                return number, offer
        tried = len(self._tried[node])
        candidates = "1 candidate" if tried == 1 else f"{tried} candidates"
        message = f"{self._phase}: no machine ({candidates} tried); last answer: {self._why}"
        gone = self._offers and all(offer.spot for offer in self._offers)
        raise NoMachine(message, remedy=SPOT_GONE if gone else "")

    def hold(self, node: int, offer: Offer) -> None:
        """The node has a machine of that offer."""
        self._held[node] = offer

    def failed(self, node: int, why: NotReached | str) -> None:
        """It has not, and why. NoMachine: a second one came up nowhere: whatever is wrong, another type has it too."""
        self._held.pop(node, None)
        self._why = why if isinstance(why, str) else why.why
        if isinstance(why, NotReached) and why.nowhere:
            seen = self._nowhere[node]
            seen.append(why.why)
            if (number := self._before + len(seen)) >= MOST_NOWHERE:
                raise NoMachine(f"{self._phase}: {number} machines came up nowhere: " + "; ".join(seen))
