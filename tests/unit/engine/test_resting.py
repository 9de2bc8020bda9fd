"""What failed a while ago is left out: for how long, and whose failures count."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.engine.resting import FAILED_S, REFUSED_S, resting
from orchestrator.ledger.rows import RunRow
from orchestrator.words.lifecycle import MachineState, RunState
from tests.unit.engine.stepping import START, SteppingClock, context, machine

KEY = ("p", "t", "A", False)


def rests(
    tmp_path: Path,
    ago_s: float,
    *,
    run: str = "1101-aaaa",
    failed: str = "refused: sold out",
    provider_id: str = "",
    theirs_is_play: bool = False,
    play: bool = False,
    chain: bool = False,
) -> dict[tuple[str, str, str, bool], str]:
    """What rests for run 1101-aaaa when a machine of `run` failed so long ago."""
    clock = SteppingClock(passed=ago_s)
    tmp_path.mkdir(exist_ok=True)
    ledger = context(tmp_path, clock).ledger
    ledger.runs.put(RunRow(id=run, state=RunState.DONE, created_at=1.0, dry_run=theirs_is_play))
    at = START.timestamp()
    row = machine("m", run=run, failed=failed, provider_id=provider_id, gone_at=at, state=MachineState.DESTROYED)
    ledger.machines.put(row)
    spec = SimpleNamespace(run="1101-aaaa", world=SimpleNamespace(is_play=play))
    return resting(ledger, spec, clock, chain=chain)  # type: ignore[arg-type]  # as much of a spec as it asks for


@pytest.mark.parametrize(("provider_id", "rest_s"), [("", REFUSED_S), ("id", FAILED_S)])
def test_it_rests_for_a_while(tmp_path: Path, provider_id: str, rest_s: float):
    """Ten minutes after a refusal, which cost nothing; an hour after one that was paid for. Then it is tried again."""
    assert rests(tmp_path / "in", rest_s - 1, provider_id=provider_id) == {
        KEY: f"{(rest_s - 1) / 60:.0f} min ago: refused: sold out"
    }
    assert rests(tmp_path / "over", rest_s, provider_id=provider_id) == {}


def test_what_served_does_not_rest(tmp_path: Path):
    """It was ended because its work was done."""
    assert rests(tmp_path, 1, failed="") == {}


@pytest.mark.parametrize(
    ("run", "theirs_is_play", "play", "counts"),
    [
        ("1101-bbbb", False, False, True),  # another real run of ours met it
        ("1101-bbbb", True, False, False),  # a rehearsal's cloud is not the real one
        ("1101-bbbb", False, True, False),
        ("1101-bbbb", True, True, False),
        ("1101-aaaa", True, True, True),  # its own
        ("1101-aaaa.2", True, True, True),  # its chain's
    ],
)
def test_a_rehearsal_knows_of_its_own_runs_only(
    tmp_path: Path, run: str, *, theirs_is_play: bool, play: bool, counts: bool
):
    """And nobody else's run knows of it."""
    assert bool(rests(tmp_path, 1, run=run, theirs_is_play=theirs_is_play, play=play)) is counts


def test_what_a_chain_met_rests_for_all_of_it(tmp_path: Path):
    """A following run goes elsewhere however long ago it was; another run's failures have their time."""
    assert rests(tmp_path / "own", 1e6, run="1101-aaaa.2", chain=True)
    assert not rests(tmp_path / "other", 1e6, run="1101-bbbb", chain=True)
