"""How far files are on their way, as whoever looks on reads it in the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.engine.context import Context
from orchestrator.engine.transfers import PULL, UPLOAD, WRITE_S, Transfer
from orchestrator.ledger.rows import TransferRow
from orchestrator.report.snapshot import TransferLine
from orchestrator.report.views import _transfer
from orchestrator.words.model import Step
from tests.unit.engine.stepbench import Bench

SIZES = {"a.bin": 100, "b.bin": 300}


def context_of(folder: Path) -> Context:
    return Bench(folder, Step(name="one", run="true")).context


def row(context: Context) -> TransferRow:
    return context.ledger.transfers.get(run=context.run)


def line(context: Context) -> TransferLine:
    return _transfer(row(context))


def test_each_part_and_file_that_arrives_is_in_the_ledger(tmp_path: Path):
    """Bytes after each second, files as they are whole, the end with the last; what was there before has not moved."""
    context = context_of(tmp_path)
    transfer = Transfer(context, "one", UPLOAD, "s3://b")
    transfer.expect(SIZES, ["a.bin", "of-another-phase.bin"])
    assert (row(context).files_done, row(context).bytes_done, row(context).moved) == (1, 100, 0)
    transfer._written -= WRITE_S
    transfer.arrived("b.bin", 200, moved=200)
    assert (row(context).bytes_done, row(context).moved) == (300, 200)
    transfer.arrived("b.bin", 250, moved=50)
    assert row(context).bytes_done == 300, "within a second the ledger is not written again"
    transfer.whole("b.bin")
    assert (row(context).files_done, row(context).bytes_done, row(context).moved) == (2, 400, 250)
    assert row(context).ended_at is not None


def test_a_part_that_is_sent_again_counts_once(tmp_path: Path):
    """What has arrived of a file is a state, not a sum: one that begins anew goes back, and never beyond its size."""
    context = context_of(tmp_path)
    transfer = Transfer(context, "one", PULL, "/home/x")
    transfer.expect(SIZES)
    for count in (200, 50, 900):
        transfer._written -= WRITE_S
        transfer.arrived("b.bin", count, moved=10)
        assert row(context).bytes_done == min(count, 300)
    assert row(context).ended_at is None


def test_time_left_is_that_of_what_has_moved(tmp_path: Path):
    """The rate counts what came in this process; before anything moved nothing is said."""
    context = context_of(tmp_path)
    Transfer(context, "one", UPLOAD, "s3://b").expect(SIZES, ["a.bin"])
    assert (line(context).rate, line(context).left_s) == (None, None)
    key = {"run": context.run, "phase": "one", "kind": UPLOAD, "place": "s3://b"}
    context.ledger.transfers.change(key, bytes_done=200, moved=100, since=10.0, at=20.0)
    assert (line(context).rate, line(context).left_s) == (10.0, 20.0)


def test_what_is_sent_early_is_not_all_of_it(tmp_path: Path):
    """Files that steps send while others run are there before the whole list: it ends when that is known, and there."""
    context = context_of(tmp_path)
    transfer = Transfer(context, "one", UPLOAD, "s3://b")
    transfer.expect({"a.bin": 100}, is_all=False)
    transfer.whole("a.bin")
    assert (row(context).files_done, row(context).ended_at) == (1, None), "nothing more may come for hours"
    transfer.expect(SIZES)
    assert (row(context).files, row(context).files_done, row(context).ended_at) == (2, 1, None)
    transfer.whole("b.bin")
    assert row(context).ended_at is not None


def test_pauses_between_what_steps_send_are_no_time_of_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ten seconds for the first file, an hour with nothing to send, thirty for the next one: 10 bytes a second."""
    context, now = context_of(tmp_path), [1000.0]
    monkeypatch.setattr(context.ledger, "now", lambda: now[0])
    transfer = Transfer(context, "one", UPLOAD, "s3://b")
    transfer.expect({"a.bin": 100}, is_all=False)
    now[0] += 10
    transfer.arrived("a.bin", 100, moved=100)
    transfer.whole("a.bin")
    now[0] += 3600
    transfer.expect(SIZES)
    now[0] += 30
    transfer.arrived("b.bin", 300, moved=300)
    transfer.whole("b.bin")
    assert (row(context).at - row(context).since, line(context).rate) == (40, 10.0)


def test_many_small_files_are_told_of_while_they_become_whole(tmp_path: Path):
    """Once a second, though none of them comes in parts."""
    context = context_of(tmp_path)
    transfer = Transfer(context, "one", UPLOAD, "s3://b")
    transfer.expect({f"{n}.txt": 1 for n in range(9)})
    transfer.whole("0.txt")
    assert row(context).files_done == 0, "within a second the ledger is not written again"
    transfer._written -= WRITE_S
    transfer.whole("1.txt")
    assert (row(context).files_done, row(context).ended_at) == (2, None)
