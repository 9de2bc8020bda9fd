"""The shipped plan as the engine goes through it on machines whose bytes take time, beside what was foreseen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import cost
from orchestrator.config import load_plan
from orchestrator.engine import accounting
from orchestrator.plan import Preview, preview, resolve
from orchestrator.plan.globs import matches
from orchestrator.rehearsal.clouds.catalogue import volume_price_hour
from orchestrator.testing.bench import Bench, World
from orchestrator.testing.machine import Script
from orchestrator.transport import commands
from orchestrator.words.lifecycle import Outcome
from orchestrator.words.model import Plan, Step
from tests.unit.plan.test_preview import STAGED

TABLE: dict[str, Any] = yaml.safe_load((Path(__file__).with_name("traffic.yaml")).read_text())
ROOT = "distributed-llama"
LAID = commands.lay_code().text
WRITTEN = commands.copy("/workspace/.gpuplan/write-up.md", "GLM_IMPLEMENTATION.md", "0 measured figures").text
ALL = ("day1", "day2-3", "day4-5", "day6-7")


def _plan() -> Plan:
    """The shipped plan; of its deliverables those that read files: what others ask is not on these machines."""
    shipped = load_plan(None, environ={})
    phases = []
    for phase in shipped.phases:
        kept = tuple(d for d in phase.deliverables if d.same)
        phases.append(phase.model_copy(update={"deliverables": kept, "pull_to": None}))
    settings = shipped.settings.model_copy(update={"code": "", "requirements": (), "requirements_gpu": (), "setup": ""})
    return shipped.model_copy(update={"phases": tuple(phases), "settings": settings})


def _files() -> dict[str, float]:
    """Path below the workspace -> GB, of everything that weighs."""
    found = {
        f"{ROOT}/{folder}/model-{n}.safetensors": gb
        for folder, (shards, gb) in TABLE["shards"].items()
        for n in range(shards)
    }
    models = [f"{folder}/{name}" for folder in (f"{ROOT}/converter", "glm_results") for name in TABLE["models"]]
    return found | dict.fromkeys(models, TABLE["model_gb"])


def _creates(step: Step) -> dict[str, str]:
    """Files as the step says that it creates them; a checkpoint has all its shards."""
    made = [path for path in _files() if any(matches(path, _at(step, glob)) for glob in step.creates)]
    rest = [_at(step, g).replace("*", "one") for g in step.creates if not any(matches(p, _at(step, g)) for p in made)]
    return {path: "a model" if path.endswith(".m") else path for path in (*made, *rest)}


def _at(step: Step, glob: str) -> str:
    return glob if step.cwd == "." else f"{step.cwd}/{glob}"


def _hub() -> dict[str, dict[str, list[tuple[str, int, str | None]]]]:
    def listing(folder: str) -> list[tuple[str, int, str | None]]:
        paths = [path for path in (*_files(), f"{ROOT}/{folder}/one.json") if path.startswith(f"{ROOT}/{folder}/")]
        return [(p.split("/", 2)[2], len(p), hashlib.sha256(p.encode()).hexdigest()) for p in paths]

    repos = {"zai-org/GLM-4.5-Air-Base": "GLM-4.5-Air-Base", "PrimeIntellect/INTELLECT-3": "INTELLECT-3"}
    return {repo: {"c" * 40: listing(folder)} for repo, folder in repos.items()}


def _scripts(plan: Plan) -> Mapping[str, Script]:
    """What each command does on these machines. Two steps of one command move the same."""
    found = {}
    for phase in plan.phases:
        for step in phase.steps:
            told = TABLE["steps"].get(f"{phase.name}/{step.name}", {})
            moves = (("", told["start"]), *(tuple(move) for move in told.get("moves", ()))) if told else ()
            command = {"overlay": LAID, "report": WRITTEN}.get(step.builtin or "", step.run)
            found[command] = Script(output="dialling\n" if step.ready else "", creates=_creates(step), moves=moves)
    return found


@dataclass(frozen=True)
class Lived:
    """A run that is over."""

    outcome: Outcome
    hours: float
    usd: Decimal
    spans: dict[str, tuple[float, float]]


def _live(plan: Plan, folder: Path, rates: Mapping[str, float]) -> Lived:
    world = World(scripts=_scripts(plan), stores=1, rates=rates, sizes=_files(), hub=_hub())
    bench = Bench(plan, ALL, world, folder)
    began = bench.clock.monotonic()
    end = bench.controller().run()
    ledger = bench.ledger()
    seconds = max(row.gone_at or 0 for row in ledger.machines.all()) - bench.spec.created_at
    usd = cost.accrued(accounting.machine_charges(ledger, bench.spec.run), bench.clock.now())
    spans = {row.id: (row.started_at or began, row.ended_at or began) for row in ledger.steps.all()}
    return Lived(end.outcome, seconds / 3600, usd, spans)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return _plan()


@pytest.fixture(scope="module")
def lived(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    return _live(plan, tmp_path_factory.mktemp("lived"), TABLE["rates"])


@pytest.fixture(scope="module")
def foreseen(plan: Plan) -> Preview:
    return preview(plan, resolve(plan, ["all"]), STAGED)


def test_the_engine_takes_what_was_foreseen(lived: Lived, foreseen: Preview):
    """Hours and dollars until the last machine is gone are those of the preview, within a tenth."""
    assert lived.outcome == Outcome.SUCCEEDED
    assert lived.hours == pytest.approx(float(foreseen.estimated_hours), rel=0.10)
    machines = sum((phase.estimated_usd or Decimal(0) for phase in foreseen.phases), Decimal(0))
    assert float(lived.usd) == pytest.approx(float(machines), rel=0.10)
    assert lived.hours <= 2.5
    assert lived.usd + Decimal(lived.hours) * volume_price_hour(1000) <= 5
