"""How a provider is reached: what its adapter is opened with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.words.secret import Secret

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class ProviderAccess:
    """How to reach one cloud, and for whom. A rehearsal fills in the addresses and the time scale.

    `transport` carries every request instead of a socket; `now` (Unix seconds) and `sleep` (seconds) are the time
    that the adapter lives in. A bench that needs neither network nor real time hands in its own of all three.
    """

    api_key: Secret = field(default_factory=lambda: Secret(""))
    base_url: str | None = None  # None: the vendor's own; ssh-host: user@host:port
    graphql_url: str | None = None  # RunPod only
    time_scale: float = 1.0  # real seconds per cloud second
    public_key: str = ""  # OpenSSH form; Lambda stores it under gpuplan-OWNER
    owner: str = ""  # 8 characters, in every name of ours
    pace_file: Path | None = None  # shared by all processes that use one key; None: paced within this process only
    ssh_port: int = 22  # Lambda does not report it
    shows_gpu: bool = True  # see Provider
    disk_share: float = 1.0  # see Provider
    vendor_deadline: bool = False  # RunPod only: it ends GPU machines at their deadline itself, by its older API
    explores: bool = False  # ask for what is not known yet: one machine's private address, a place's own kind of volume
    transport: httpx.BaseTransport | None = None
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
