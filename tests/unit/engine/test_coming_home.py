"""What a run has made comes home from the store when its machines are gone; without a store, from the machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.engine import download as loading
from orchestrator.engine.artifacts import PARTIAL, Home
from orchestrator.engine.download import Download, notes_of
from orchestrator.engine.effects import ManifestFile
from orchestrator.engine.fetching import fetch_all
from orchestrator.engine.together import AT_ONCE, together
from orchestrator.engine.transfers import PULL
from orchestrator.testing.audit import unsafe
from orchestrator.testing.bench import RUN, Bench
from orchestrator.testing.clock import ManualClock
from orchestrator.testing.store import MemoryStore
from orchestrator.words.errors import Interrupted, StepFailed, StoreUnavailable
from orchestrator.words.lifecycle import Outcome
from orchestrator.world.clock import SystemClock
from tests.unit.engine.stories import Story

HOUR = 3600.0


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A phase that makes a file, saves it in a store and wants it home."""
    (tmp_path / "home").mkdir()
    return Story.load("one-phase", tmp_path / "plan").bench(tmp_path / "home")


def test_no_machine_is_paid_for_while_artifacts_come_home(bench: Bench):
    """A pull of an hour begins when every machine is gone, and costs no machine a cent."""
    alive: list[list[str]] = []

    def slowly(_name: str) -> None:
        alive.append(bench.clouds.machines_left())
        bench.clock.sleep(HOUR)

    bench.stores[0].on_read = slowly
    end = bench.controller().run()
    assert (end.outcome, alive) == (Outcome.SUCCEEDED, [[]])
    assert (bench.folder / "pulled/pulled/out/a.txt").read_text() == "hello"
    assert sum(map(Decimal, bench.clouds.invoice()["machines"].values())) < Decimal("0.10")
    assert unsafe(bench) == []


def test_what_does_not_come_home_keeps_its_volume(bench: Bench):
    """A store that answers no more: the phase and the run have failed, and the volume is kept for another try."""

    def broken(name: str) -> None:
        raise StoreUnavailable(f"{name}: not today")

    bench.stores[0].on_read = broken
    end = bench.controller().run()
    ledger = bench.ledger()
    assert (end.outcome, len(bench.clouds.volumes_left())) == (Outcome.FAILED, 1)
    assert ledger.runs.get(id=RUN).outcome == Outcome.FAILED
    phase = ledger.phases.get(run=RUN, name="only")
    assert phase.outcome == Outcome.FAILED
    assert f"gpuplan pull {RUN} goes on" in phase.error


def test_somebody_may_stop_a_pull(bench: Bench):
    """Ctrl-C while files come: the run is interrupted, nothing of it is left running, its volume is kept."""
    controller = bench.controller()

    def stop(_name: str) -> None:
        controller.context.control.stop("interrupted", "Ctrl-C")

    bench.stores[0].on_read = stop
    end = controller.run()
    assert (end.outcome, end.left, bench.clouds.machines_left()) == (Outcome.INTERRUPTED, (), [])
    assert len(bench.clouds.volumes_left()) == 1


def test_without_a_store_the_machine_sends_them(bench: Bench):
    """Nothing is anywhere else: the machine is paid for until its files are at home; how far they are can be seen."""
    bench.stores.clear()
    bench.spec = bench.spec.model_copy(update={"stores": ()})
    bench.controller().run()
    assert (bench.folder / "pulled/pulled/out/a.txt").read_text() == "hello"
    (pull,) = bench.ledger().transfers.all(run=RUN, kind=PULL)
    assert (pull.files_done, pull.bytes_done, pull.moved, pull.ended_at is None) == (1, 5, 5, False)


# -- one file ------------------------------------------------------------------------------------------------------


