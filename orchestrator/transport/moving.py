"""What is asked of a machine's agent about the bytes of its files: which there are, and where they go or come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from orchestrator.plan.globs import matches
from orchestrator.transport.asking import Asking, Streamed
from orchestrator.transport.limits import SHORT_ANSWER
from orchestrator.transport.refusals import AgentFailed, senseless
from orchestrator.transport.replies import (
    Checksums,
    Done,
    Fetched,
    FileInfo,
    Files,
    Packed,
    PackedFile,
    PackedFolder,
    Packing,
    SentPart,
    Working,
)
from orchestrator.words.source import Wanted
from orchestrator.words.store import SignedPart

FILES, CHECKSUMS = Streamed("files", Files, Working), Streamed("checksums", Checksums, Working)
PUT, GET, PACK = Streamed("put", Done, SentPart), Streamed("get", Done, Fetched), Streamed("pack", Packed, Packing)


class Moving(Asking):
    """A part of Agent. Errors: see Asking."""

    def files(
        self,
        root: str,
        patterns: Iterable[str],
        *,
        sha256: bool = False,
        samples: bool = False,
        strict: bool = False,
        but: Sequence[str] = (),
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> list[FileInfo]:
        """Regular files below `root` that match a glob (** spans folders). `on_bytes`: hashed so far.

        `but`: folders below `root` whose files are left out.

        A link to a file of the workspace is that file. `strict`: AgentFailed where one leads out; else it is left out.
        AgentFailed broken: the machine names one that was not asked for.
        """
        globs = list(patterns)
        request = {"root": root, "patterns": globs, "sha256": sha256, "samples": samples, "but": list(but)}
        found = self._complete(self._stream(FILES, request, lambda line: on_bytes(line.hashed)))
        if stray := next((f.path for f in found.files if not any(matches(f.path, glob) for glob in globs)), None):
            raise senseless("files", f"{stray!r} was not asked for")
        if strict:
            _refuse_outside(found.outside)
        return list(found.files)

    def pack(self, folder: str, patterns: Iterable[str]) -> PackedFolder:
        """Lay out a tar of the workspace's files below `folder` that match a glob; it is called FOLDER.tar.

        `checksums` and `put` take it by that name, with `tar`. AgentFailed: as of `files`, strictly.
        """
        globs, members = list(patterns), list[PackedFile]()
        facts = {"folder": folder, "patterns": globs}
        found = self._complete(self._stream(PACK, facts, lambda line: members.extend(line.members)))
        below = (one for one in members if one.path.startswith(f"{folder}/"))
        asked_for = sum(any(matches(one.path, glob) for glob in globs) for one in below)
        if asked_for < len(members):
            raise senseless("pack", "it names files that were not asked for")
        _refuse_outside(found.outside)
        return PackedFolder(found.bytes, found.sha256, tuple(members))

    def checksums(
        self,
        path: str,
        part_bytes: int,
        *,
        md5: bool = False,
        parts_md5: bool = False,
        tar: bool = False,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> Checksums:
        """Checksums of a file and of its parts. MD5 only on request: of the whole (Google's store), of each part.

        `tar`: it is what was packed by that name. AgentFailed changed: a file of it is another one now.
        """
        request = {"path": path, "part_bytes": part_bytes, "md5": md5, "parts_md5": parts_md5, "tar": tar}
        last = self._stream(CHECKSUMS, request, lambda line: on_bytes(line.hashed))
        found = self._complete(last)
        if parts_md5 and not all(part.md5 for part in found.parts):
            raise senseless("checksums", "parts without the MD5 that was asked for")
        if not found.cuts(part_bytes):
            raise senseless("checksums", f"parts that are not those of {found.bytes:,} bytes")
        return found

    def put(
        self,
        path: str,
        parts: Iterable[SignedPart],
        *,
        ordered: bool = False,
        tar: bool = False,
        on_part: Callable[[SentPart], None] = lambda _: None,
    ) -> list[SentPart]:
        """Have the machine PUT the parts, eight at a time or in order. What the store refused is in the result's error.

        In order, the first refusal is the last entry. A part that was not sent is missing. `tar`: as of `checksums`.
        """
        rows = [
            {
                "number": signed.part.number,
                "offset": signed.part.offset,
                "length": signed.part.length,
                "url": signed.url,
                "headers": signed.headers,
                "accept": list(signed.accept),
            }
            for signed in parts
        ]
        sent: list[SentPart] = []
        unsaid = {row["number"] for row in rows}

        def take(line: SentPart) -> None:
            if line.number not in unsaid:
                raise senseless("put", f"part {line.number} was not asked for")
            unsaid.remove(line.number)
            sent.append(line)
            on_part(line)

        facts: dict[str, Any] = {"path": path, "parts": rows, "ordered": ordered, "tar": tar}
        silence_s = self._limits.put_silence_s
        self._complete(self._stream(PUT, facts, take, silence_s=silence_s, most_bytes=SHORT_ANSWER))
        return sent

    def get(self, wanted: Sequence[Wanted], on_line: Callable[[Fetched], None]) -> None:
        """Have the machine fetch files, several ranges at a time, going on with what an earlier try left of each.

        `on_line` hears how far each is, and once that it is done or why not.
        """
        rows = [
            {"path": one.path, "bytes": one.bytes, "tag": one.tag, "url": one.get.url, "headers": one.get.headers,
             "follow": one.get.follow, "ranges": one.get.ranges, "etag": one.get.etag,
             "crc32": one.crc32, "md5": one.md5, "sha256": one.sha256}
            for one in wanted
        ]  # fmt: skip

        def take(line: Fetched) -> None:
            if line.file >= len(rows) or line.arrived > wanted[line.file].bytes:
                raise senseless("get", f"file {line.file} has {line.arrived:,} bytes")
            on_line(line)

        self._complete(self._stream(GET, {"files": rows}, take, silence_s=self._limits.put_silence_s))


def _refuse_outside(outside: Sequence[str]) -> None:
    """AgentFailed: links among what was asked for lead out of the workspace."""
    if outside:
        more = f" and {len(outside) - 1} more" if len(outside) > 1 else ""
        message = f"{outside[0]}{more}: a link that leads out of the workspace"
        raise AgentFailed("outside", message, remedy="copy the file into the workspace, or link to one in it")
