"""The emulated clouds as the rehearsal's daemon and its tests see them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.rehearsal.clouds.billing import invoice
from orchestrator.rehearsal.clouds.clock import CloudClock, stamp
from orchestrator.rehearsal.clouds.context import AFTER_A_STEP_BEGAN, Context, Hosts
from orchestrator.rehearsal.clouds.instances import Instances
from orchestrator.rehearsal.clouds.lambdalabs import LambdaCloud
from orchestrator.rehearsal.clouds.pods import Pods
from orchestrator.rehearsal.clouds.records import Instance, Pod, Records, new_records
from orchestrator.rehearsal.clouds.runpod import RunPodRest
from orchestrator.rehearsal.clouds.runpod_graphql import RunPodGraphql
from orchestrator.rehearsal.clouds.wire import Reply, Request, text_reply
from orchestrator.rehearsal.faults import AT_A_STEP, CLOUD, Fault, Switchboard
from orchestrator.words.observed import Observed


class CloudState:
    """One cloud with an account at each vendor."""

    def __init__(
        self,
        hosts: Hosts,
        file: Path | None,
        clock: CloudClock,
        ssh_port: int,
        token: Callable[[int], str] = secrets.token_hex,
        faults: Switchboard | None = None,
        observed: Mapping[str, Observed] | None = None,
    ) -> None:
        """Keep everything in `file`, and take over what is in it; None: the cloud ends with the process.

        Every Lambda instance listens at `ssh_port`; `token` makes ids and keys of so many random bytes, in hex.
        `observed`: see Context.
        """
        self.ssh_port = ssh_port
        records = Records.load(file) if file is not None and file.exists() else new_records(token)
        self.context = Context(file, hosts, clock, records, faults or Switchboard(), token, observed or {})
        self.context.faults.on_fire = self._note
        self.pods = Pods(self.context)
        self.instances = Instances(self.context, ssh_port)
        self.apis = {  # by path; one that ends in a slash has everything below it
            "/v2/": RunPodRest(self.context, self.pods).handle,
            "/graphql": RunPodGraphql(self.context, self.pods).handle,
            "/api/v1/": LambdaCloud(self.context, self.instances).handle,
        }

    async def answer(self, request: Request) -> Reply:
        """What the API that has this path replies; 404 where none has."""
        for path, handle in self.apis.items():
            if request.path == path or (path.endswith("/") and request.path.startswith(path)):
                return await handle(request)
        return text_reply(404, "404: Not Found")

    def _note(self, fault: Fault) -> None:
        if fault.name not in CLOUD:  # somebody else's, who has no log of ours
            return
        at_step = {"step": fault.where} if fault.where else {}
        self.context.log("cloud", f"fault {fault.name}", None, **at_step)

    def api_keys(self) -> dict[str, str]:
        """The accounts' keys, by vendor."""
        return {"runpod": self.context.records.runpod_key, "lambda": self.context.records.lambda_key}

    def invoice(self) -> dict[str, Any]:
        """What machines and volumes have cost up to now, in decimal strings by name."""
        for volume in self.context.volumes("lambda"):
            self.context.measure(volume)
        return invoice(self.context.records, self.context.clock.now())

    def log(self) -> list[dict[str, Any]]:
        """Every change that was made, in order, with names and ids."""
        return self.context.records.log

    def alive(self) -> dict[str, list[str]]:
        """The names of what exists. A stopped pod exists; a pre-empted or terminating instance does not."""
        records = self.context.records
        volumes = [volume.name for volume in records.volumes.values() if volume.gone is None]
        return {"machines": [machine.name for machine in self._machines()], "volumes": volumes}

    def breaches(self) -> list[str]:
        """Replies of the emulators that broke the vendors' contracts, and background work that failed: none, ever."""
        return self.context.breaches

    def arm(self, name: str, arg: str | None = None) -> None:
        """Arm a fault; ValueError says what is wrong with it."""
        self.context.faults.arm(name, arg)

    def faults(self) -> list[dict[str, Any]]:
        """What is armed and what has happened."""
        return list(self.context.faults.listing())

    async def step_started(self, step: str, machine: str) -> None:
        """PHASE/STEP began on the machine of this name or id: faults at that step happen a cloud-second later."""
        found = self._find(machine)
        if found is None:
            return
        faults = self.context.faults
        for name in AT_A_STEP:
            if faults.take(name, step) or faults.take(name, step.rpartition("/")[2]):
                self.context.run(f"{found.id} {name} {step}", self._strike(name, found))

    async def step_ended(self, step: str, machine: str) -> None:
        """A step ended. What was to happen during it still does, however short it was."""

    async def _strike(self, name: str, machine: Pod | Instance) -> None:
        await self.context.clock.sleep(AFTER_A_STEP_BEGAN)
        if machine.gone is not None:
            return
        if name == "ssh-cut":
            await self.context.hosts.cut(machine.id)
        elif name == "preempt":
            await (self.pods.preempt(machine) if isinstance(machine, Pod) else self.instances.preempt(machine))
        else:
            machine.hangs = name
            await self.context.hosts.hang(machine.id)

    def _machines(self) -> list[Pod | Instance]:
        records = self.context.records
        everything: list[Pod | Instance] = [*records.pods.values(), *records.instances.values()]
        return [machine for machine in everything if machine.gone is None]

    def _find(self, machine: str) -> Pod | Instance | None:
        return next((m for m in reversed(self._machines()) if machine in {m.id, m.name}), None)

    async def recover(self) -> None:
        """Take a cloud over from an earlier daemon: its volumes are there, its machines went down with it.

        A pod shows as EXITED, as after a host's maintenance; an instance is gone. Nothing is billed for the time
        in which nobody ran the cloud, but for the volumes.
        """
        down = self.context.records.saved or datetime.now(UTC)
        for machine in self._machines():
            await self.context.hosts.end(machine.id)
            if isinstance(machine, Pod):
                if machine.status == "EXITED":
                    continue
                machine.status, machine.address = "EXITED", None
            else:
                machine.status, machine.gone, machine.left, machine.ip = "terminated", down, down, None
            machine.settle(down)
            self.context.log("cloud", "daemon-lost", machine, since=stamp(down))

    async def close(self) -> None:
        """End every machine and all background work; the volumes stay for the next daemon."""
        await self.context.close()
        await asyncio.gather(*(self.context.hosts.end(machine.id) for machine in self._machines()))
        now = self.context.clock.now()
        for machine in self._machines():
            machine.settle(now)
            machine.gone = now
            machine.status = "TERMINATED" if isinstance(machine, Pod) else "terminated"
            if isinstance(machine, Instance):
                machine.left = now
            self.context.log("cloud", "closed", machine)
        self.context.save()
