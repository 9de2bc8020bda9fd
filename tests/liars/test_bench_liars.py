"""Liars on machines with GPUs: the engine's bench, with the figures and samples that they would bring."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import load_plan
from orchestrator.report import verdicts
from orchestrator.testing.bench import Bench, World
from orchestrator.testing.machine import Script
from orchestrator.words import files
from orchestrator.words.model import Plan
from tests.liars import honest
from tests.liars.judged import BENCH, Liar, uncaught

Answers = dict[tuple[str, str], Any]


@cache
def _plan(only: str = "") -> Plan:
    """The shipped plan, or one phase of it as if the others had been: what it needs of them is left out."""
    plan = load_plan(files.shipped(), environ={})
    if not only:
        return plan
    phase = plan.phase(only)
    steps = tuple(s.model_copy(update={"needs": tuple(n for n in s.needs if "/" not in n)}) for s in phase.steps)
    machine = phase.machine.model_copy(update={"reuse": None})
    return plan.model_copy(update={"phases": (phase.model_copy(update={"steps": steps, "machine": machine}),)})


def _answers(plan: Plan, steps: dict[str, Script], folder: Path) -> Answers:
    """(phase, deliverable) -> the answer that these scripts get."""
    world = World(scripts=honest.scripts(plan, steps), stores=1, hub=honest.hub(_plan()))
    bench = Bench(plan, tuple(phase.name for phase in plan.phases), world, folder)
    bench.controller().run()
    return {(v.phase, v.name): v.ok for v in verdicts.of_run(bench.ledger(), bench.spec) if v.answered}


@pytest.fixture(scope="module")
def of_the_honest(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The answers that the honest payload gets in one phase."""
    return cache(lambda phase: _answers(_plan(phase), honest.STEPS, tmp_path_factory.mktemp("honest")))


def test_an_honest_payload_gets_every_deliverable_on_machines_with_gpus(tmp_path: Path):
    """Where GPUs are to be had nothing of the shipped plan is left open: all of it can be shown, and holds."""
    plan = _plan()
    every = {(phase.name, d.name): True for phase in plan.phases for d in phase.deliverables}
    assert _answers(plan, honest.STEPS, tmp_path) == every


@pytest.mark.parametrize("liar", BENCH, ids=lambda liar: liar.name)
def test_a_liar_is_caught_on_the_bench(of_the_honest: Any, tmp_path: Path, liar: Liar):
    """What the honest payload gets in the same kind of run, the liar does not."""
    (phase,) = liar.run
    assert uncaught(liar, of_the_honest(phase), _answers(_plan(phase), liar.scripts(honest.STEPS), tmp_path)) == []
