"""The books of a run: a volume is claimed by one run at a time, and closing them ends everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.engine.books import close_books, open_books, strike
from orchestrator.ledger import Ledger, open_ledger
from orchestrator.ledger.rows import RunRow
from orchestrator.words.errors import UsageError
from orchestrator.words.lifecycle import Outcome, PhaseState, RunState, StepState
from orchestrator.words.model import Phase, Plan, Settings, Step, VolumeNeed
from orchestrator.words.spec import RunSpec, WorldSpec
from tests.server import DATABASES

PLAN = Plan(
    name="plan",
    phases=(Phase(name="only", steps=(Step(name="s", run="true"),), volume=VolumeNeed(name="data", size_gb=10)),),
    settings=Settings(),
)


def spec(run: str, cloud: str = "", phases: tuple[str, ...] = ("only",)) -> RunSpec:
    return RunSpec(
        run=run, owner="abcdefgh", plan=PLAN, asked=phases, whole_plan=True, place=None, pull_root="/", created_at=1.0,
        world=WorldSpec(provider="p", cloud=cloud),
    )  # fmt: skip


def begin(ledger: Ledger, made: RunSpec) -> None:
    open_books(ledger, made, RunRow(id=made.run, state=RunState.PLANNED, created_at=1.0))


@pytest.fixture(params=DATABASES)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Ledger]:
    """Opens the ledger, each time with connections of its own."""
    url = request.getfixturevalue("shared_database") if request.param else None
    return lambda: open_ledger(tmp_path, url, now=lambda: 1000.0)


@pytest.fixture
def ledger(opened: Callable[[], Ledger]) -> Iterator[Ledger]:
    with closing(opened()) as made:
        yield made


def test_a_second_run_on_the_same_volume_is_refused_and_leaves_no_trace(ledger: Ledger):
    """Exit code 2's error names the first; nothing of the second is in the ledger."""
    begin(ledger, spec("1101-aaaa"))
    with pytest.raises(UsageError, match="1101-aaaa has not ended, and works on the same volume"):
        begin(ledger, spec("1101-bbbb"))
    assert [row.id for row in ledger.runs.all()] == ["1101-aaaa"]
    assert {row.run for row in ledger.phases.all()} == {"1101-aaaa"}


def test_of_runs_that_begin_at_once_one_begins(opened: Callable[[], Ledger]):
    """Eight at the same moment, each with connections of its own: one has the volume, seven are refused."""

    def tries(number: int) -> bool:
        with closing(opened()) as mine:
            try:
                begin(mine, spec(f"1101-aaa{number}"))
            except UsageError:
                return False
            return True

    opened().close()
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(tries, range(8))) == [False] * 7 + [True]


def test_the_run_itself_and_other_worlds_are_not_refused(ledger: Ledger):
    """Begun again after a crash, or in another cloud: the label is free there."""
    for one in (spec("1101-aaaa"), spec("1101-aaaa"), spec("1101-bbbb", cloud="/rehearsed")):
        begin(ledger, one)
    assert len(ledger.claims.all()) == 2


@pytest.mark.parametrize("end", [close_books, strike])
def test_a_run_that_has_ended_holds_no_volume(ledger: Ledger, end: Callable[[Ledger, str], None]):
    """Closed, or taken out before it began: the next one may have it."""
    begin(ledger, spec("1101-aaaa"))
    end(ledger, "1101-aaaa")
    begin(ledger, spec("1101-bbbb"))
    assert [claim.run for claim in ledger.claims.all()] == ["1101-bbbb"]


def test_closing_ends_what_is_under_way_and_keeps_what_is_known(ledger: Ledger):
    """A step that ran was interrupted, one that did not begin is skipped; an outcome that is there stays."""
    begin(ledger, spec("1101-aaaa"))
    ledger.runs.move({"id": "1101-aaaa"}, RunState.RUNNING)
    ledger.phases.move({"name": "only"}, PhaseState.TEARING_DOWN, outcome=Outcome.FAILED, ended_at=7.0)
    ledger.steps.move({"id": "only/s"}, StepState.RUNNING)
    for _ in range(2):  # closing twice changes nothing
        close_books(ledger, "1101-aaaa")
        assert ledger.steps.get(id="only/s").state == StepState.INTERRUPTED
        phase, run = ledger.phases.get(name="only"), ledger.runs.get(id="1101-aaaa")
        assert (phase.state, phase.outcome, phase.ended_at) == (PhaseState.DONE, Outcome.FAILED, 7.0)
        assert (run.state, run.outcome, run.ended_at) == (RunState.DONE, Outcome.INTERRUPTED, 1000.0)
