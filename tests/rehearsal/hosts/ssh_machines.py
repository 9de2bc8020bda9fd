"""Emulated machines in an event loop of their own, and real SSH clients for them."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from orchestrator.rehearsal.host_spec import HostSpec
from orchestrator.rehearsal.hosts import Host, Hosts


class Cloud:
    """Hosts whose coroutines run in a thread, so that tests can use blocking clients."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        self.hosts: Hosts = self.run(self._make(folder / "cloud"))

    @staticmethod
    async def _make(folder: Path) -> Hosts:
        return Hosts(folder, machine_env={"HF_ENDPOINT": "http://127.0.0.1:1"})

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def spec(self, host_id: str = "m1", **changes: Any) -> HostSpec:
        base: dict[str, Any] = {
            "id": host_id, "name": f"gpuplan-{host_id}", "user": "root", "gpu": "NVIDIA H100 80GB HBM3", "gpus": 2,
            "gpu_memory_mib": 81559, "public_key": self.key.with_suffix(".pub").read_text(),
        }  # fmt: skip
        return HostSpec(**(base | changes))

    def boot(self, host_id: str = "m1", **changes: Any) -> Host:
        return self.run(self.hosts.boot(self.spec(host_id, **changes)))

    def options(self) -> list[str]:
        return [
            "-F", "none", "-i", str(self.key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes",
        ]  # fmt: skip

    def ssh_command(self, host: Host, *more: str, user: str | None = None) -> list[str]:
        target = f"{user or host.spec.user}@{host.host}"
        return ["ssh", *self.options(), "-p", str(host.port), *more[:-1], target, *more[-1:]]

    def ssh(self, host: Host, command: str, *options: str, **kwargs: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.ssh_command(host, *options, command), capture_output=True, check=False, timeout=30, **kwargs
        )

    def close(self) -> None:
        self.run(self.hosts.end_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()
