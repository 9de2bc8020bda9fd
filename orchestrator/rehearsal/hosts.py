"""Emulated machines: each is an SSH server of its own on loopback, with a folder, a home and a workspace."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


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


@dataclass(frozen=True)
class Host:
    """A machine that is up. `workspace` is the volume's folder, or one of its own."""

    spec: HostSpec
    host: str
    port: int
    folder: Path
    home: Path
    workspace: Path


class Hosts:
    """The machines and volumes of one cloud, in the daemon's event loop."""

    def __init__(self, folder: Path, *, machine_env: dict[str, str] | None = None) -> None:
        """`folder` is the cloud's: hosts/ID and volumes/NAME are made below it."""
        self.folder = folder
        self.running: dict[str, Host] = {}

    async def boot(self, spec: HostSpec) -> Host:
        """Start a machine, or start again one that ended with keep_disk. ValueError: no such volume, or it runs."""
        raise NotImplementedError

    async def end(self, host_id: str, *, keep_disk: bool = False) -> None:
        """Kill every process of the machine, close its port, remove its folder. Idempotent."""
        raise NotImplementedError

    async def cut(self, host_id: str) -> None:
        """Drop the machine's SSH connections once; what runs goes on."""
        raise NotImplementedError

    async def create_volume(self, name: str) -> None:
        """Make an empty volume. ValueError: the name is taken, or is no file name."""
        raise NotImplementedError

    async def destroy_volume(self, name: str) -> None:
        """Remove a volume with all that is on it. ValueError while a machine mounts it; idempotent."""
        raise NotImplementedError
