"""One object of a store whose sha256 the plan says: another content is refused, whatever the store tells of it."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.words.errors import StepFailed
from orchestrator.words.source import SignedGet, Source, SourceFile
from orchestrator.words.store import StoredObject


class KnownSource:
    """`Source` around another one."""

    def __init__(self, inner: Source, sha256: str) -> None:
        self.url, self._inner, self._sha256 = inner.url, inner, sha256

    def listing(self) -> list[SourceFile]:
        """See Source. StepFailed: there are several."""
        found = self._inner.listing()
        if len(found) > 1:
            raise StepFailed(f"{self.url} is {len(found)} files: one sha256 cannot be theirs", remedy="leave it out")
        return found

    def about(self, file: SourceFile) -> StoredObject | None:
        """See Source. The sha256 is the plan's."""
        said = self._inner.about(file)
        return replace(said, sha256=self._sha256) if said else None

    def signed_get(self, file: SourceFile) -> SignedGet:
        """See Source."""
        return self._inner.signed_get(file)
