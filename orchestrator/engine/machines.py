"""A machine's life: name written down, created once, waited for, prepared, and destroyed until proven gone."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from orchestrator.engine import reaper
from orchestrator.engine.context import Context, now
from orchestrator.engine.reach import through_cuts
from orchestrator.ledger import Row, tables
from orchestrator.words.errors import (
    AccountRefused,
    Ambiguous,
    ConnectionLost,
    GpuplanError,
    NoMachine,
    ProviderUnavailable,
    Refused,
    StepFailed,
)
from orchestrator.words.lifecycle import ENDED, MachineState
from orchestrator.words.ports import Address, MachineSpec, MachineStatus, Offer
from orchestrator.words.spec import plain

T = TypeVar("T")
LONGEST_PAUSE_S = 60.0  # whatever a provider asks for: the machine costs meanwhile
POLL_S = 5.0  # between two looks at a machine, in the cloud's time
FAULT_S = 180.0  # how long a GPU that fails its first calls is waited for, in the cloud's time
DESTROY_S = 600.0  # how long a machine may take to be gone, in the cloud's time
ENDED_STATUSES = (MachineStatus.STOPPED, MachineStatus.FAILED)


class Machines:
    """The machines of one run. Every method is safe to run again after a crash in the middle of it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.clock, self.control = context.clock, context.control
        self._ledger = context.ledger
        self._provider = context.provider

    # -- coming to life --------------------------------------------------------------------------------------------

    def request(self, phase: str, request: str, node: int, offer: Offer, deadline: float) -> str:
        """Write down that a machine is about to be created, and its name: the same one for the same request."""
        mine = self._ledger.all(tables.machines, run=self._context.run, phase=phase)
        for row in mine:
            if row["request"] == request:
                if row["state"] not in ENDED:
                    self._ledger.charge(str(row["name"]), self._context.run, phase, now())
                return str(row["name"])
        name = f"{self._context.spec.prefix}{plain(phase)[:12]}-{len(mine) + 1}-t{int(deadline)}"
        machine = {
            "name": name, "run": self._context.run, "phase": phase, "request": request, "node": node,
            "provider": offer.provider, "provider_id": "", "type_id": offer.type_id, "gpu": offer.gpu,
            "gpus": offer.gpus, "place": offer.place, "spot": int(offer.spot), "price_hour": str(offer.price_hour),
            "state": MachineState.REQUESTED, "reason": "", "private_ip": "", "requested_at": now(),
            "deadline": deadline,
        }  # fmt: skip
        charge = {"machine": name, "run": self._context.run, "phase": phase, "since": now(), "until": None}
        self._ledger.put_all([(tables.machines, machine), (tables.charges, charge)])
        return name

    def create(self, name: str, spec: MachineSpec) -> dict[str, Any]:
        """Create the machine once. {"created": id} or {"refused": the provider's words, "account": bool}."""
        row = self._ledger.one(tables.machines, name=name)
        if row["provider_id"]:
            return {"created": row["provider_id"]}
        if row["state"] in ENDED:
            return {"refused": row["reason"], "account": False}
        if row["sent_at"]:  # a crash came between the call and its answer
            return self._reconcile(name, "its create was cut short")
        self._context.control.check()
        self._ledger.change(tables.machines, {"name": name}, sent_at=now())
        try:
            return self._created(name, self._send(spec))
        except Refused as error:
            self._ledger.gone(name, f"refused: {error.message}", MachineState.DESTROYED)
            return {"refused": error.message, "account": isinstance(error, AccountRefused)}
        except Ambiguous as error:
            self._context.event(f"{name}: {error.message}: looking for it by name")
            return self._reconcile(name, error.message)

    def _send(self, spec: MachineSpec) -> str:
        """One create; only a definite "not now" (429) is sent again."""
        give_up = now() + self._scaled(300)
        while True:
            try:
                return self._provider.create(spec)
            except ProviderUnavailable as error:
                if now() < give_up:
                    self._context.pause(min(error.retry_after or POLL_S, 300.0))
                if now() >= give_up or self._context.control.stopping:
                    raise Refused(error.message) from error

    def _created(self, name: str, provider_id: str) -> dict[str, Any]:
        self._ledger.move(
            tables.machines, {"name": name}, MachineState.CREATED, provider_id=provider_id, accepted_at=now()
        )
        self._context.event(f"{name}: created as {provider_id}")
        return {"created": provider_id}

    def _reconcile(self, name: str, why: str) -> dict[str, Any]:
        """Look for a machine by its name until longer than the provider's list may lag; adopt what is found.

        Only a list that was really seen proves its absence; without one the result is "unknown" too.
        """
        give_up = now() + self._scaled(max(90.0, 1.5 * self._provider.list_lag_s))
        seen = False
        while now() < give_up or not seen:
            try:
                views = self._provider.machines()
            except GpuplanError as error:
                if now() > give_up:
                    unknown = f"{why}; {self._provider.name} cannot be asked whether it exists: {error.message}"
                    return {"refused": unknown, "account": True, "unknown": True}
            else:
                seen = now() >= give_up
                for view in views:
                    if view.name == name:
                        return self._created(name, view.id)
            self._context.clock.sleep(POLL_S)
        self._ledger.gone(name, f"never appeared: {why}", MachineState.LOST)
        return {"refused": f"{why}; it never appeared", "account": False}

    def wait(self, name: str) -> dict[str, Any]:
        """Wait until the machine answers over SSH and its GPUs work. {"ready": bool, "why": str}."""
        row = self._ledger.one(tables.machines, name=name)
        give_up = now() + self._scaled(self._context.spec.plan.settings.readiness_seconds)
        faulty_until: float | None = None
        seen = "nothing"
        while now() < give_up:
            self._context.control.check()
            try:
                view = self._provider.machine(row["provider_id"])
                seen = f"{view.status} ({view.detail})" if view else "no such machine"
                if view and view.status in (*ENDED_STATUSES, MachineStatus.ENDING):
                    return {"ready": False, "why": f"{name} will not come up: {seen}"}
                if view and view.address:
                    self._address(name, view.address, view.private_ip or "")
                    self._greet(name, int(row["gpus"]))
                    return {"ready": True, "why": ""}
            except (ProviderUnavailable, ConnectionLost) as error:
                seen = error.message
            except StepFailed as error:  # it was reached, but its GPUs (or its Python) do not work
                seen = error.message
                faulty_until = faulty_until or now() + self._scaled(FAULT_S)
                give_up = min(give_up, faulty_until)
            self._context.clock.sleep(POLL_S)
        return {"ready": False, "why": f"{name} was not ready in time; last seen: {seen}"}

    def _address(self, name: str, address: Address, private_ip: str) -> None:
        self._ledger.change(
            tables.machines, {"name": name}, host=address.host, port=address.port, user=address.user,
            private_ip=private_ip,
        )  # fmt: skip

    def _greet(self, name: str, gpus: int) -> None:
        """First contact: agent, and a real call on each GPU. StepFailed: a GPU is missing or does not work."""
        agent = self._context.agents(name)
        hello = agent.hello()
        if gpus and self._provider.rented:
            agent.probe(gpus)
        names = sorted({g.name for g in hello.gpus})
        where = f"{len(hello.gpus)}x {', '.join(names)}" if names else f"a CPU with {hello.cores} cores"
        if not self._provider.shows_gpu:  # no figure of a stand-in may pass for a GPU's
            where = f"a CPU with {hello.cores} cores, standing in"
        self._ledger.move(
            tables.machines, {"name": name}, MachineState.REACHABLE, reachable_at=now(), measured_on=where
        )
        self._context.event(f"{name}: reachable, {where}")

    def prepare(self, name: str) -> None:
        """Bring payload and venv to a machine that was reached, and open the live logs for people there."""
        agent = self._context.agents(name)
        path = self._context.payload.push(agent)
        agent.bootstrap(path)
        if self._provider.rented and (attach := agent.view()):  # nothing is left on the user's own host
            self._context.event(f"{name}: live logs: gpuplan ssh -c {shlex.quote(attach)}")

    def lost(self, name: str) -> str:
        """Why the machine is gone, in the provider's words; "": it is there as far as the provider knows."""
        row = self._ledger.one(tables.machines, name=name)
        if row["state"] in ENDED or row["reason"]:
            return str(row["reason"]) or "it was ended"
        try:
            view = self._provider.machine(row["provider_id"])
            if view is None:  # one 404 is not proof
                self._context.clock.sleep(POLL_S)
                view = self._provider.machine(row["provider_id"])
        except (ProviderUnavailable, AccountRefused):
            return ""
        if view is None:
            return f"{row['provider']} has no such machine any more"
        if view.status in (*ENDED_STATUSES, MachineStatus.ENDING):
            return f"{row['provider']} says {view.detail}"
        if view.address:
            self._address(name, view.address, view.private_ip or "")
        return ""

    def reaching(self, name: str, body: Callable[[], T]) -> T:
        """Do what needs the machine, again after each cut, until the provider says that it is gone (MachineLost)."""
        return through_cuts(self, name, body)

    def distrust(self, name: str, reason: str) -> None:
        """From now on the machine counts as lost, whatever the provider says."""
        self._ledger.change(tables.machines, {"name": name}, reason=reason)

    def spec(
        self, name: str, *, image: str, disk_gb: int, ports: tuple[str, ...], volume: Row | None, nodes: int
    ) -> MachineSpec:
        """What to ask the provider for, from what was written down."""
        row = self._ledger.one(tables.machines, name=name)
        if volume and not volume["provider_id"]:
            raise NoMachine(f"the volume {volume['name']} was asked for, and {row['provider']} does not list it yet")
        offer = Offer(
            provider=row["provider"], type_id=row["type_id"], gpu=row["gpu"], gpus=row["gpus"], memory_gb=0,
            price_hour=Decimal(row["price_hour"]), place=row["place"], spot=bool(row["spot"]),
        )  # fmt: skip
        return MachineSpec(
            name=name, offer=offer, image=image, disk_gb=disk_gb, ports=ports, public_key=self._context.public_key,
            deadline=datetime.fromtimestamp(row["deadline"], UTC),
            volume_id=volume["provider_id"] if volume else None, volume_name=volume["name"] if volume else None,
            private_network=nodes > 1,
        )  # fmt: skip

    # -- coming to an end ------------------------------------------------------------------------------------------

    def destroy(self, name: str, reason: str) -> dict[str, Any]:
        """End a machine and wait for proof: accepted, unknown to GET, absent from the list. {"gone": bool, "why"}.

        Never raises: whatever goes wrong, the machine counts as not gone.
        """
        try:
            return self._destroy(name, reason)
        except Exception as error:  # noqa: BLE001  one machine's failure must not keep the others alive
            self._context.event(f"{name}: could not be ended: {error}")
            return {"gone": False, "why": str(error)}

    def _destroy(self, name: str, reason: str) -> dict[str, Any]:
        row = self._ledger.one(tables.machines, name=name)
        if row["state"] in ENDED:
            return {"gone": True, "why": ""}
        if not row["provider_id"] and not row["sent_at"]:
            self._ledger.gone(name, reason, MachineState.DESTROYED)
            return {"gone": True, "why": ""}
        if not row["provider_id"]:
            found = self._reconcile(name, "its create was cut short")
            if "refused" in found:
                return {"gone": "unknown" not in found, "why": found["refused"]}
        if not self._provider.rented and row["reachable_at"]:
            self._stop_jobs(name)  # the machine stays: what this run started there must not
        self._ledger.move(tables.machines, {"name": name}, MachineState.DESTROYING, reason=reason)
        self._context.agents.drop(name)
        return self._until_gone(name)

    def _stop_jobs(self, name: str) -> None:
        agent = self._context.agents(name)
        for job in agent.jobs():
            if job.state == "running" and job.job.startswith(f"{plain(self._context.run)}."):
                agent.stop(job.job)

    def _until_gone(self, name: str) -> dict[str, Any]:
        row = self._ledger.one(tables.machines, name=name)
        machine_id = str(row["provider_id"])
        give_up = now() + self._scaled(DESTROY_S)
        # A fresh machine may be unknown to GET and list for a while: until then absence proves nothing.
        settled = (row["accepted_at"] or now()) + self._context.clock.scaled(self._provider.list_lag_s)
        seen = row["reachable_at"] is not None
        why, pause = "", 1.0
        while now() < give_up:
            try:
                self._provider.destroy(machine_id)
                accepted = now()  # of the request that was followed by the proof: nothing is billed after it
                listed = any(v.id == machine_id for v in self._provider.machines())
                present = listed or self._provider.machine(machine_id) is not None
                seen = seen or present
                if not present and (seen or now() > settled):
                    self._ledger.gone(name, "", MachineState.DESTROYED, accepted)
                    self._context.event(f"{name}: gone")
                    return {"gone": True, "why": ""}
                why = "it is still listed" if present else "it is too fresh for its absence to prove anything"
            except GpuplanError as error:
                why = error.message
                if isinstance(error, ProviderUnavailable) and error.retry_after:
                    pause = min(error.retry_after, LONGEST_PAUSE_S)
            self._context.clock.sleep(pause)
            pause = min(2 * pause, 15.0)
        self._context.event(f"{name}: not proven gone: {why}")
        return {"gone": False, "why": why}

    def sweep(self, reason: str) -> list[str]:
        """Machines that the provider lists under this run's name although the ledger ended them: destroyed too."""
        try:
            views = [v for v in self._provider.machines() if v.name.startswith(self._context.spec.prefix)]
        except Exception as error:  # noqa: BLE001  an unreadable answer is no proof that nothing is left
            return [f"{self._provider.name} could not be asked what is left: {error}"]
        left = []
        for view in views:
            row = self._ledger.maybe(tables.machines, name=view.name)
            if row and row["state"] not in ENDED and row["provider_id"] in ("", view.id):
                continue  # it has a destroy of its own
            self._context.event(f"{view.name}: found by name ({reason}): ending it")
            if why := reaper.end_machine(self._provider, self._context.clock, view.id):
                left.append(f"{view.name} ({why})")
        return left

    def _scaled(self, seconds: float) -> float:
        return self._context.clock.real(seconds)


def each(names: list[str], body: Callable[[str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Run `body` for several machines at the same time; every one gets its turn whatever the others do."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=max(len(names), 1)) as pool:
        return dict(zip(names, pool.map(body, names), strict=True))
