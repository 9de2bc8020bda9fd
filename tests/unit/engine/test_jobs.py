"""A job on one machine, followed: what is heard of it meanwhile."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from orchestrator.engine import jobs
from orchestrator.engine.step_log import StepLog
from orchestrator.transport.job_replies import Sample
from orchestrator.words.lifecycle import StepState
from orchestrator.words.model import Step
from tests.unit.engine.stepbench import MACHINE, PHASE, RUN, Bench, There, always
from tests.unit.engine.stepping import START


def test_each_sample_of_a_job_is_told(tmp_path: Path):
    """In the row of the running step, and to whoever asked for samples."""
    bench = Bench(tmp_path, Step(name="one", run="true"))
    key = {"run": RUN, "phase": PHASE, "id": f"{PHASE}/one"}
    bench.ledger.steps.change(key, state=StepState.RUNNING)
    sample, heard = Sample(START, (), 7), list[Sample]()

    def run(_job: Any, _offset: int, _on_log: Any, on_sample: Any, on_start: Any, *_: Any) -> None:
        on_start()
        on_sample(sample)

    bench.context.agents = always(SimpleNamespace(run=run))
    told: list[str] = []
    start = jobs.Start("j", lambda _agent: None, lambda: told.append("started"), heard.append)  # type: ignore[arg-type, return-value]
    log = StepLog(bench.context, PHASE, f"{PHASE}/one")
    end = jobs.follow(bench.context, There(bench.context), MACHINE, start, log, timeout_s=60, until=lambda: True)
    assert (end, told, heard) == (None, ["started"], [sample])
    assert bench.row("one").detail == str(sample)
