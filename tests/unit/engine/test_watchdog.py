"""When stopping lasts too long, machines are ended by their names, whatever they and the story do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from orchestrator.engine.watchdog import AGAIN_S, STOPPING_S, Watchdog
from orchestrator.testing.clock import ManualClock
from orchestrator.words.lifecycle import MachineState
from tests.unit.engine.stepping import Cloud, context, machine

OURS, LATE = (f"gpuplan-abcdefgh-1101-aaaa-only-{n}-t1764000000" for n in (1, 2))
OTHERS = {"id-8": "gpuplan-abcdefgh-1101-bbbb-only-1-t1764000000", "id-9": "somebody-elses"}


def test_a_stop_that_lasts_ends_the_runs_machines_by_name(tmp_path: Path):
    """Not while the run goes on, nor before the limit; then each of its own, again until it is gone, and no other's."""
    clock: Any = ManualClock()
    made = context(tmp_path, clock, Cloud({"id-1": OURS} | OTHERS))
    made.ledger.machines.put(machine(OURS, provider_id="id-1", state=MachineState.REACHABLE))
    cloud, dropped = made.provider, list[str]()
    cloud.rented, made.agents = True, SimpleNamespace(drop=dropped.append)
    watchdog = Watchdog(made)
    clock.sleep(10 * STOPPING_S)
    made.control.stop("interrupted", "Ctrl-C")
    clock.sleep(STOPPING_S - 1)
    assert cloud.asked == []
    cloud.refusals = 2  # the list, then the delete
    clock.sleep(2)
    assert (cloud.asked, cloud.there, dropped) == (["list", "destroy"], {"id-1": OURS} | OTHERS, [OURS])
    cloud.there["id-2"] = LATE
    clock.sleep(AGAIN_S + 1)
    assert cloud.there == OTHERS
    watchdog.end()
    cloud.there["id-2"] = LATE
    clock.sleep(10 * AGAIN_S)
    assert cloud.there == OTHERS | {"id-2": LATE}, "it looks no more"
    said = [event.text for event in made.ledger.events.all(run=made.run)]
    assert [text.partition(": ended at p, by its name")[0] for text in said] == [OURS, LATE]
