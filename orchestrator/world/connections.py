"""This process's connections to a run's machines, and the heartbeat that keeps their dead-man's switches fed."""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from pathlib import Path

from orchestrator.engine.control import Control
from orchestrator.engine.limits import LEASE_S
from orchestrator.ledger import Ledger
from orchestrator.transport.agent import Agent
from orchestrator.transport.refusals import LeaseHeld
from orchestrator.transport.ssh import SshTransport
from orchestrator.words.errors import ConnectionLost
from orchestrator.words.lifecycle import MachineState
from orchestrator.words.provider import Address, Provider
from orchestrator.words.spec import RunSpec
from orchestrator.world.host_keys import HostKeys

BEAT_S = 20.0  # real seconds between two heartbeats
LET_GO_S = 15.0  # real seconds that a renewal under way is waited for


class Connections:
    """Implements engine.context.Agents over SSH."""

    def __init__(
        self,
        ledger: Ledger,
        provider: Provider,
        key_file: Path,
        spec: RunSpec,
        deadman_s: float,
        stop_after_s: float | None,
        control: Control,
    ) -> None:
        """`deadman_s`, `stop_after_s`: see Agent.heartbeat.

        `control` is told when another run has the volume, and gives up what takes long when it is told to.
        """
        self._ledger, self._provider, self._key_file = ledger, provider, key_file
        self._run, self._control, self._host_key = spec.run, control, spec.world.host_key
        self._deadman_s, self._stop_after_s = deadman_s, stop_after_s
        self._agents: dict[str, Agent] = {}
        self._transports: dict[str, SshTransport] = {}  # those that are being opened too
        self._dropped: set[str] = set()
        self._held: dict[str, str] = {}
        self._lock, self._leasing = threading.Lock(), threading.Lock()
        self._opening: dict[str, threading.Lock] = {}
        self._closed = threading.Event()
        self._pause = min(BEAT_S, deadman_s / 4)
        threading.Thread(target=self._beat, daemon=True, name="heartbeat").start()

    def __call__(self, machine: str) -> Agent:
        """The machine's agent, installed and greeted once a process. ConnectionLost: it is not reached, or dropped."""
        with self._lock:
            if machine in self._agents:
                return self._agents[machine]
            opening = self._opening.setdefault(machine, threading.Lock())
        with opening:
            if machine in self._agents:
                return self._agents[machine]
            transport = SshTransport(lambda: self._address(machine), self._key_file, self._host_keys(machine))
            with self._lock:
                if machine in self._dropped:
                    raise ConnectionLost(f"{machine} is no more")
                self._transports[machine] = transport
            agent = Agent(transport, workspace=self._provider.mount_path, check=self._control.check)
            try:
                agent.install()
                agent.hello()
                self._feed(agent)
            except BaseException:
                transport.close()
                raise
            with self._lock:
                self._agents[machine] = agent
            return agent

    def _host_keys(self, machine: str) -> HostKeys:
        row = self._ledger.machines.get(name=machine)
        shows = partial(self._provider.shows_host_key, row.provider_id)
        return HostKeys(self._ledger, row, expected=self._host_key, rented=self._provider.rented, shows=shows)

    def _address(self, machine: str) -> Address:
        row = self._ledger.machines.get(name=machine)
        return Address(row.host, row.port, row.user)

    def hold(self, machine: str, volume: str) -> None:
        """Renew the lease on that volume through this machine, with every heartbeat."""
        self._held[machine] = volume

    def let_go(self, machine: str) -> None:
        """Renew no lease through this machine any more; none is being renewed when this returns, unless it hangs."""
        mine = self._leasing.acquire(timeout=LET_GO_S)  # whoever renews waits for a machine, and that has no say here
        self._held.pop(machine, None)
        if mine:
            self._leasing.release()

    def drop(self, machine: str) -> None:
        """Close the connection of a machine that is no more, for good: whoever waits for it is woken. Idempotent."""
        with self._lock:
            self._dropped.add(machine)
        self.forget(machine)

    def forget(self, machine: str) -> None:
        """Close the connection of a machine, and hold no lease through it: the next use opens a new one. Idempotent."""
        self._held.pop(machine, None)
        with self._lock:
            self._agents.pop(machine, None)
            transport = self._transports.pop(machine, None)
        if transport:
            transport.close()

    def close(self) -> None:
        """Close all; the heartbeat stops."""
        self._closed.set()
        for machine in list(self._transports):
            self.drop(machine)

    def _feed(self, agent: Agent) -> None:
        agent.heartbeat(self._deadman_s, self._provider.end_bill_script(), stop_after_s=self._stop_after_s)

    def _beat(self) -> None:
        """Beat for every machine of the run that is up, each in a thread: a dead one must not delay the others."""
        fed: dict[str, threading.Thread] = {}
        while not self._closed.wait(self._pause):
            with contextlib.suppress(Exception):  # the ledger may be busy: the next round looks again
                rows = self._ledger.machines.all(run=self._run, state=MachineState.REACHABLE)
                for name in (row.name for row in rows):
                    if name not in fed or not fed[name].is_alive():
                        fed[name] = threading.Thread(target=self._keep, args=(name,), daemon=True, name=f"beat {name}")
                        fed[name].start()

    def _keep(self, machine: str) -> None:
        """One heartbeat and one renewal of the lease; a cut is found and mended by whoever works there."""
        with contextlib.suppress(Exception):
            agent = self(machine)
            self._feed(agent)
            with self._leasing:
                if volume := self._held.get(machine):
                    self._renew(agent, volume)

    def _renew(self, agent: Agent, volume: str) -> None:
        try:
            agent.lease(volume, self._run, LEASE_S, "renew")
        except LeaseHeld as error:
            if error.holder not in ("", self._run):
                self._control.stop("failed", f"the volume {volume} was taken by the run {error.holder} meanwhile")
                return
            agent.lease(volume, self._run, LEASE_S)  # it ran out while this computer slept, and nobody took it
