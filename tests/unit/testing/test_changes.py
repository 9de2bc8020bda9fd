"""The bench's ledger: who is told of its transactions, and what is left of one that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import HostKeyRow
from orchestrator.testing.changes import WatchedLedger


@pytest.fixture
def told() -> list[str]:
    """What was told."""
    return []


@pytest.fixture
def ledger(tmp_path: Path, told: list[str]) -> WatchedLedger:
    """A new one."""
    return WatchedLedger(f"sqlite:///{tmp_path / 'gpuplan.db'}", lambda: 0.0, told.append)


def test_what_was_written_is_seen_by_whoever_opens_the_file_when_it_is_told(ledger: WatchedLedger, told: list[str]):
    """One change of one table is told once, and is there for another process."""
    ledger.host_keys.put(HostKeyRow(address="m", key="key"))
    assert told == ["ledger: host_keys"]
    assert Ledger(ledger.url).host_keys.get(address="m").key == "key"


def test_a_transaction_that_fails_leaves_nothing_and_is_not_told(ledger: WatchedLedger, told: list[str]):
    """Though what undoes it is kept in memory alone."""

    def half() -> None:
        with ledger.transaction() as connection:
            ledger.host_keys.put_in(connection, HostKeyRow(address="m", key="key"))
            raise KeyError

    with pytest.raises(KeyError):
        half()
    assert told == []
    assert Ledger(ledger.url).host_keys.all() == []
