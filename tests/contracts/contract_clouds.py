"""The rehearsed clouds as the adapters see them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.providers import ProviderAccess, open_provider
from orchestrator.rehearsal.client import Rehearsal
from orchestrator.words.ports import MachineSpec, MachineView, Offer, Provider
from orchestrator.words.secret import Secret

T = TypeVar("T")
OWNER = "abcd1234"
PATIENCE_S = 40.0  # real seconds, for computers that are busy


@dataclass(frozen=True)
class Cloud:
    """One rehearsed cloud: its adapter, the switchboard behind it, and the key that its machines get."""

    provider: Provider
    access: ProviderAccess
    rehearsal: Rehearsal
    key_file: Path

    def reopen(self, **changes: Any) -> Provider:
        """A fresh adapter, as a new process would make, with another way in."""
        return open_provider(self.provider.name, replace(self.access, **changes))

    def offer(self, *, gpus: int = 1, spot: bool = False) -> Offer:
        """The cheapest offer that is in stock."""
        return next(o for o in self.provider.offers(gpus=gpus, spot=spot) if o.available)

    def spec(self, **changes: Any) -> MachineSpec:
        """A machine with a name that nobody had before."""
        deadline = datetime.now(UTC) + timedelta(hours=2)
        values: dict[str, Any] = {
            "name": f"gpuplan-{OWNER}-c{time.time_ns():x}-1-t{int(deadline.timestamp())}",
            "offer": changes.get("offer") or self.offer(),
            "image": "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404" if self.provider.name == "runpod" else "",
            "disk_gb": 50,
            "ports": ("22/tcp",),
            "public_key": self.access.public_key,
            "deadline": deadline,
        }
        return MachineSpec(**(values | changes))

    def named(self, name: str) -> list[MachineView]:
        """What the list has under that name."""
        return [m for m in self.provider.machines() if m.name == name]


def cloud(name: str, rehearsal: Rehearsal, public_key: str, key_file: Path) -> Cloud:
    """One of the clouds of a rehearsal."""
    facts = rehearsal.facts[name]
    access = ProviderAccess(
        api_key=Secret(facts["api_key"]),
        base_url=facts.get("rest") or facts.get("url"),
        graphql_url=facts.get("graphql"),
        time_scale=rehearsal.facts["time_scale"],
        public_key=public_key,
        owner=OWNER,
        pace_file=rehearsal.file.parent / f"pace-{name}",
        ssh_port=facts.get("ssh_port", 22),
    )
    return Cloud(open_provider(name, access), access, rehearsal, key_file)


def until(look: Callable[[], T | None], what: str) -> T:
    """Look until there is something to see."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"never: {what}")
