"""What the emulated clouds remember: machines, volumes, keys, and every change that was asked of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

Vendor = Literal["runpod", "lambda"]


@dataclass(kw_only=True)
class Span:
    """A stretch of time at one price an hour; `end` None: still running up."""

    price_hour: Decimal
    start: datetime
    end: datetime | None = None
    disk: bool = False  # of a pod's own disk, which is billed beside the pod


@dataclass(kw_only=True)
class Billed:
    """Something with a name that costs money until it is `gone`."""

    id: str
    name: str
    created: datetime
    spans: list[Span] = field(default_factory=list)
    gone: datetime | None = None

    def charge(self, price_hour: Decimal, now: datetime, *, disk: bool = False) -> None:
        """From now on it, or its disk, costs this much."""
        self._end(now, disk=disk)
        self.spans.append(Span(price_hour=price_hour, start=now, disk=disk))

    def settle(self, now: datetime) -> None:
        """From now on it costs nothing."""
        self._end(now, disk=False)
        self.settle_disk(now)

    def settle_disk(self, now: datetime) -> None:
        """From now on its disk costs nothing."""
        self._end(now, disk=True)

    def _end(self, now: datetime, *, disk: bool) -> None:
        for span in self.spans:
            if span.end is None and span.disk == disk:
                span.end = max(now, span.start)


@dataclass(kw_only=True)
class Pod(Billed):
    """A RunPod pod, however it was made. `address` is None until SSH can be reached."""

    image: str
    status: str = "PROVISIONING"
    args: str = ""
    disk: int = 50
    ports: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    registry: str | None = None
    cloud: str = "SECURE"
    place: str = ""
    gpu_id: str | None = None
    gpu_count: int = 0
    cuda: str = "12.8"  # what its host reports
    gpu_vcpus: int = 0  # of the host, for each GPU
    gpu_ram_gb: int = 0
    cpu_id: str | None = None
    vcpu: int = 0
    price_hour: Decimal = Decimal(0)
    volume_id: str | None = None
    mount_path: str = ""
    persistent: tuple[int, str] | None = None  # size in GB, path
    public_key: str = ""
    private_ip: str | None = None
    shows_private_ip: bool = False  # some time after it is up, if at all
    interruptible: bool = False
    locked: bool = False
    unseen_s: float = 0.0  # cloud seconds after the create in which list and GET do not know it
    api_key: str = ""
    base_url: str = ""
    started: datetime | None = None
    changed: datetime | None = None
    address: tuple[str, int] | None = None
    said: list[tuple[datetime, str]] = field(default_factory=list)  # the log of its start
    printed: list[tuple[datetime, str]] = field(default_factory=list)  # its container's log


@dataclass(kw_only=True)
class Instance(Billed):
    """A Lambda instance. `ip` is None while it boots."""

    kind: str
    region: str
    status: str = "booting"
    ssh_key: str = ""
    volume_id: str | None = None
    mount_point: str = ""
    hostname: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    jupyter_token: str = ""
    user_data: str = ""
    unseen_s: float = 0.0
    ip: str | None = None
    shows_private_ip: bool = False
    address: str | None = None  # its host's, whether or not the API tells it
    left: datetime | None = None  # when a terminated one vanishes from the list


@dataclass(kw_only=True)
class Volume(Billed):
    """A network volume or a filesystem. `folder` is its name among the emulated hosts' volumes."""

    vendor: Vendor
    folder: str
    place: str
    size_gb: int = 0
    type: str = "STANDARD"


@dataclass(kw_only=True)
class SshKey:
    """A public key that the Lambda account knows by name."""

    id: str
    name: str
    public_key: str


@dataclass(kw_only=True)
class Records:
    """All of it, as kept in one JSON file."""

    runpod_key: str
    lambda_key: str
    pods: dict[str, Pod] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    ssh_keys: dict[str, SshKey] = field(default_factory=dict)
    credit: Decimal = Decimal(1000)  # USD that RunPod's account began with
    account_keys: list[str] = field(default_factory=list)  # RunPod's, for startSsh
    log: list[dict[str, Any]] = field(default_factory=list)
    saved: datetime | None = None

    def save(self, path: Path, now: datetime) -> None:
        """Replace the file in one step; it holds the account's keys, so only its owner can read it."""
        self.saved = now
        partial = path.with_suffix(".partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(_FILE.dump_json(self))
        partial.replace(path)

    @staticmethod
    def load(path: Path) -> Records:
        """Read the file back."""
        return _FILE.validate_json(path.read_bytes())


def new_records(token: Callable[[int], str]) -> Records:
    """A new account at each vendor. `token` makes so many random bytes, in hex."""
    return Records(runpod_key="rpa_" + token(16), lambda_key="secret_" + token(16))


_FILE: TypeAdapter[Records] = TypeAdapter(Records)
