"""What a cloud asks of whoever plays its machines."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(frozen=True)
class HostSpec:
    """What a cloud asks for. `address` is None (127.0.0.1, any port), "HOST" (any port) or "HOST:PORT"."""

    id: str
    name: str
    user: str  # root | ubuntu
    gpu: str  # as nvidia-smi is to name it; "" for a CPU machine
    gpus: int
    gpu_memory_mib: int  # of one GPU
    public_key: str  # OpenSSH form, one key a line
    volume: str | None = None  # name of an existing volume
    env: dict[str, str] = field(default_factory=dict)  # what this vendor puts into a machine's environment
    address: str | None = None
    disk_gb: Decimal | None = None  # what `df` says that its disk has; None: what this computer has
    host_key: str = ""  # private, OpenSSH form; "": the machine makes its own
