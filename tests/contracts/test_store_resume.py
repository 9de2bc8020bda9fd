"""An upload by engine and agent, to S3 and to GCS alike: killed, forgotten or finished unseen, it goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator.engine import uploads as sending
from orchestrator.engine.artifacts import pack
from orchestrator.engine.effects import ManifestFile
from orchestrator.engine.uploads import Uploads
from orchestrator.transport.agent import Agent
from orchestrator.transport.replies import SentPart
from orchestrator.words.errors import StepFailed, StoreUnavailable
from orchestrator.words.store import SignedPart, Upload
from tests.contracts.contract_stores import Served, payload
from tests.unit.engine.stepbench import Bench


class Killed(BaseException):
    """The process is gone: nothing catches it."""


class Watched:
    """The real agent, on this computer, which sends its parts two at a time; `before` is told of each two."""

    def __init__(self, agent: Agent) -> None:
        self._agent, self.sent = agent, 0
        self.before: Callable[[list[int]], None] = lambda _numbers: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def put(
        self, path: str, parts: list[SignedPart], *, ordered: bool, tar: bool, on_part: Callable[[SentPart], None]
    ) -> list[SentPart]:
        done: list[SentPart] = []
        for at in range(0, len(parts), 2):
            some = parts[at : at + 2]
            self.before([signed.part.number for signed in some])
            done += self._agent.put(path, some, ordered=ordered, tar=tar, on_part=on_part)
        self.sent += sum(part.bytes for part in done)
        return done


class Run:
    """One file of a run on its way to one store; each `send` is as by a new process, with a store opened anew."""

    def __init__(self, folder: Path, served: Served, name: str) -> None:
        self.served, self.data, self.tars = served, payload(3 * served.part_bytes + 77), set[str]()
        bench = Bench(folder)
        self.context, self.workspace, self.agent = bench.context, str(bench.workspace), Watched(bench.agent)
        self.path = bench.workspace / name
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(self.data)
        self.file = ManifestFile(name, len(self.data), hashlib.sha256(self.data).hexdigest())

    def send(self) -> str:
        uploads, store = Uploads(self.context), self.served.open()
        transfer = uploads.transfer("one", store, [self.file], is_all=True)
        tar = self.file.name in self.tars
        return uploads.send(store, cast("Agent", self.agent), self.workspace, self.file, transfer, tar=tar)

    @property
    def tokens(self) -> list[Path]:
        return list((self.context.folder / "uploads").iterdir())

    @property
    def state(self) -> str:
        return self.context.ledger.artifacts.get(name=self.file.name).state

    def is_whole(self) -> bool:
        """In the store, to the byte, and written down; no capability is left."""
        digest = hashlib.sha256(b"".join(self.served.open().read(self.file.name))).hexdigest()
        return (digest, self.state, self.tokens) == (self.file.sha256, "VERIFIED", [])

    def pack(self) -> None:
        """Its bytes are those of many files in a folder, which is packed."""
        folder = f"{self.file.name}.files"
        for number in range(50):
            path = self.path.parent / f"{self.path.name}.files/{number:02}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(self.data[number::50])
        found = pack(cast("Agent", self.agent), (f"{folder}/**",), folder)
        assert found
        self.file, self.tars = found.file, {found.file.name}

    def die_before(self, number: int) -> None:
        """The next try dies when that part is to be sent."""

        def die(numbers: list[int]) -> None:
            if number in numbers:
                raise Killed

        self.agent.before = die
        with pytest.raises(Killed):
            self.send()
        self.agent.before = lambda _numbers: None

    def forget(self) -> None:
        """The store knows nothing of the upload any more."""
        (token,) = self.tokens
        self.served.open().abort(Upload(**json.loads(token.read_text())))


@pytest.fixture(params=["s3", "gcs"])
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Run:
    """A file of four parts, of which no store has heard."""
    return Run(tmp_path / "run", request.getfixturevalue(request.param), f"models/{tmp_path.name}.m")


def test_a_killed_upload_goes_on(run: Run):
    """Two of four parts are there when the process dies: the next one sends the other two, and no byte again."""
    run.die_before(3)
    (token,) = run.tokens
    assert token.stat().st_mode & 0o777 == 0o600
    assert run.send() == "sent"
    assert run.agent.sent == len(run.data) - 2 * run.served.part_bytes
    assert run.is_whole()


def test_an_upload_that_the_store_has_forgotten_begins_anew(run: Run):
    """Aborted or expired meanwhile: a new one is begun, and all of it is sent."""
    run.die_before(3)
    run.forget()
    assert run.send() == "sent"
    assert run.agent.sent == len(run.data)
    assert run.is_whole()


def test_an_upload_that_is_forgotten_under_way_begins_anew(run: Run, monkeypatch: pytest.MonkeyPatch):
    """A session that ends between two parts is noticed by what the store says next, in the same try."""
    monkeypatch.setattr(sending, "FIRST_PAUSE_S", 0.01)

    def forget(numbers: list[int]) -> None:
        if 3 in numbers:
            run.agent.before = lambda _numbers: None
            run.forget()

    run.agent.before = forget
    assert run.send() == "sent"
    assert run.is_whole()


def test_a_completion_that_nobody_saw_is_one(run: Run, monkeypatch: pytest.MonkeyPatch):
    """Killed when the object was joined and before that was written down: nothing is sent again."""
    note = Uploads._note

    def die(self: Uploads, store: Any, file: ManifestFile, state: str) -> None:
        if state == "VERIFIED":
            raise Killed
        note(self, store, file, state)

    monkeypatch.setattr(Uploads, "_note", die)
    with pytest.raises(Killed):
        run.send()
    sent = run.agent.sent
    monkeypatch.setattr(Uploads, "_note", note)
    assert (run.send(), run.agent.sent) == ("already there", sent)
    assert run.is_whole()


def test_bytes_that_changed_under_way_never_count(run: Run, monkeypatch: pytest.MonkeyPatch):
    """The file is another one when its last parts are sent: the store refuses them, or what came of them, by name."""
    monkeypatch.setattr(sending, "PATIENCE_S", 0.05)
    monkeypatch.setattr(sending, "FIRST_PAUSE_S", 0.01)

    def change(numbers: list[int]) -> None:
        if 3 in numbers:
            run.path.write_bytes(run.data[:-1] + bytes([run.data[-1] ^ 1]))

    run.agent.before = change
    with pytest.raises((StepFailed, StoreUnavailable), match=run.file.name):
        run.send()
    assert run.state == "UPLOADING"
    with pytest.raises((StepFailed, StoreUnavailable), match=run.file.name):  # and the next try believes no metadata
        run.send()
    assert run.state == "UPLOADING"


def test_a_packed_folder_goes_on_where_it_was_cut(run: Run):
    """Its tar lies on no disk, and what was missing of it is made again: the same sha256, and no part twice."""
    run.pack()
    run.die_before(3)
    assert run.send() == "sent"
    assert run.agent.sent == run.file.bytes - 2 * run.served.part_bytes
    assert run.is_whole()
    assert run.send() == "already there"


def test_a_file_of_a_packed_folder_that_changed_is_named(run: Run):
    """Between two parts, or before the upload goes on: its name is said at once, and the upload is not kept."""
    run.pack()
    run.die_before(3)
    (last,) = run.path.parent.glob("*.files/49")
    last.write_bytes(b"another")
    with pytest.raises(StepFailed, match=r"\.tar changed while it was uploaded: .*\.files/49 changed after"):
        run.send()
    assert (run.state, run.tokens) == ("UPLOADING", [])
