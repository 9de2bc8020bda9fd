"""How long a store that is unwell is waited for."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator.engine.context import Context
from orchestrator.engine.control import Control
from orchestrator.engine.effects import ManifestFile
from orchestrator.engine.together import AT_ONCE
from orchestrator.engine.uploads import PATIENCE_S, RENEWALS, SMALL_BYTES, Uploads, lots
from orchestrator.transport.agent import Agent
from orchestrator.transport.replies import Checksums, PartSum, SentPart
from orchestrator.words.errors import ProviderUnavailable, StepFailed, StoreBusy
from orchestrator.words.store import ArtifactStore, SignedPart, StoredObject, Upload
from orchestrator.world.clock import SystemClock
from tests.unit.engine.stepbench import Bench

FILE = ManifestFile("big.bin", 40, "hash")
BUSY, EXPIRED, BROKEN = (
    (503, "HTTP 503 Slow Down: "),
    (403, "HTTP 403 Forbidden: Request has expired"),
    (500, "HTTP 500 Internal Server Error: "),
)


class Patient(SystemClock):
    """Its waits pass at once, and are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0.0

    def monotonic(self) -> float:
        return self.waited

    def signal(self) -> Any:
        return self

    def notify(self) -> None:
        pass

    def wait(self, until: Any, seconds: float | None = None) -> bool:
        self.waited += seconds or 0.0
        return bool(until())


class Store:
    """A store and the agent that sends to it: `answers` says what becomes of each batch; None: it is stored."""

    url, ordered, shares_uploads, reports_md5, parts_md5 = "s3://b", True, True, False, False

    def __init__(self, answers: list[Any]) -> None:
        self.answers, self.held, self.signed, self.md5s = answers, set[int](), 0, list[str]()

    def head(self, name: str) -> None:
        return None

    def begin(self, name: str, size: int, sha256: str) -> Upload:
        return Upload(name, size, sha256, 10, "token")

    def abort(self, upload: Upload) -> None:
        self.held.clear()

    def missing(self, upload: Upload, parts: list[Any]) -> list[Any]:
        return [part for part in parts if part.number not in self.held]

    def sign(self, upload: Upload, parts: list[Any]) -> list[SignedPart]:
        self.signed += 1
        self.md5s += [part.md5 for part in parts[:1]]
        return [SignedPart(part, "http://x", {}, (200,)) for part in parts[:1]]

    def complete(self, upload: Upload, parts: list[Any]) -> StoredObject:
        return StoredObject(upload.key, upload.bytes, None, upload.sha256)

    def checksums(self, path: str, part_bytes: int, *, md5: bool, parts_md5: bool, tar: bool) -> Checksums:
        found = "md5 of {}" if parts_md5 else None
        return Checksums(
            40, "hash", "", tuple(PartSum(n, 10 * n - 10, 10, "", found and found.format(n)) for n in (1, 2, 3, 4))
        )

    def put(
        self, path: str, parts: list[SignedPart], *, ordered: bool, tar: bool, on_part: Callable[[SentPart], None]
    ) -> list[SentPart]:
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        number = parts[0].part.number
        if answer is None:
            self.held.add(number)
            return [SentPart(number, 200, "", 10, "", "")]
        return [SentPart(number, answer[0], "", 0, "", answer[1])]


def context_of(folder: Path) -> Context:
    context = Bench(folder).context
    context.clock = clock = Patient()
    context.control = Control(clock)
    return context


def waited(context: Context) -> float:
    """The seconds that passed at once."""
    assert isinstance(context.clock, Patient)
    return context.clock.waited


def both(store: Store) -> tuple[ArtifactStore, Agent]:
    """It has as much of either as an upload asks for."""
    return cast("ArtifactStore", store), cast("Agent", store)


def send(context: Context, store: Store) -> str:
    uploads, (there, agent) = Uploads(context), both(store)
    return uploads.send(there, agent, "/workspace", FILE, uploads.transfer("one", there, [FILE], is_all=True))


def test_patience_begins_anew_with_each_stored_part(tmp_path: Path):
    """A store that refuses each part for nearly as long as it is waited for takes the file in the end."""
    context = context_of(tmp_path)
    hiccup = [BROKEN] * 20  # some 270 s of pauses
    assert send(context, Store([*hiccup, None, *hiccup, None, *hiccup, None])) == "sent"
    assert waited(context) > 2 * PATIENCE_S
    assert context.ledger.artifacts.get(name="big.bin").state == "VERIFIED"


