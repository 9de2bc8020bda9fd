"""A volume that is kept costs on when its run has ended: each hour of it is in one run's cost, or between runs."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.engine import accounting
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import RunRow, VolumeRow, VolumeUseRow
from orchestrator.report import listing
from orchestrator.words.lifecycle import RunState, VolumeState
from tests.unit.engine.stepping import START, SteppingClock, context

HOUR, BEGIN = 3600.0, START.timestamp()


def ledger_of(tmp_path: Path, *, gone: float | None, rehearsed: bool = False) -> Ledger:
    """A volume at $1 an hour, made by a run of two hours, used by one of the fifth; it is now the tenth hour."""
    ledger = context(tmp_path, SteppingClock(passed=10 * HOUR)).ledger
    for run, first, last in (("1101-aaaa", 0, 2), ("1101-bbbb", 4, 5)):
        began, ended = BEGIN + first * HOUR, BEGIN + last * HOUR
        ledger.runs.put(RunRow(id=run, state=RunState.DONE, dry_run=rehearsed, created_at=began, ended_at=ended))
    state = VolumeState.DESTROYED if gone else VolumeState.CREATED
    ledger.volumes.put(
        VolumeRow(
            name="v", run="1101-aaaa", label="data", provider="p", state=state, price_hour=Decimal(1), sent_at=BEGIN,
            gone_at=BEGIN + gone * HOUR if gone else None,
        )
    )  # fmt: skip
    ledger.volume_uses.put(VolumeUseRow(volume="v", run="1101-bbbb"))
    return ledger


@pytest.mark.parametrize(("gone", "between"), [(None, 7), (8, 5), (5, 2), (4.5, 2)])
def test_each_hour_of_a_volume_is_paid_once(tmp_path: Path, gone: float | None, between: int):
    """By the run that has it then, however long it is kept after that; by none where nobody has it."""
    ledger = ledger_of(tmp_path, gone=gone)
    mine = [accounting.accrued(ledger, run) for run in ("1101-aaaa", "1101-bbbb")]
    assert mine == [2, min(gone or 5, 5) - 4]
    assert listing.between_runs(ledger) == between


def test_what_a_rehearsal_keeps_costs_nothing(tmp_path: Path):
    """Its volumes are files of this computer."""
    assert listing.between_runs(ledger_of(tmp_path, gone=None, rehearsed=True)) == 0
