"""What was paid ahead: shown and asked for before a run; when it is used up nothing is tried again."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.cli import confirming, driving
from orchestrator.testing.audit import unsafe
from orchestrator.testing.machine import Script
from orchestrator.transport.code import Code
from orchestrator.words.errors import NoMachine
from orchestrator.words.lifecycle import Outcome
from orchestrator.words.spec import RunSpec
from tests.unit.cli.desk import Desk

ONE = "large: {machine: {gpu: [A100-80GB]}, volume: {name: data, size_gb: 10}, steps: [{name: l, run: l}]}"


def confirmed(desk: Desk) -> RunSpec:
    """What `gpuplan run all --yes` begins with."""
    options = driving.DriveOptions(yes=True, json=False, detach=False)
    code = Code(desk.folder / "no-code")
    return confirming.agreed_on(desk._world(), desk._draft(("all",), {}), code, options, only=False, check=False)


def test_credit_stands_beside_the_estimate(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The preview shows what the account has."""
    confirmed(Desk(tmp_path, ONE))
    assert "credit at runpod: $1000.00" in capsys.readouterr().out


def test_less_credit_than_the_estimate_and_a_quarter_is_refused(tmp_path: Path):
    """$1.79 an hour for an hour and a bit, and $2.00 there: refused before anything is made."""
    desk = Desk(tmp_path, ONE, faults=("credit-low@200",))
    with pytest.raises(NoMachine, match=r"runpod: the account's credit is \$2\.00; with a quarter to spare \$2\.\d\d"):
        confirmed(desk)
    assert desk.bench.clouds.volumes_left() == []


def test_credit_that_ends_ends_the_phase(tmp_path: Path):
    """Every machine is stopped at $0: it is not replaced, and the reason is in the words for people."""
    desk = Desk(tmp_path, ONE, faults=("credit-low@200",), scripts={"l": Script(seconds=9000)})
    end = desk.run("all")
    (phase,) = desk.bench.ledger().phases.all()
    assert (end.outcome, len(desk.bench.creates())) == (Outcome.NO_MACHINE, 1)
    assert "credit is used up" in phase.error
    assert "stop-machine" in {entry["action"] for entry in desk.bench.clouds.log()}
    assert sum(map(Decimal, desk.bench.clouds.invoice()["machines"].values())) < Decimal("2.05")
    assert unsafe(desk.bench) == []


def test_an_api_that_does_not_say_is_no_reason(tmp_path: Path):
    """Where the older API is gone nobody knows the credit: the run begins."""
    desk = Desk(tmp_path, ONE, faults=("graphql-gone",))
    assert desk.propose("all").preview.credit_usd is None
    assert confirmed(desk).place
