"""What the engine asks of a store that machines fetch from: another port, beside those in ports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.words.store import StoredObject


@dataclass(frozen=True, slots=True)
class SourceFile:
    """An object that a machine is to fetch. `etag`: another one means another content."""

    name: str  # below the source's address; of a source that is one object, its last part
    key: str
    bytes: int
    etag: str


@dataclass(frozen=True, slots=True)
class SignedGet:
    """A GET, of any range, that a machine can make without any credential of ours: a capability, never logged."""

    url: str = field(repr=False)
    headers: dict[str, str]
    follow: bool = False  # redirects, to https alone
    ranges: bool = True  # False: whoever has it sends all of it, whatever is asked for
    etag: str = ""  # an answer that says another one is another content; "": that is not looked at


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that a machine is to fetch: its path below the workspace, and what the store says of it; "": it does not.

    `tag`: another one means another content; crc32 and md5 are base64, sha256 hexadecimal.
    """

    path: str
    bytes: int
    tag: str
    get: SignedGet
    crc32: str = ""
    md5: str = ""
    sha256: str = ""


class Source(Protocol):
    """An object, or all below a prefix, seen from the controller, which may read it; the machine gets signed GETs."""

    url: str  # s3://bucket/key, https://host/file

    def listing(self) -> list[SourceFile]:
        """The object at the address, or else all below it; [] where there is neither.

        UsageError: it may not be read, in the store's words.
        """
        ...

    def about(self, file: SourceFile) -> StoredObject | None:
        """What the store says of its content; None: it is gone."""
        ...

    def signed_get(self, file: SourceFile) -> SignedGet:
        """Sign the GET of that very content. UsageError: these credentials cannot sign."""
        ...
