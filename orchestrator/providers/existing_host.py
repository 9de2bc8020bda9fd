"""A machine that is already there: `--ssh-host user@host:port`. Nothing is created, destroyed or charged."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from decimal import Decimal

from orchestrator.providers import ProviderAccess, gpu_names
from orchestrator.words.errors import Refused, UsageError
from orchestrator.words.provider import (
    Address,
    Capability,
    Facts,
    MachineSpec,
    MachineStatus,
    MachineView,
    Offer,
    VolumeView,
)

_HOST = re.compile(r"^(?P<user>[^@\s]+)@(?P<host>\[[0-9A-Fa-f:]+\]|[^@:\s]+)(?::(?P<port>\d{1,5}))?$")


class ExistingHost:
    """`Provider` with one machine at price 0. A machine's id is the name that it was asked for under."""

    name = "ssh-host"
    capabilities: frozenset[Capability] = frozenset()
    rented = False
    keeps_data = True
    list_lag_s = 0.0
    mount_path = "~/gpuplan"

    def __init__(self, access: ProviderAccess) -> None:
        self.shows_gpu, self.disk_share = access.shows_gpu, access.disk_share
        self.address = parse_host(access.base_url or "")
        self._lock = threading.Lock()
        self._taken: set[str] = set()
        self._given_back: set[str] = set()

    def last_words(self, machine_id: str) -> list[str]:  # noqa: ARG002  it is the port's
        """See Provider."""
        return []

    def offers(self, *, gpus: int, spot: bool, min_cuda: str = "") -> list[Offer]:  # noqa: ARG002  it is the port's
        """See Provider. The user says that the host will do: it is offered under every GPU's name.

        What is really there is found out by the probe, as on every machine.
        """
        if spot:
            return []
        names = gpu_names.KNOWN if gpus else ("",)
        return [Offer(self.name, "existing", gpu, gpus, 0, Decimal(0), place=self.address.host) for gpu in names]

    def create(self, spec: MachineSpec) -> str:
        """See Provider. Makes nothing."""
        with self._lock:
            self._taken.add(spec.name)
            self._given_back.discard(spec.name)
        return spec.name

    def machine(self, machine_id: str) -> MachineView | None:
        """See Provider. Any name is this host, until it is given back."""
        if machine_id in self._given_back:
            return None
        return MachineView(
            id=machine_id,
            name=machine_id,
            status=MachineStatus.READY,
            address=self.address,
            private_ip=None,
            price_hour=Decimal(0),
            place=self.address.host,
            detail="existing",
        )

    def machines(self) -> list[MachineView]:
        """See Provider. Only what this process took: the host keeps no list."""
        with self._lock:
            names = sorted(self._taken)
        return [view for view in map(self.machine, names) if view]

    def destroy(self, machine_id: str) -> None:
        """See Provider. Ends nothing."""
        with self._lock:
            self._taken.discard(machine_id)
            self._given_back.add(machine_id)

    def reboot(self, machine_id: str) -> None:
        """See Provider. It is the user's own."""
        raise Refused(f"{machine_id} is not gpuplan's to start again")

    def create_volume(self, name: str, size_gb: int, place: str) -> str:
        """See Provider. Makes nothing: the host's own folder is the volume."""
        del size_gb, place
        return name

    def volumes(self) -> list[VolumeView]:
        """See Provider."""
        return []

    def destroy_volume(self, volume_id: str) -> None:
        """See Provider. Ends nothing: the folder and its data are the user's."""

    def volume_price_hour(self, size_gb: int) -> Decimal:
        """See Provider."""
        del size_gb
        return Decimal(0)

    def billed(self, machine_ids: Iterable[str]) -> dict[str, Decimal]:
        """See Provider."""
        del machine_ids
        return {}

    def credit(self) -> Decimal | None:
        """See Provider. Nothing is paid ahead."""
        return None

    def shows_host_key(self, machine_id: str, fingerprint: str) -> bool | None:
        """See Provider. It has no API."""
        del machine_id, fingerprint
        return None

    def facts(self) -> Facts:
        """See Provider. It has no API."""
        return Facts()

    def end_bill_script(self) -> str:
        """See Provider."""
        return ""


def parse_host(text: str) -> Address:
    """`user@host` or `user@host:port` (IPv6 in brackets). UsageError: it is something else."""
    found = _HOST.match(text)
    port = int(found["port"] or 22) if found else 0
    if not found or not 1 <= port <= 65535:
        raise UsageError(f"--ssh-host {text!r} is not user@host:port", remedy="e.g. --ssh-host root@192.0.2.7:22")
    return Address(found["host"].strip("[]"), port, found["user"])
