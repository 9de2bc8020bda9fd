"""Whether a run ended for want of machines alone, as its ledger has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.wanting import wants_machines
from orchestrator.ledger.rows import PhaseRow, VolumeRow
from orchestrator.words.lifecycle import MachineState, Outcome, PhaseState, VolumeState
from orchestrator.words.model import Phase, Plan, VolumeNeed
from orchestrator.words.spec import RunSpec, WorldSpec
from tests.unit.engine.stepping import SteppingClock, context, machine

DATA = VolumeNeed(name="data", size_gb=10)
PLAN = Plan(
    name="p",
    phases=(
        Phase(name="made", steps=(), volume=DATA),
        Phase(name="only", steps=()),
    ),
)
REFUSED = {"state": MachineState.DESTROYED, "failed": "refused: sold out"}
NOWHERE = {"state": MachineState.DESTROYED, "failed": "came up nowhere", "provider_id": "1"}
GONE, THERE = VolumeState.DESTROYED, VolumeState.CREATED


def wants(
    tmp_path: Path,
    outcome: Outcome,
    *,
    asked: tuple[dict[str, Any], ...] = (),
    done: bool = False,
    volume: VolumeState | None = None,
    made: bool = True,
) -> bool:
    """Of a run whose second phase ended so. `volume`: the state of the first one's; `made`: its create was accepted."""
    tmp_path.mkdir(exist_ok=True)
    ledger = context(tmp_path, SteppingClock()).ledger
    spec = RunSpec(
        run="1101-aaaa", owner="abcdefgh", plan=PLAN, asked=("only",), whole_plan=True, place=None, pull_root="/",
        created_at=1.0, world=WorldSpec(provider="p"),
    )  # fmt: skip
    first = Outcome.SUCCEEDED if done else None
    ledger.phases.put(PhaseRow(run=spec.run, name="made", state=PhaseState.DONE, outcome=first, position=0))
    ledger.phases.put(PhaseRow(run=spec.run, name="only", state=PhaseState.DONE, outcome=outcome, position=1))
    for number, values in enumerate(asked):
        ledger.machines.put(machine(f"m{number}", requested_at=float(number), **values))
    if volume:
        ledger.volumes.put(
            VolumeRow(
                name="v", run=spec.run, label=spec.label(DATA), provider="p", state=volume,
                accepted_at=1.0 if made else None,
            )
        )  # fmt: skip
    return wants_machines(ledger, spec)


@pytest.mark.parametrize(
    ("asked", "expected"), [((), True), ((REFUSED,), True), ((NOWHERE,), True), ((NOWHERE, NOWHERE), False),
                            ((NOWHERE, REFUSED), True)],
)  # fmt: skip
def test_it_wants_machines_where_the_last_one_was_refused(
    tmp_path: Path, asked: tuple[dict[str, Any], ...], *, expected: bool
):
    """Or nobody sold any, or one came, was paid and did not come up; not where a second one did not."""
    assert wants(tmp_path, Outcome.NO_MACHINE, asked=asked) is expected


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.OVER_BUDGET, Outcome.INTERRUPTED, Outcome.SUCCEEDED])
def test_whatever_else_ended_it_is_no_want(tmp_path: Path, outcome: Outcome):
    """Machines elsewhere would not help it."""
    assert not wants(tmp_path, outcome, asked=(REFUSED,))


@pytest.mark.parametrize(("volume", "expected"), [(THERE, True), (GONE, False), (None, False)])
def test_what_is_done_must_lie_on_a_volume(tmp_path: Path, volume: VolumeState | None, *, expected: bool):
    """A phase has succeeded: begun again elsewhere without its volume, it would be done twice."""
    assert wants(tmp_path, Outcome.NO_MACHINE, asked=(REFUSED,), done=True, volume=volume) is expected


def test_a_volume_that_was_refused_is_no_want_of_machines(tmp_path: Path):
    """No machine was asked for, as there was nothing to put it at."""
    assert not wants(tmp_path, Outcome.NO_MACHINE, volume=GONE, made=False)
    assert wants(tmp_path / "other", Outcome.NO_MACHINE, volume=GONE)