class Telling(Store):
    """Says of each part that it is there as the machine does; `heard`: the bytes that whoever looks on sees then."""

    def __init__(self, context: Context) -> None:
        super().__init__([])
        self.context, self.heard = context, list[int]()

    def sign(self, upload: Upload, parts: list[Any]) -> list[SignedPart]:
        return [SignedPart(part, "http://x", {}, (200,)) for part in parts]

    def put(
        self, path: str, parts: list[SignedPart], *, ordered: bool, tar: bool, on_part: Callable[[SentPart], None]
    ) -> list[SentPart]:
        sent = [SentPart(signed.part.number, 200, "", 10, "", "") for signed in parts]
        for part in sent:
            self.held.add(part.number)
            on_part(part)
            self.heard.append(self.moved())
        return sent

    def moved(self) -> int:
        """As the ledger has it."""
        return self.context.ledger.transfers.get(
            run=self.context.run, phase="one", kind="upload", place=self.url
        ).bytes_done


def test_each_part_is_told_when_it_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """How far a file is does not wait for the end of what was signed together, and nothing is counted twice."""
    monkeypatch.setattr("orchestrator.engine.transfers.WRITE_S", 0.0)
    context = context_of(tmp_path)
    store = Telling(context)
    assert send(context, store) == "sent"
    assert (store.heard, store.moved()) == ([10, 20, 30, 40], 40)


class Asked(Store):
    """Notes how often it is asked what is missing; a file is `parts` parts."""

    def __init__(self, parts: int, answers: list[Any]) -> None:
        super().__init__(answers)
        self.parts, self.asked = parts, 0

    def missing(self, upload: Upload, parts: list[Any]) -> list[Any]:
        self.asked += 1
        return super().missing(upload, parts)

    def checksums(self, path: str, part_bytes: int, *, md5: bool, parts_md5: bool, tar: bool) -> Checksums:
        found = super().checksums(path, part_bytes, md5=md5, parts_md5=parts_md5, tar=tar)
        return replace(found, parts=found.parts[: self.parts])


@pytest.mark.parametrize(("parts", "answers", "asked"), [(1, [], 0), (1, [BROKEN], 1), (4, [], 4)])
def test_a_store_is_not_asked_what_is_known(tmp_path: Path, parts: int, answers: list[Any], asked: int):
    """A new upload lacks all of it; a file of one part is looked at when it is completed, or where it failed."""
    store = Asked(parts, answers)
    assert send(context_of(tmp_path), store) == "sent"
    assert store.asked == asked


@pytest.mark.parametrize("shares", [True, False])
def test_what_an_upload_goes_on_with_is_shared_where_it_is_no_capability(tmp_path: Path, *, shares: bool):
    """An upload's name at S3 goes where others find it who go on with the run; a session of GCS stays at home."""
    context, store, kept = context_of(tmp_path), Store([None]), list[str]()
    context.keep = lambda file: kept.append(json.loads(file.read_text())["token"])
    store.shares_uploads = shares
    send(context, store)
    assert kept == (["token"] if shares else [])


def test_a_store_that_stores_nothing_is_given_up(tmp_path: Path):
    """Without a stored part the patience ends, with the store's own words."""
    context = context_of(tmp_path)
    with pytest.raises(ProviderUnavailable, match="Internal Server Error"):
        send(context, Store([BROKEN] * 1000))
    assert PATIENCE_S <= waited(context) < 2 * PATIENCE_S


def test_a_store_that_asks_for_patience_gets_the_phases_time(tmp_path: Path):
    """429, 503 and SlowDown are waited out, far beyond the patience for failures; the phase's time-out ends it."""
    context = context_of(tmp_path)
    assert send(context, Store([*[BUSY] * 100, StoreBusy("SlowDown")])) == "sent"
    assert waited(context) > 4 * PATIENCE_S
    context = context_of(tmp_path / "late")
    context.control.stop("failed", "only took longer than its time-out of 60 s")
    with pytest.raises(StepFailed, match="time-out"):
        send(context, Store([BUSY] * 10))


def test_what_was_signed_too_long_ago_is_signed_again_at_once(tmp_path: Path):
    """An expired signature costs no wait, a bounded number of times; then the store counts as failing."""
    context, store = context_of(tmp_path), Store([EXPIRED] * RENEWALS)
    assert send(context, store) == "sent"
    assert (waited(context), store.signed) == (0.0, RENEWALS + 4)
    with pytest.raises(ProviderUnavailable, match="expired"):
        send(context_of(tmp_path / "always"), Store([EXPIRED] * 1000))


