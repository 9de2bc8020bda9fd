"""What the engine asks of a cloud. One adapter a file; the same contract suite runs on fake and real ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from orchestrator.words.secret import Secret

MACHINE_PREFIX = "gpuplan-"  # every machine and volume of ours is named so: the one handle that survives everything


class Capability(StrEnum):
    """What a provider can do beyond renting a machine."""

    SPOT = "spot"  # interruptible machines
    VOLUMES = "volumes"
    PRIVATE_NETWORK = "private_network"
    BILLING = "billing"  # reports what it charged
    HOST_KEY = "host_key"  # gives a machine the host key that it is asked for
    REBOOT = "reboot"  # starts a machine again
    QUOTA = "quota"  # a volume holds what was asked for and no more, whatever the machine says of its disk


@dataclass(frozen=True, slots=True)
class Offer:
    """One machine type at one place, as the provider sells it now."""

    provider: str
    type_id: str  # the provider's own id
    gpu: str  # gpuplan's name, e.g. A100-80GB; "" for a CPU machine
    gpus: int
    memory_gb: int  # of one GPU
    price_hour: Decimal  # USD for the whole machine; its own disk is in it once plan.with_disk says how large
    place: str  # data centre or region
    spot: bool = False
    available: bool = True  # the catalogue's word, which may be wrong
    private_network: bool = True  # machines of this place can reach each other
    stock: str = ""  # the provider's own word on how many there are; "": it says none
    disk_gb_hour: Decimal = Decimal(0)  # USD for each GB of its own disk, billed beside the machine; 0: part of that
    most_disk_gb: int = 0  # that its own disk can have; 0: what is asked for
    disk_hour: Decimal = Decimal(0)  # USD of price_hour that are for its own disk


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """One machine to create. `name` was written down before the call."""

    name: str
    offer: Offer
    image: str
    disk_gb: int
    ports: tuple[str, ...]
    public_key: str  # OpenSSH form
    deadline: datetime  # when the machine must be gone, whatever happens
    volume_id: str | None = None
    volume_name: str | None = None
    private_network: bool = False
    min_cuda: str = ""  # `12.8`: what the image needs of the host's driver; "": nothing
    host_key: Secret | None = None  # private, OpenSSH form; None: the machine makes its own


class MachineStatus(StrEnum):
    """A provider's word on a machine, in the five words that matter."""

    BOOTING = "booting"
    READY = "ready"  # has an address; says nothing of SSH or CUDA
    STOPPED = "stopped"  # pre-empted, balance used up, maintenance
    FAILED = "failed"  # will not become ready
    ENDING = "ending"  # still listed, being destroyed


@dataclass(frozen=True, slots=True)
class Address:
    """Where SSH answers. host:port is a machine's identity."""

    host: str
    port: int
    user: str

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class MachineView:
    """What a provider says of one machine."""

    id: str
    name: str
    status: MachineStatus
    address: Address | None  # None until READY; re-read before every reconnect
    private_ip: str | None
    price_hour: Decimal | None  # with its own disk; None: the provider does not say
    place: str
    detail: str  # the provider's own status word
    started: datetime | None = None  # when it last started, by the provider's clock; None: it does not say


@dataclass(frozen=True, slots=True)
class VolumeView:
    """What a provider says of one volume."""

    id: str
    name: str
    size_gb: int
    place: str
    price_hour: Decimal
    tier: str = ""  # the provider's word for its kind; "": there is but one


@dataclass(frozen=True, slots=True)
class Facts:
    """What a provider's API says of itself, where no document does. None, {}: it was not asked, or does not say."""

    quotas: dict[str, int] = field(default_factory=dict)  # window -> requests in it
    bids: dict[str, Decimal] | None = None  # GPU type -> lowest bid for one; {}: none is named any more
    firewall: tuple[str, ...] | None = None  # what comes in: `PROTOCOL [PORT[-PORT]] from NETWORK`


class Provider(Protocol):
    """A cloud. Nothing here retries a create or waits: the engine does, with deadlines.

    Reads and destroys raise ProviderUnavailable for what may pass (429, 5xx, network), AccountRefused for 401/402/403.
    """

    name: str
    capabilities: frozenset[Capability]
    rented: bool  # False: the machine is the user's own: it is neither ended nor left with anything of ours running
    keeps_data: bool  # the workspace outlives the machine even without a volume
    shows_gpu: bool  # its machines can show what a GPU does; False: a CPU stands in for whatever card was asked for
    disk_share: float  # bytes that a machine here really writes for each byte that a plan writes; 1: what it says
    list_lag_s: float  # a machine may be missing from list and get this long after its create
    mount_path: str  # where a volume appears

    def offers(self, *, gpus: int, spot: bool, min_cuda: str = "") -> list[Offer]:
        """Everything on sale with `gpus` GPUs a machine (0: CPU machines), cheapest first; spot unsupported: [].

        `min_cuda`: see MachineSpec; what the catalogue counts on hosts with older drivers is not available.
        """
        ...

    def create(self, spec: MachineSpec) -> str:
        """Send one create and return the id. Refused: nothing exists. Ambiguous: look by name."""
        ...

    def machine(self, machine_id: str) -> MachineView | None:
        """None: the provider says there is no such machine (which a fresh one may be for list_lag_s)."""
        ...

    def machines(self) -> list[MachineView]:
        """All machines whose name begins with MACHINE_PREFIX, whoever made them; ended ones left out."""
        ...

    def last_words(self, machine_id: str) -> list[str]:
        """The last lines of the provider's own log of a machine's start; []: it keeps none, or does not answer."""
        ...

    def destroy(self, machine_id: str) -> None:
        """Ask once to end it. Returns when accepted or when the provider knows no such machine. Idempotent."""
        ...

    def reboot(self, machine_id: str) -> None:
        """Ask once to start a machine again, if Capability.REBOOT says so: what runs on it ends. Raises as `create`."""
        ...

    def create_volume(self, name: str, size_gb: int, place: str) -> str:
        """Like create, for a volume."""
        ...

    def volumes(self) -> list[VolumeView]:
        """All volumes whose name begins with MACHINE_PREFIX."""
        ...

    def destroy_volume(self, volume_id: str) -> None:
        """Like destroy. ProviderUnavailable while it is still attached."""
        ...

    def volume_price_hour(self, size_gb: int) -> Decimal:
        """USD an hour for a volume of that size."""
        ...

    def billed(self, machine_ids: Iterable[str]) -> dict[str, Decimal]:
        """What the provider's own billing says each machine has cost so far; {} without Capability.BILLING."""
        ...

    def credit(self) -> Decimal | None:
        """USD that are left of what was paid ahead; None: nothing is paid ahead, or nobody says. Never raises."""
        ...

    def shows_host_key(self, machine_id: str, fingerprint: str) -> bool | None:
        """Whether its log, read through the account, has printed this host key (SHA256:...); None: nobody vouches."""
        ...

    def facts(self) -> Facts:
        """What it says of itself (doctor --live). It only reads."""
        ...

    def end_bill_script(self) -> str:
        """Shell text that, run on the machine itself, ends its bill as far as this provider allows; "" if it cannot."""
        ...
