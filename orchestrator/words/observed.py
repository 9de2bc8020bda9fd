"""What one machine at a provider has shown: `doctor --live` writes it down, and the rehearsal's clouds behave so."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import Field

from orchestrator.words.errors import UsageError
from orchestrator.words.value import Value

NEARLY = Decimal("1.2")  # a file system that shows up to so much of what was asked for shows the quota


class Observed(Value):
    """One provider. Seconds are of the cloud's time, from the answer to the create unless said otherwise.

    None, "" and {}: it was not asked, or could not be seen; nothing follows from it.
    """

    provider: str
    seen_on: str = ""  # the day, ISO 8601
    rehearsed: bool = False  # by emulators, of themselves
    machine: str = ""  # type and place
    image: str = ""
    price_hour: Decimal | None = None
    listed_s: float | None = None  # until the list had it
    known_s: float | None = None  # until GET knew it
    address_s: float | None = None
    ssh_s: float | None = None  # until something that speaks SSH answered at that address
    private_s: float | None = None  # until it had an address in the private network
    private_never: bool = False  # it was asked for and had none for as long as the machine lived
    unlisted_s: float | None = None  # after its end was asked for, until the list had it no more
    unknown_s: float | None = None  # ... until GET knew it no more
    volume_gb: int | None = None  # of the volume that was made
    volume_tier: str = ""  # that it has where none is asked for
    disk_gb: Decimal | None = None  # what the machine's `df` says that the volume has
    quotas: dict[str, int] = Field(default_factory=dict)  # window -> requests that the API allows in it
    bids: dict[str, Decimal] | None = None  # GPU type -> lowest bid; {}: it is asked for, and none is named
    firewall: tuple[str, ...] | None = None  # what comes in, a rule each
    torch: str = ""  # the image's; "none": it has none
    replies: tuple[dict[str, Any], ...] = ()  # one of each kind, without ids, addresses and secrets

    @property
    def shows_quota(self) -> bool | None:
        """Whether the machine sees the volume's size, and not that of the cluster behind it; None: not known."""
        if self.disk_gb is None or not self.volume_gb:
            return None
        return self.disk_gb <= self.volume_gb * NEARLY

    def save(self, folder: Path) -> Path:
        """Write it as PROVIDER.json, in one step; the file."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{self.provider}.json"
        new = file.with_suffix(".new")
        new.write_text(self.model_dump_json(indent=1) + "\n")
        new.replace(file)
        return file


def load(folder: Path) -> dict[str, Observed]:
    """What the files in that folder say, by provider. UsageError: one of them is no such file."""
    found = {}
    for file in sorted(folder.glob("*.json")):
        try:
            one = Observed.model_validate_json(file.read_text())
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{file} is not what doctor --live writes: {error}", remedy="remove it, or write it anew"
            ) from error
        found[one.provider] = one
    return found
