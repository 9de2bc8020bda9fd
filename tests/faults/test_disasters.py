"""Seeds of the simulation; `make disasters SEEDS=200` lives through more of them (tools/disasters.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults.forking import in_processes
from tests.faults.sabotage import SABOTAGES, SEEDS, Sabotage, broken, said
from tests.faults.simulation import Simulation

FEW = range(4)
REPLAYED = 20  # two homes, deaths, and a RUN.2


def lived(seed: int, folder: Path) -> Any:
    """What is wrong, what happened, and what the clouds were asked when."""
    simulation = Simulation(seed, folder)
    wrong = simulation.run()
    calls = [f"{call.at} {call.method} {call.path} {call.status}" for call in simulation.bench.clouds.calls]
    return [wrong, simulation.told, calls]


def test_some_seeds_end_well():
    """Whatever happens in them: nothing is left, made twice, done twice, or paid for beyond the budget."""
    found = list(in_processes(lived, FEW, jobs=1, batch=len(FEW)))
    assert [broken for *_, broken in found if broken] == []
    assert [result[0] for _, result, _ in found] == [[]] * len(FEW)


def test_a_seed_is_the_same_each_time():
    """Two processes that live through it do the same things at the same moments."""
    (_, one, _), (_, other, _) = in_processes(lived, [REPLAYED, REPLAYED], jobs=2, batch=1)
    assert len(one[2]) > 10
    assert one == other


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.rule)
def test_a_broken_rule_is_seen(sabotage: Sabotage, tmp_path: Path):
    """With that one line of the engine changed, a seed is red, and says how to see it again."""
    broken(sabotage, tmp_path)
    found = said(tmp_path, sabotage.seed, 1)
    if sabotage.seen not in found:  # what happens in a seed is another thing since
        found = said(tmp_path, 0, SEEDS)
    assert "exit code 1" in found
    assert sabotage.seen in found
    assert "again: make disasters SEED=" in found
