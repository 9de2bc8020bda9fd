"""Clouds in this process, on a clock that only waiting moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

from orchestrator.providers import open_provider
from orchestrator.rehearsal.in_process import InProcessClouds, Machine
from orchestrator.words.provider import MachineSpec, Provider
from orchestrator.words.waiting import Clock

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILXGDN/SclOozk1xsDztpmhGiKkkrfQB9SKoO8dSIQQZ me@example.com"


class Bench:
    """Clouds, their clock, and what became of their machines."""

    def __init__(self, seed: int = 0, **options: Any) -> None:
        self.moment = START
        self.events: list[tuple[str, str]] = []
        self.booted: list[Machine] = []
        self.clouds = InProcessClouds(
            cast("Clock", self),  # they ask it for the moment, and to sleep
            seed=seed,
            on_machine=self._up,
            on_machine_end=lambda identity: self.events.append(("end", identity)),
            on_cut=lambda identity: self.events.append(("cut", identity)),
            **options,
        )

    def _up(self, machine: Machine) -> None:
        self.booted.append(machine)
        self.events.append(("up", machine.spec.id))

    def now(self) -> datetime:
        return self.moment

    def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)

    def real(self, seconds: float) -> float:
        return seconds

    def scaled(self, seconds: float) -> float:
        return seconds

    def provider(self, name: str) -> Provider:
        return open_provider(name, self.clouds.access(name, public_key=KEY, owner="abcd1234"))

    def rent(self, provider: Provider, name: str = "gpuplan-a", **changes: Any) -> str:
        """The id of a machine with one GPU."""
        offer = next(o for o in provider.offers(gpus=1, spot=False) if o.available)
        values: dict[str, Any] = {"offer": offer, "image": "", "disk_gb": 50, "ports": ("22/tcp",), "public_key": KEY}
        deadline = self.moment + timedelta(hours=2)
        return provider.create(MachineSpec(name=name, deadline=deadline, **(values | changes)))

    def wait(self, seconds: float) -> None:
        """Let so much time pass, and the clouds act in it."""
        self.sleep(seconds)
        self.clouds.advance()