def test_parts_have_their_md5_where_a_store_signs_it(tmp_path: Path):
    """The machine is asked for it there, and nowhere else."""
    store = Store([])
    assert send(context_of(tmp_path), store) == "sent"
    assert store.md5s == [""] * 4
    store = Store([])
    store.parts_md5 = True
    assert send(context_of(tmp_path / "md5"), store) == "sent"
    assert store.md5s == [f"md5 of {n}" for n in (1, 2, 3, 4)]


def test_many_small_files_go_together(tmp_path: Path):
    """1,500 of them are 15 effects; a large one is one of its own, and nothing is left out or sent twice."""
    small = [ManifestFile(f"f{n:04}", 7, "h") for n in range(1500)]
    large = ManifestFile("large", SMALL_BYTES + 1, "h")
    found = list(lots([*small[:150], large, *small[150:]]))
    assert [len(lot) for lot in found].count(1) == 1
    assert len(found) == 16
    assert sorted(f.name for lot in found for f in lot) == sorted(f.name for f in [*small, large])


def test_several_files_are_under_way_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Eight at a time, each once; the first that fails ends the rest, and is what is said."""
    context, seen, together = context_of(tmp_path), list[str](), threading.Barrier(AT_ONCE, timeout=60)
    uploads = Uploads(context)

    def send(_store: Any, _agent: Any, _workspace: str, file: ManifestFile, _transfer: Any, **_how: Any) -> str:
        together.wait()  # broken unless so many are here at the same time
        seen.append(file.name)
        return "sent"

    monkeypatch.setattr(uploads, "send", send)
    files = [ManifestFile(f"f{n}", 7, "h") for n in range(3 * AT_ONCE)]
    store, agent = both(Store([]))
    transfer = uploads.transfer("one", store, files, is_all=True)
    uploads.send_all(store, agent, "/workspace", files, transfer)
    assert sorted(seen) == sorted(f.name for f in files)

    def fails(_store: Any, _agent: Any, _workspace: str, file: ManifestFile, _transfer: Any, **_how: Any) -> str:
        raise StepFailed(f"{file.name} changed")

    monkeypatch.setattr(uploads, "send", fails)
    with pytest.raises(StepFailed, match="changed"):
        uploads.send_all(store, agent, "/workspace", files, transfer)


@pytest.mark.parametrize(
    ("stored", "here", "how"),
    [
        (StoredObject("k", 40, None, "hash", "m"), ("hash", "m"), "already there"),
        (StoredObject("k", 40, None, "hash", "m"), ("hash", "other"), "sent"),
        (StoredObject("k", 40, None, "hash", "m"), ("other", "m"), "sent"),
        (StoredObject("k", 40, None, "hash", None), ("hash", "m"), "sent"),
        (StoredObject("k", 41, None, "hash", "m"), ("hash", "m"), "sent"),
    ],
)
def test_where_md5_is_the_proof_metadata_are_none(
    tmp_path: Path, stored: StoredObject, here: tuple[str, str], how: str
):
    """The object's MD5 is compared with the file's, read anew; without both being the manifest's it is sent."""
    store = Store([])
    store.reports_md5, store.held, asked = True, {1, 2, 3, 4}, []
    plain = store.checksums

    def checksums(path: str, part_bytes: int, *, md5: bool, tar: bool, parts_md5: bool = False) -> Checksums:
        asked.append(md5)
        found = plain(path, part_bytes, md5=md5, parts_md5=parts_md5, tar=tar)
        return replace(found, sha256=here[0], md5=here[1] if md5 else None) if len(asked) == 1 and stored.md5 else found

    store.checksums = checksums  # type: ignore[method-assign]
    store.head = lambda name: stored  # type: ignore[method-assign, assignment]
    assert send(context_of(tmp_path), store) == how


@pytest.mark.parametrize(("file", "begun"), [(FILE, 0), (replace(FILE, bytes=41), 1), (replace(FILE, sha256="new"), 1)])
def test_a_later_try_goes_on_with_the_upload_of_this_very_content(tmp_path: Path, file: ManifestFile, begun: int):
    """What an earlier try began is not begun anew; for another content it is."""
    context, (store, _) = context_of(tmp_path), both(Store([BROKEN] * 1000))
    with pytest.raises(ProviderUnavailable):
        send(context, cast("Store", store))
    again, count = Store([]), 0
    begin = again.begin

    def counted(name: str, size: int, sha256: str) -> Upload:
        nonlocal count
        count += 1
        return begin(name, size, sha256)

    again.begin = counted  # type: ignore[method-assign]
    uploads, (there, agent) = Uploads(context), both(again)
    with contextlib.suppress(StepFailed):  # this agent knows the sums of the one content alone
        uploads.send(there, agent, "/workspace", file, uploads.transfer("one", there, [file], is_all=True))
    assert count == begun
