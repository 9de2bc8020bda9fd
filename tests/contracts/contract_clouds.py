"""The rehearsed clouds as the adapters see them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from orchestrator.providers import ProviderAccess, open_provider
from orchestrator.rehearsal.client import Rehearsal
from orchestrator.rehearsal.in_process import InProcessClouds
from orchestrator.transport.ssh import SshTransport
from orchestrator.words.errors import ProviderUnavailable
from orchestrator.words.provider import MachineSpec, MachineStatus, MachineView, Offer, Provider
from orchestrator.words.secret import Secret

T = TypeVar("T")
OWNER = "abcd1234"
START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class Behind(Protocol):
    """What a test does behind the adapter's back."""

    def arm(self, fault: str) -> None: ...
    def alive(self) -> dict[str, Any]: ...
    def log(self) -> list[dict[str, Any]]: ...
    def step_started(self, step: str, machine: str) -> None: ...


@dataclass(frozen=True)
class Cloud:
    """One rehearsed cloud: its adapter, what is behind it, and the key that its machines get.

    `key_file` is None where machines are on paper only. `now` and `wait` are the time that the cloud lives in:
    `access.time_scale` of its seconds for one of the cloud's.
    """

    provider: Provider
    access: ProviderAccess
    rehearsal: Behind
    key_file: Path | None
    now: Callable[[], datetime]
    wait: Callable[[float], None]
    patience_s: float

    def reopen(self, **changes: Any) -> Provider:
        """A fresh adapter, as a new process would make, with another way in."""
        return open_provider(self.provider.name, replace(self.access, **changes))

    def offer(self, *, gpus: int = 1, spot: bool = False) -> Offer:
        """The cheapest offer that is in stock."""
        return next(o for o in self.provider.offers(gpus=gpus, spot=spot) if o.available)

    def spec(self, **changes: Any) -> MachineSpec:
        """A machine with a name that nobody had before."""
        deadline = self.now() + timedelta(hours=2)
        values: dict[str, Any] = {
            "name": f"gpuplan-{OWNER}-c{time.time_ns():x}-1-t{int(deadline.timestamp())}",
            "offer": changes.get("offer") or self.offer(),
            "image": "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404" if self.provider.name == "runpod" else "",
            "min_cuda": "12.8",
            "disk_gb": 50,
            "ports": ("22/tcp",),
            "public_key": self.access.public_key,
            "deadline": deadline,
        }
        return MachineSpec(**(values | changes))

    def named(self, name: str) -> list[MachineView]:
        """What the list has under that name."""
        return [m for m in self.provider.machines() if m.name == name]

    def until(self, look: Callable[[], T | None], what: str) -> T:
        """Look until there is something to see."""
        deadline = self.now() + timedelta(seconds=self.patience_s)
        while self.now() < deadline:
            if found := look():
                return found
            self.wait(self.patience_s / 800)
        raise AssertionError(f"never: {what}")

    def ready(self, machine_id: str) -> MachineView:
        """Wait until a machine has an address."""

        def look() -> MachineView | None:
            view = self.provider.machine(machine_id)
            return view if view and view.status is MachineStatus.READY else None

        return self.until(look, f"{machine_id} is ready")

    def ends_volume(self, volume_id: str) -> bool:
        """Ask for a volume's end; whether that was accepted."""
        try:
            self.provider.destroy_volume(volume_id)
        except ProviderUnavailable:
            return False
        return True

    def ssh(self, view: MachineView, keys: FirstContact | None = None) -> SshTransport:
        """A connection to a machine that is ready."""
        if self.key_file is None:
            pytest.skip("these machines are on paper only")
        assert view.address is not None
        return SshTransport(view.address, self.key_file, keys or FirstContact())


class FirstContact:
    """Keeps host keys for one test."""

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}

    def get(self, host_port: str) -> str | None:
        return self._keys.get(host_port)

    def put(self, host_port: str, key: str) -> None:
        self._keys[host_port] = key


def over_http(name: str, rehearsal: Rehearsal, public_key: str, key_file: Path) -> Cloud:
    """One of the clouds of a daemon, over sockets and in real time."""
    part = rehearsal.facts.clouds[name]
    access = ProviderAccess(
        api_key=Secret(part.api_key),
        base_url=part.url,
        graphql_url=part.graphql,
        time_scale=rehearsal.facts.time_scale,
        public_key=public_key,
        owner=OWNER,
        pace_file=rehearsal.file.parent / f"pace-{name}",
        ssh_port=part.ssh_port,
    )
    return Cloud(
        open_provider(name, access), access, rehearsal, key_file, lambda: datetime.now(UTC), time.sleep, patience_s=40
    )


class Clock:
    """Time that passes when somebody waits."""

    def __init__(self) -> None:
        self._moment = START

    def now(self) -> datetime:
        return self._moment

    def sleep(self, seconds: float) -> None:
        self._moment += timedelta(seconds=seconds)

    def real(self, seconds: float) -> float:
        return seconds

    def scaled(self, seconds: float) -> float:
        return seconds


@dataclass(frozen=True)
class Inside:
    """`Behind` of clouds in this process."""

    clouds: InProcessClouds

    def arm(self, fault: str) -> None:
        name, _, where = fault.partition("@")
        if where.isdigit():
            self.clouds.fault(name, count=int(where))
        else:
            self.clouds.fault(name, step=where)

    def alive(self) -> dict[str, Any]:
        return {"machines": self.clouds.machines_left(), "volumes": self.clouds.volumes_left()}

    def log(self) -> list[dict[str, Any]]:
        return self.clouds.log()

    def step_started(self, step: str, machine: str) -> None:
        self.clouds.step_started(step, machine)


def in_process(name: str, clouds: InProcessClouds, clock: Clock, public_key: str) -> Cloud:
    """One of the clouds in this process, on a clock that only waiting moves."""
    access = clouds.access(name, public_key=public_key, owner=OWNER)
    return Cloud(open_provider(name, access), access, Inside(clouds), None, clock.now, clock.sleep, patience_s=800)
