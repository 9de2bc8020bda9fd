"""What a phase's machines are chosen by, beside their price."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.engine.provisioning import Provisioning
from orchestrator.ledger.rows import PhaseRow
from orchestrator.words.errors import NoMachine
from orchestrator.words.lifecycle import PhaseState
from orchestrator.words.model import Step
from tests.unit.engine.stepbench import MACHINE, PHASE, RUN, Bench, There


def test_a_run_may_go_elsewhere_until_one_of_its_steps_has_begun(tmp_path: Path):
    """From then on something may be on the volume that would have to stay where it is."""
    bench = Bench(tmp_path, Step(name="first", run="true"), Step(name="second", run="true"))
    made = Provisioning(bench.context, There(bench.context), cast("Any", None))
    assert made._is_untouched()
    bench.ledger.steps.change({"run": RUN, "phase": PHASE, "id": f"{PHASE}/second"}, started_at=1.0)
    assert not made._is_untouched()


def replaced(bench: Bench, lost: str, credit: str | None) -> list[str]:
    """What is ended where the phase's machine is `lost`, and the account has that credit."""
    ended: list[str] = []
    machines = SimpleNamespace(lost=lambda _name: lost, destroy=lambda name, _why: ended.append(name))
    bench.context.provider.credit = lambda: Decimal(credit) if credit else None  # type: ignore[method-assign]
    bench.ledger.phases.put(PhaseRow(run=RUN, name=PHASE, state=PhaseState.RUNNING))
    Provisioning(bench.context, cast("Any", machines), cast("Any", None)).replace(PHASE, "it is silent")
    return ended


@pytest.mark.parametrize("credit", [None, "0.01", "1", "100"])
def test_a_machine_that_is_lost_is_ended_and_another_one_taken(tmp_path: Path, credit: str | None):
    """As long as there is any credit, or nobody knows of it."""
    bench = Bench(tmp_path)
    assert replaced(bench, "no such machine", credit) == [MACHINE]
    assert bench.said() == [f"{PHASE}: it is silent: another machine takes over"]
    assert bench.ledger.phases.get(run=RUN, name=PHASE).state == PhaseState.PROVISIONING


@pytest.mark.parametrize("credit", ["0", "-0.5"])
def test_without_credit_no_other_one_is_asked_for(tmp_path: Path, credit: str):
    """It was stopped for that, and so would be the next; what was lost is ended all the same."""
    with pytest.raises(NoMachine, match=r"the account's credit is used up \(\$-?\d\.\d\d\)"):
        replaced(Bench(tmp_path), "no such machine", credit)


def test_a_machine_that_is_there_is_prepared_anew(tmp_path: Path):
    """Nothing is ended, and nobody asks for the credit."""
    bench = Bench(tmp_path)
    assert replaced(bench, "", "0") == []
    assert bench.said() == [f"{PHASE}: it is silent: it is prepared anew"]
