"""Whole runs on the bench: as they are meant, and cut short before and after every effect."""

from __future__ import annotations

import hashlib
import json
import os
import posix
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.engine.version import APPLICATION_VERSION
from orchestrator.rehearsal.in_process import Call
from orchestrator.testing.audit import unsafe
from orchestrator.testing.bench import RUN, Bench
from orchestrator.testing.explore import Explorer
from orchestrator.words.lifecycle import Outcome, StepState
from tests.unit.engine.stories import FOLDER, NAMES, Story, golden

GOLDEN = FOLDER.with_name("effects.json")
ROOM = 32 << 20  # bytes: some ten times what one story and its children under way take
LEAST_DEATHS = 1900  # of the explored ones, all stories together: it may not fall


@pytest.fixture(autouse=True)
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make coverage` counts a story as it is told in this process: two thousand tracers outlast the deaths."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # of this process's forks
    monkeypatch.setattr(os, "_exit", posix._exit)


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is room for one: thousands of transactions then wait for no disk."""
    shared = Path("/dev/shm")
    if not (os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > ROOM):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared, prefix="gpuplan-stories-") as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_story_ends_as_it_should_however_its_process_dies(
    name: str, in_memory: Path, record_property: Callable[[str, object], None]
):
    """A run that is killed before or after any effect is done after `resume`, and leaves nothing after `down`."""
    story = Story.load(name, in_memory / "plan")

    def resume(bench: Bench) -> list[str]:
        return story.wrong(bench, bench.controller().run())

    def down(bench: Bench) -> list[str]:
        left = bench.controller().down()
        again = [f"{c} ran {n} times" for c, n in bench.runs().items() if n > story.ends["runs"].get(c, 0)]
        return [f"left: {one}" for one in left] + again + unsafe(bench)

    story.bench(_folder(in_memory, 0)).controller().run()  # what a process works out once, no child has to
    bench = story.bench(_folder(in_memory, 1))
    explorer = Explorer(bench, {"resume": resume, "down": down}, in_memory / "deaths")
    end = explorer.run()
    assert story.wrong(bench, end) == []
    assert bench.records.names() == golden()["stories"][name], "see test_effects_change_with_the_version"
    bad = [d for d in explorer.deaths if d.wrong]
    said = "\n".join(f"{d.where}, then {d.way}: {'; '.join(d.wrong)}" for d in bad[:10])
    record_property("deaths", len(explorer.deaths))
    assert not bad, f"{len(bad)} of {len(explorer.deaths)} deaths end badly:\n{said}"


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_run(name: str, tmp_path: Path):
    """Two runs with one seed do the same things at the same moments, by the effects that were agreed on."""
    story = Story.load(name, tmp_path / "plan")
    seen = []
    for number in range(2):
        bench = story.bench(_folder(tmp_path, number), seed=1)
        end = bench.controller().run()
        assert story.wrong(bench, end) == []
        assert sorted(bench.records.names()) == sorted(golden()["stories"][name])
        seen.append((bench.clock.monotonic(), bench.creates(), _without_keys(bench), Outcome(end.outcome)))
    assert seen[0] == seen[1]


@pytest.mark.parametrize(("code", "outcome"), [(0, Outcome.SUCCEEDED), (7, Outcome.FAILED)])
def test_a_service_that_ends_badly_fails_its_phase(tmp_path: Path, code: int, outcome: Outcome):
    """Though it had answered, and the step that needs it is done."""
    told = Story.load("two-nodes", tmp_path / "plan")
    serve = replace(told.world.scripts["serve"], seconds=5.0, exit=code)
    told = replace(told, world=replace(told.world, scripts={**told.world.scripts, "serve": serve}))
    bench = told.bench(_folder(tmp_path, 0))
    assert bench.controller().run().outcome == outcome
    steps = {row.id: row.state for row in bench.ledger().steps.all()}
    assert steps == {"both/worker": StepState.FAILED if code else StepState.DONE, "both/ask": StepState.DONE}


def test_effects_change_with_the_version(tmp_path: Path, pytestconfig: pytest.Config):
    """Another order of effects than was agreed on needs another APPLICATION_VERSION: no pending run may be corrupted.

    `pytest --write-effects` writes effects.json anew, once the version is another one; that each story does what it
    says is seen where the stories are played.
    """
    write = pytestconfig.getoption("--write-effects")
    stories = _played(tmp_path) if write else golden()["stories"]
    digest = hashlib.sha256(json.dumps(stories, sort_keys=True).encode()).hexdigest()
    kept = golden().get("versions", {})
    if write and kept.get(APPLICATION_VERSION, digest) == digest:
        versions = {**kept, APPLICATION_VERSION: digest}
        GOLDEN.write_text(json.dumps({"versions": versions, "stories": stories}, indent=1) + "\n")
    assert golden()["versions"].get(APPLICATION_VERSION) == digest
    assert sorted(golden()["stories"]) == NAMES


def _played(folder: Path) -> dict[str, list[str]]:
    """The effects of each story."""
    found = {}
    for name in NAMES:
        bench = Story.load(name, folder / name / "plan").bench(_folder(folder / name, 0))
        bench.controller().run()
        found[name] = bench.records.names()
    return found


def test_enough_deaths_are_tried():
    """The stories' effects, times before and after, times resume and down, are at least as many as ever."""
    explored = [e for effects in golden()["stories"].values() for e in effects if e.startswith(RUN)]
    assert 4 * len(explored) >= LEAST_DEATHS


def _without_keys(bench: Bench) -> list[Call]:
    """What the clouds were asked, but for the host keys, which are new each time: they are secrets."""
    calls = bench.clouds.calls
    return [replace(c, body={**c.body, "user_data": ""}) if "user_data" in (c.body or {}) else c for c in calls]


def _folder(parent: Path, number: int) -> Path:
    folder = parent / f"home{number}"
    folder.mkdir(parents=True)
    return folder
