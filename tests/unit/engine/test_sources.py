"""What results were made of: image, commits of the hub and of clones, in the run, its report and its manifest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.config import load_plan
from orchestrator.engine import launch
from orchestrator.engine.artifacts import manifest_files
from orchestrator.engine.effects import ManifestFile
from orchestrator.testing.bench import Bench, World
from orchestrator.testing.machine import Script
from orchestrator.transport import commands
from orchestrator.words.lifecycle import Outcome

IMAGE = f"runpod/pytorch@sha256:{'d' * 64}"
COMMIT, CLONED = "c" * 40, "b" * 40
PLAN = f"""
name: get
machine: {{gpu: [RTX-4090], image: "{IMAGE}"}}
volume: {{name: data, size_gb: 10}}
steps:
  - {{name: clone, run: clone, cwd: up, creates: [.git/HEAD]}}
  - {{name: fetch, run: fetch, hub: {{repo: o/m, dir: m}}, creates: [m/*.json], needs: [clone]}}
  - {{name: write, builtin: report, text: Done., creates: [report.md], needs: [fetch]}}
artifacts: [report.md]
"""
COPY = commands.copy(f"/workspace/{launch.WRITE_UP}", "report.md", "0 measured figures").text
HUB: dict[str, dict[str, list[tuple[str, int, str | None]]]] = {"o/m": {COMMIT: [("config.json", 2, None)]}}


@pytest.fixture
def made(tmp_path: Path) -> Bench:
    """A run of the plan, to its end."""
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "get.yaml").write_text(PLAN)
    scripts = {
        "clone": Script(creates={"up/.git/HEAD": CLONED}),
        "fetch": Script(creates={"m/config.json": "{}"}),
        COPY: Script(creates={"report.md": "page"}),
    }
    (tmp_path / "home").mkdir()
    plan = load_plan(tmp_path / "plan", environ={})
    bench = Bench(plan, ("get",), World(scripts=scripts, hub=HUB, stores=1), tmp_path / "home")
    assert bench.controller().run().outcome == Outcome.SUCCEEDED
    return bench


def test_the_run_says_what_it_is_made_of(made: Bench):
    """Its events name the image of each machine, and each commit, all forty digits."""
    said = [event.text for event in made.ledger().newest_events(made.spec.run, 100)]
    assert any(" created as " in text and text.endswith(f" from {IMAGE}") for text in said)
    assert f"get/clone: . is a clone at commit {CLONED}" in said
    assert f"get/fetch: o/m at commit {COMMIT}" in said


def test_the_manifest_says_what_its_files_are_made_of(made: Bench):
    """In the store and at home, beside the files' checksums."""
    stored = json.loads(made.stores[0].objects["manifest-get.json"])
    assert stored["sources"] == {"images": {"get": IMAGE}, "hub": {"o/m": COMMIT}, "clones": {"up": CLONED}}
    assert [file["name"] for file in stored["files"]] == ["report.md"]


def test_the_report_says_what_it_was_made_of(made: Bench):
    """Below the figures, one line each."""
    (disk,) = made._disks.values()
    page = disk.files[f"/workspace/{launch.WRITE_UP}"].decode()
    assert page.partition("### Made of")[2].split("\n")[2:5] == [
        f"- image of get: `{IMAGE}`",
        f"- o/m: `{COMMIT}`",
        f"- up: `{CLONED}`",
    ]


def test_a_manifest_of_before_is_read():
    """Version 0.1.0 wrote the list of files alone."""
    files = [{"name": "a", "bytes": 1, "sha256": "0" * 64}]
    wanted = [ManifestFile("a", 1, "0" * 64)]
    assert manifest_files(json.dumps(files)) == manifest_files(json.dumps({"files": files, "more": 1})) == wanted
