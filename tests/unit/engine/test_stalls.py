"""A download that hangs is stopped and begun again without Xet, long before its step's time-out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import load_plan
from orchestrator.testing.bench import Bench, World
from orchestrator.testing.machine import Script, ScriptedMachine
from orchestrator.words.lifecycle import Outcome
from tests.faults.processes import Process

PLAN = """
name: get
machine: {gpu: [RTX-4090]}
volume: {name: data, size_gb: 10}
steps:
  - {name: fetch, run: fetch, timeout: 4h, creates: ["m/*"]%s}
"""
HUB = ", hub: {repo: o/m, dir: m}"


def bench(folder: Path, stalls: int, hub: str = HUB) -> Bench:
    (folder / "plan").mkdir()
    (folder / "home").mkdir()
    (folder / "plan" / "get.yaml").write_text(PLAN % hub)
    files: list[tuple[str, int, str | None]] = [("config.json", 2, None)]
    world = World(scripts={"fetch": Script(stalls=stalls, creates={"m/config.json": "{}"})}, hub={"o/m": {"c": files}})
    return Bench(load_plan(folder / "plan", environ={}), ("get",), world, folder / "home")


def lived(made: Bench, monkeypatch: pytest.MonkeyPatch) -> tuple[Outcome, list[Any], list[str]]:
    """How its run ends, what its jobs were started with, and what was said."""
    started: list[Any] = []
    start = ScriptedMachine._op_start

    def listen(self: ScriptedMachine, request: Any) -> Any:
        started.append(json.loads(json.dumps(request)))
        return start(self, request)

    monkeypatch.setattr(ScriptedMachine, "_op_start", listen)
    outcome = made.controller().run().outcome
    said = [event.text for event in made.ledger().newest_events(made.spec.run, 200)]
    return outcome, started, said


def test_a_download_that_stalls_is_begun_again_without_xet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Five minutes without a byte end its try, which is said; the next one speaks plain HTTP, and retries are kept."""
    made = bench(tmp_path, stalls=1)
    outcome, started, said = lived(made, monkeypatch)
    assert outcome == Outcome.SUCCEEDED
    assert ["HF_HUB_DISABLE_XET" in job["env"] for job in started] == [False, True]
    assert started[1]["env"]["HF_HUB_DISABLE_XET"] == "1"
    words = "get/fetch: no bytes came for 5 minutes: stopped, and without Xet (1 of 2 times for that): again, attempt 2"
    assert words in said
    assert made.clock.monotonic() < 1800


def test_a_download_that_only_stalls_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """After two tries for nothing the third is the step's own, and its message says what was seen."""
    made = bench(tmp_path, stalls=9)
    outcome, started, _ = lived(made, monkeypatch)
    assert (outcome, len(started)) == (Outcome.FAILED, 3)
    (phase,) = made.ledger().phases.all()
    assert "get/fetch: no bytes came for 5 minutes" in phase.error


def test_only_downloads_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A step that computes for hours without reading or writing goes on to its time-out."""
    made = bench(tmp_path, stalls=1, hub="")
    outcome, started, _ = lived(made, monkeypatch)
    assert (outcome, len(started)) == (Outcome.FAILED, 1)
    (phase,) = made.ledger().phases.all()
    assert "took longer than 14400 s" in phase.error


def test_a_stalled_download_is_resumed_without_xet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed after the try that stalled was recorded: the next process's try speaks plain HTTP too."""
    made = bench(tmp_path, stalls=1)
    process = Process(made.clock, "run", made.controller().run)
    made.watchers.changed = lambda where: process.kill() if where.endswith(": run-1") else None
    process.wait(3600.0)
    made.watchers.changed = lambda _where: None
    outcome, started, _ = lived(made, monkeypatch)
    assert outcome == Outcome.SUCCEEDED
    assert [job["env"].get("HF_HUB_DISABLE_XET") for job in started] == ["1"]
