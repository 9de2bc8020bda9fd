"""States: every pair of every kind, by the table and in the ledger."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ledger import Ledger
from orchestrator.ledger.book import StateBook
from orchestrator.ledger.rows import MachineRow, PhaseRow, RunRow, StepRow, VolumeRow
from orchestrator.words.lifecycle import (
    AnyState,
    IllegalMove,
    MachineState,
    PhaseState,
    RunState,
    StepState,
    VolumeState,
    may_move,
)

# What may follow what, written a second time and by hand: the table must say just this.
ALLOWED: dict[type[AnyState], str] = {
    RunState: """
        PLANNED RUNNING TEARING_DOWN
        RUNNING TEARING_DOWN
        TEARING_DOWN DONE
        DONE
        """,
    PhaseState: """
        PLANNED PROVISIONING TEARING_DOWN
        PROVISIONING RUNNING TEARING_DOWN
        RUNNING PROVISIONING COLLECTING TEARING_DOWN
        COLLECTING PROVISIONING TEARING_DOWN
        TEARING_DOWN DONE
        DONE
        """,
    MachineState: """
        REQUESTED CREATED DESTROYING DESTROYED LOST
        CREATED REACHABLE DESTROYING LOST
        REACHABLE DESTROYING LOST
        DESTROYING DESTROYED LOST
        DESTROYED
        LOST
        """,
    VolumeState: """
        REQUESTED CREATED DESTROYING DESTROYED LOST
        CREATED DESTROYING LOST
        DESTROYING DESTROYED LOST
        DESTROYED
        LOST
        """,
    StepState: """
        PENDING RUNNING UP_TO_DATE FAILED INTERRUPTED LOST SKIPPED
        RUNNING READY PENDING DONE FAILED INTERRUPTED LOST SKIPPED
        READY PENDING DONE FAILED INTERRUPTED LOST SKIPPED
        DONE PENDING
        UP_TO_DATE PENDING
        SKIPPED PENDING
        LOST PENDING SKIPPED
        FAILED
        INTERRUPTED
        """,
}
TABLE = {
    kind: {line.split()[0]: line.split() for line in text.split("\n") if line.split()} for kind, text in ALLOWED.items()
}


def pairs_of(kind: type[AnyState]) -> list[tuple[Any, Any]]:
    """Each of its states with each, itself too: both of that kind, for which mypy has no name."""
    return list(itertools.product(kind, kind))


PAIRS = [pair for kind in ALLOWED for pair in pairs_of(kind)]


@pytest.mark.parametrize("kind", ALLOWED)
def test_every_state_of_every_kind_has_its_row(kind: type[AnyState]):
    """A table per kind: none is left out, none is overwritten by another kind's of the same name."""
    assert set(TABLE[kind]) == {str(state) for state in kind}


def test_what_may_follow_what_is_as_written():
    """All pairs of all kinds; staying is allowed, for an effect that runs again after a crash."""
    wrong = [(old, new) for old, new in PAIRS if may_move(old, new) != (str(new) in TABLE[type(old)][str(old)])]
    assert len(PAIRS) == 4**2 + 6**2 + 6**2 + 5**2 + 9**2
    assert wrong == []


@pytest.mark.parametrize("kind", ALLOWED)
def test_the_ledger_moves_by_the_table_and_raises_otherwise(tmp_path: Path, kind: type[AnyState]):
    """Each pair in a real ledger: the row has moved, or IllegalMove was raised and it is as it was."""
    ledger = Ledger(f"sqlite:///{tmp_path}/gpuplan.db", lambda: 0.0)
    each: dict[type[AnyState], tuple[StateBook[Any], Callable[[Any], Any], dict[str, str]]] = {
        RunState: (ledger.runs, lambda s: RunRow(id="r", state=s, created_at=0.0), {"id": "r"}),
        PhaseState: (ledger.phases, lambda s: PhaseRow(run="r", name="p", state=s), {"run": "r", "name": "p"}),
        StepState: (ledger.steps, lambda s: StepRow(run="r", phase="p", id="p/s", state=s), {"id": "p/s"}),
        VolumeState: (
            ledger.volumes, lambda s: VolumeRow(name="v", run="r", label="l", provider="p", state=s), {"name": "v"},
        ),
        MachineState: (
            ledger.machines,
            lambda s: MachineRow(
                name="m", run="r", phase="p", request="", node=0, provider="p", type_id="", gpu="", gpus=0, place="",
                price_hour=Decimal(0), state=s,
            ),
            {"name": "m"},
        ),
    }  # fmt: skip
    book, row, key = each[kind]
    for old, new in pairs_of(kind):
        book.put(row(old))
        if str(new) in TABLE[kind][str(old)]:
            book.move(key, new)
            assert book.get(**key).state == new
        else:
            with pytest.raises(IllegalMove, match=f"is {old}, not {new}"):
                book.move(key, new)
            assert not book.try_move(key, new)
            assert book.get(**key).state == old


def test_a_row_that_is_not_there_cannot_move(tmp_path: Path):
    """IllegalMove, or False from try_move."""
    ledger = Ledger(f"sqlite:///{tmp_path}/gpuplan.db", lambda: 0.0)
    with pytest.raises(IllegalMove):
        ledger.runs.move({"id": "none"}, RunState.RUNNING)
    assert not ledger.runs.try_move({"id": "none"}, RunState.RUNNING)


def test_which_states_end_what():
    """Final: proven gone. Under way: time-out and budget are watched. Done, serving and ended steps."""
    assert [s for s in MachineState if s.is_final] == [MachineState.DESTROYED, MachineState.LOST]
    assert [s for s in VolumeState if s.is_final] == [VolumeState.DESTROYED, VolumeState.LOST]
    assert {s for s in PhaseState if s.is_under_way} == {
        PhaseState.PROVISIONING, PhaseState.RUNNING, PhaseState.COLLECTING,
    }  # fmt: skip
    assert {s for s in StepState if s.is_done} == {StepState.DONE, StepState.UP_TO_DATE}
    assert {s for s in StepState if s.serves} == {StepState.DONE, StepState.UP_TO_DATE, StepState.READY}
    assert {s for s in StepState if not s.has_ended} == {StepState.PENDING, StepState.RUNNING}