class Ranges(MemoryStore):
    """A store that notes which ranges are asked for, and fails as it is told to."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.objects["a.m"] = content
        self.asked: list[int] = []
        self.fails: Callable[[int], None] = lambda _offset: None

    def read(self, name: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        self.asked.append(offset)
        self.fails(offset)
        yield from super().read(name, offset, length)


def download(
    store: Ranges, file: ManifestFile, half: Path, clock: ManualClock,
    told: Callable[[int, int], None] = lambda _bytes, _moved: None,
) -> str:  # fmt: skip
    """Bring what `half` lacks, ranges at the same time; the sha256 of all that then is there."""
    with closing(Download(store, file, half, clock, told=told)) as coming:
        together(clock, coming.fetch, coming.missing())
        return coming.sha256()


CONTENT = bytes(range(256)) * 4 + b"end"
FILE = ManifestFile("a.m", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Ranges:
    monkeypatch.setattr(loading, "SPAN", 100)
    return Ranges(CONTENT)


def test_ranges_become_the_file(store: Ranges, tmp_path: Path):
    """Eleven ranges in some order are the file, and its sha256 is known when the last one came."""
    half, told = tmp_path / "a.m.partial", list[tuple[int, int]]()
    hear = lambda *said: told.append(said)  # noqa: E731  it is handed on
    assert download(store, FILE, half, ManualClock(7), told=hear) == FILE.sha256
    assert half.read_bytes() == CONTENT
    assert max(here for here, _ in told) == sum(moved for _, moved in told) == len(CONTENT)
    assert sorted(store.asked) == list(range(0, 1027, 100))


def test_a_cut_download_asks_for_what_is_missing(store: Ranges, tmp_path: Path):
    """After it was given up in the middle, the next one asks only for the ranges that did not come."""
    half, stopped = tmp_path / "a.m.partial", Interrupted("Ctrl-C")

    def stop(offset: int) -> None:
        if offset == 800:
            raise stopped

    store.fails = stop
    with pytest.raises(Interrupted):
        download(store, FILE, half, ManualClock(1))
    before, store.asked, store.fails = set(store.asked) - {800}, [], lambda _offset: None
    told = list[int]()
    assert download(store, FILE, half, ManualClock(2), told=lambda here, _moved: told.append(here)) == FILE.sha256
    assert min(told) > 100 * len(before), "what was there counts"
    assert max(told) == len(CONTENT)
    assert before
    assert not before & set(store.asked)


def test_a_range_that_breaks_off_comes_again(store: Ranges, tmp_path: Path):
    """A store that fails twice in the middle is asked again for that range alone."""
    failures = [StoreUnavailable("cut"), StoreUnavailable("cut")]

    def twice(offset: int) -> None:
        if offset == 300 and failures:
            raise failures.pop()

    store.fails = twice
    assert download(store, FILE, tmp_path / "a.m.partial", ManualClock(1)) == FILE.sha256
    assert store.asked.count(300) == 3
    assert len(store.asked) == 13


def test_a_half_file_of_other_content_is_not_gone_on_with(store: Ranges, tmp_path: Path):
    """What is noted of another content, or half a note, counts for nothing."""
    half = tmp_path / "a.m.partial"
    half.write_bytes(b"x" * 500)
    notes_of(half).write_text(f"{'0' * 64} {FILE.bytes} 100\n0\n1\n2\n3\n")
    assert download(store, FILE, half, ManualClock(1)) == FILE.sha256
    notes_of(half).write_text(notes_of(half).read_text() + "1")
    assert download(store, FILE, half, ManualClock(1)) == FILE.sha256


def test_another_size_than_was_listed_is_an_error(store: Ranges, tmp_path: Path):
    """Neither more nor less than the manifest says is fetched."""
    store.objects["a.m"] = CONTENT + b"more"
    with pytest.raises(StepFailed, match=r"has 1,031 bytes in memory://store, not the 1,027"):
        download(store, FILE, tmp_path / "a.m.partial", ManualClock(1))
    assert store.asked == []


# -- many files ----------------------------------------------------------------------------------------------------


def many(store: MemoryStore, count: int, size: int) -> list[ManifestFile]:
    """So many files of so many bytes, each of other content, in the store."""
    for n in range(count):
        store.objects[f"f{n:02}"] = bytes([n]) * size
    return [ManifestFile(n, size, hashlib.sha256(data).hexdigest()) for n, data in store.objects.items() if n != "a.m"]


@pytest.mark.parametrize(("count", "size"), [(AT_ONCE, 250), (2, AT_ONCE * 50), (1, AT_ONCE * 100), (20, 7)])
def test_ranges_of_whatever_files_come_at_the_same_time(store: Ranges, tmp_path: Path, count: int, size: int):
    """Eight ranges are under way, of many files with few or of few with many; each file arrives whole."""
    files, first = many(store, count, size), threading.Barrier(AT_ONCE, timeout=20)

    def wait(_offset: int) -> None:
        if len(store.asked) <= AT_ONCE:
            first.wait()  # broken unless so many are here at the same time

    store.fails = wait
    said: list[tuple[str, str]] = []
    home = Home(tmp_path / "home", tmp_path / "runs")
    fetch_all(store, files, home, SystemClock(), said=lambda file, how: said.append((file.name, how)))
    assert sorted(said) == [(file.name, "fetched") for file in files]
    assert all((home.folder / f.name).read_bytes() == store.objects[f.name] for f in files)
    assert not list(home.folder.rglob(f"*{PARTIAL}*"))


def test_what_came_of_many_files_before_a_cut_is_kept(store: Ranges, tmp_path: Path):
    """The first error ends it; the next time only what is missing is asked for."""
    files = many(store, 6, 250)  # three ranges each
    home = Home(tmp_path / "home", tmp_path / "runs")

    def stop(_offset: int) -> None:
        if len(store.asked) == 9:
            raise Interrupted("Ctrl-C")

    store.fails = stop
    with pytest.raises(Interrupted):
        fetch_all(store, files, home, ManualClock())
    came = len(store.asked) - 1  # the ninth did not
    assert 8 <= came < 18
    store.asked.clear()
    store.fails = lambda _offset: None
    fetch_all(store, files, home, ManualClock())
    assert len(store.asked) == 18 - came
    assert all((home.folder / f.name).read_bytes() == store.objects[f.name] for f in files)
