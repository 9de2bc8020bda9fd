"""What the engine asks of the outside world. One adapter a file; the same contract suite runs on fake and real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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
        """Whether the machine's own log, read through the account's API, has printed this host key (SHA256:...).

        None: it has printed none, or cannot be read: nobody vouches for the key. It may take a few seconds.
        """
        ...

    def facts(self) -> Facts:
        """What it says of itself (doctor --live). It only reads."""
        ...

    def end_bill_script(self) -> str:
        """Shell text that, run on the machine itself, ends its bill as far as this provider allows; "" if it cannot."""
        ...


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a short command ended. `exit` is its code; -1: killed by a signal."""

    exit: int
    stdout: bytes
    stderr: bytes


class Transport(Protocol):
    """One machine over SSH. Everything raises ConnectionLost when the machine cannot be reached or goes silent.

    StepFailed (transport.refusals.AgentFailed): it says more than makes sense, or streams beyond `timeout_s`.
    Safe to use from several threads; reconnects by itself at the next call. Commands are shell text already quoted.
    """

    def run(self, command: str, *, stdin: bytes = b"", timeout_s: float = 60.0) -> CommandResult:
        """Run a short command to its end."""
        ...

    def stream(
        self,
        command: str,
        on_line: Callable[[bytes], None],
        *,
        stdin: bytes = b"",
        silence_s: float = 60.0,
        timeout_s: float = float("inf"),
        most_bytes: float = 64 << 20,
        stop: Callable[[], bool] = lambda: False,
    ) -> int:
        """Run a command, hand over each line of its output as it comes, return its exit code.

        `timeout_s`, `most_bytes`: for all of the output, however it comes.
        ConnectionLost after `silence_s` without a byte. When `stop()` turns true the channel is closed and -1 returned.
        """
        ...

    def send(self, command: str, chunks: Iterable[bytes], *, timeout_s: float = 3600.0) -> CommandResult:
        """Run a command with `chunks` as its standard input: the road for bulk uploads (`tar x`)."""
        ...

    def fetch(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """The bytes of a remote file from `offset` on (FileNotFoundError: there is none)."""
        ...

    def close(self) -> None:
        """Close every channel and the connection. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a store."""

    key: str
    bytes: int
    crc32: str | None  # base64 of the whole object's CRC32 (S3) or CRC32C (GCS); None: the store does not say
    sha256: str | None  # from our own metadata; None: not ours
    md5: str | None = None  # base64; None: the store does not say


@dataclass(frozen=True, slots=True)
class Part:
    """A slice of the file to send. `crc32` is base64 of its big-endian CRC32, computed on the machine."""

    number: int  # from 1
    offset: int
    length: int
    crc32: str
    md5: str = ""  # base64; "": the store has no use for it


@dataclass(frozen=True, slots=True)
class SignedPart:
    """One PUT that the machine can make without any credential of ours. The URL is a capability: never logged."""

    part: Part
    url: str
    headers: dict[str, str]
    accept: tuple[int, ...]  # HTTP statuses that mean stored


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload under way. `token` may be a capability (a session URI, unlike an upload id): kept in a 0600 file.

    "": one request sends all of it, and the store knows of no upload.
    """

    key: str
    bytes: int
    sha256: str
    part_bytes: int
    token: str = field(repr=False)
    md5: str = ""  # base64, of the whole file, from the machine; "": not known, or the store has no use for it


class ArtifactStore(Protocol):
    """A bucket, seen from the controller: it holds the credentials, the machine only gets signed requests."""

    url: str  # s3://bucket/prefix
    ordered: bool  # True: parts go one after the other (GCS), False: at the same time (S3)
    shares_uploads: bool  # True: an upload's token is of no use without the store's own credentials (S3)
    reports_md5: bool  # True: the MD5 of the whole is what proves an object, so `complete` wants it (GCS)
    parts_md5: bool  # True: each part is signed with its own MD5 (an S3 that is not Amazon's)

    def check(self) -> None:
        """Send a small object the whole way of an artifact, before money is spent, and remove it if that is allowed.

        UsageError, with the store's own words and the right that is missing: it cannot be written to, or not read.
        """
        ...

    def head(self, name: str) -> StoredObject | None:
        """The object under prefix/name, or None."""
        ...

    def begin(self, name: str, size: int, sha256: str) -> Upload:
        """Open an upload of a whole object. Part sizes are chosen by the store's rules (>= 5 MiB, <= 10,000 parts)."""
        ...

    def missing(self, upload: Upload, parts: list[Part]) -> list[Part]:
        """Which of the parts the store does not hold yet (by number, size and, where it says, checksum)."""
        ...

    def sign(self, upload: Upload, parts: list[Part]) -> list[SignedPart]:
        """Sign the PUTs of a small batch, just before they are used."""
        ...

    def complete(self, upload: Upload, parts: list[Part]) -> StoredObject:
        """Join the parts and verify the object's checksum and size. StepFailed, naming the object, if it differs."""
        ...

    def abort(self, upload: Upload) -> None:
        """Give up an upload: nothing of it stays billed. Idempotent."""
        ...

    def read(self, name: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The object's bytes from `offset` on, at most `length` of them (None: all). Safe from several threads."""
        ...

    def put_text(self, name: str, text: str) -> None:
        """Store a small document (the manifest)."""
        ...
