"""Machines that exist on paper only: the clouds rent them out, and somebody is told."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from orchestrator.rehearsal.host_spec import HostSpec

FIRST_PORT = 20_001


@dataclass(frozen=True)
class Machine:
    """A machine that has booted. `spec` says what was rented: id, name, GPUs, volume, environment, key.

    `again`: it was down, and has its own disk still.

    No two machines that run have the same `host` and `port`; where `spec` names an address, it is that.
    """

    spec: HostSpec
    host: str
    port: int
    host_key: str = ""
    again: bool = False


@dataclass
class PaperMachines:
    """`clouds.context.Hosts` without processes: an event for each thing that would be seen from outside."""

    on_boot: Callable[[Machine], None]
    on_end: Callable[[str], None]
    on_cut: Callable[[str], None]
    on_hang: Callable[[str], None]
    running: dict[str, Machine] = field(default_factory=dict)  # by id
    volumes: dict[str, int] = field(default_factory=dict)  # the bytes that each holds, by HostSpec.volume
    _kept: set[str] = field(default_factory=set)  # the ids of those that are down and keep their disks
    _ports: Iterator[int] = field(default_factory=lambda: itertools.count(FIRST_PORT))

    async def boot(self, spec: HostSpec) -> Machine:
        """Give it an address, and say that it is up."""
        host, _, port = (spec.address or "127.0.0.1").partition(":")
        again = spec.id in self._kept
        machine = Machine(spec, host, int(port) if port else next(self._ports), again=again)
        self.running[spec.id] = machine
        self.on_boot(machine)
        return machine

    async def end(self, host_id: str, *, keep_disk: bool = False) -> None:
        """Say that it is down, if it was up."""
        (self._kept.add if keep_disk else self._kept.discard)(host_id)
        if self.running.pop(host_id, None) is not None:
            self.on_end(host_id)

    async def cut(self, host_id: str) -> None:
        """Say that its connections are cut, if it is up."""
        if host_id in self.running:
            self.on_cut(host_id)

    async def hang(self, host_id: str) -> None:
        """Say that it answers nobody any more, if it is up."""
        if host_id in self.running:
            self.on_hang(host_id)

    async def create_volume(self, name: str) -> None:
        """Note it, empty. ValueError: the name is taken."""
        if name in self.volumes:
            raise ValueError(f"there is a volume {name} already")
        self.volumes[name] = 0

    async def destroy_volume(self, name: str) -> None:
        """Forget it."""
        self.volumes.pop(name, None)

    def volume_bytes(self, name: str) -> int:
        """As somebody has set it in `volumes`."""
        return self.volumes.get(name, 0)
