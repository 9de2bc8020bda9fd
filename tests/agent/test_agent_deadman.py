"""The dead-man's switch: a machine that nobody asks after ends its own bill."""

from __future__ import annotations

import time
from typing import Any

from tests.agent.conftest import Machine, eventually


def beat(machine: Machine, seconds: float, **facts: Any) -> dict[str, Any]:
    return machine.ask("heartbeat", deadman_s=seconds, end_bill='echo "bill ended by $0" >> "$HOME/bill"', **facts)


def test_without_heartbeats_the_bill_is_ended_once(machine: Machine):
    """After the last heartbeat's time nothing new starts and the bill is ended, once; a late heartbeat is told so."""
    assert machine.start("job", "true")["ok"]
    assert beat(machine, 0.5)["ok"]
    eventually((machine.home / "bill").exists)
    assert machine.start("other", "true")["code"] == "deadman"
    assert beat(machine, 60)["code"] == "deadman"
    assert (machine.home / "bill").read_text().count("ended") == 1
    eventually(lambda: not [line for line in machine.processes().values() if "agent.py" in line])


def test_heartbeats_keep_the_machine(machine: Machine):
    """As long as heartbeats come, nothing happens; many of them make one switch."""
    began = time.monotonic()
    while time.monotonic() - began < 3.5:
        assert beat(machine, 3.0)["ok"]
        time.sleep(0.1)
    assert beat(machine, 60)["ok"]
    assert machine.run("job", "true")[1]["exit"] == 0
    assert not (machine.home / "bill").exists()
    eventually(lambda: len([line for line in machine.processes().values() if "agent.py" in line]) == 1)


def test_a_running_step_goes_on_to_its_end(machine: Machine):
    """A step that runs when the heartbeats end is not disturbed, the bill ends after it; no service is waited for."""
    machine.start("service", "echo up; sleep 600", service=True)
    machine.start("step", 'sleep 1.5; echo "step ended" >> "$HOME/bill"')
    assert beat(machine, 0.3)["ok"]
    eventually(lambda: (machine.home / "bill").exists() and "bill ended" in (machine.home / "bill").read_text())
    assert (machine.home / "bill").read_text().splitlines()[0] == "step ended"


def test_a_controller_that_comes_back_in_time_keeps_the_machine(machine: Machine):
    """Heartbeats that come again while a step still runs undo the alarm."""
    machine.start("step", "while [ ! -e go ]; do sleep 0.05; done")
    assert beat(machine, 0.3)["ok"]
    time.sleep(0.5)
    assert machine.start("new", "true")["code"] == "deadman"
    assert beat(machine, 60)["ok"]
    (machine.workspace / "go").touch()
    machine.watch("step")
    assert machine.start("new", "true")["ok"]
    time.sleep(0.7)
    assert not (machine.home / "bill").exists()


def test_where_there_is_no_bill_to_end_a_heartbeat_is_enough(machine: Machine):
    """On a machine that costs nothing the switch only keeps new steps from starting, until somebody asks again."""
    assert machine.ask("heartbeat", deadman_s=0.1, end_bill="")["ok"]
    eventually(lambda: not machine.processes())
    assert machine.start("job", "true")["code"] == "deadman"
    assert machine.ask("heartbeat", deadman_s=60, end_bill="")["ok"]
    assert machine.start("job", "true")["ok"]


def test_a_bill_that_could_not_be_ended_is_no_end(machine: Machine):
    """When ending the bill fails, a controller that comes back finds a machine that it can use."""
    assert machine.ask("heartbeat", deadman_s=0.1, end_bill='echo tried >> "$HOME/bill"; exit 1')["ok"]
    eventually((machine.home / "bill").exists)
    eventually(lambda: machine.ask("heartbeat", deadman_s=60, end_bill="true")["ok"])
    assert machine.start("job", "true")["ok"]


def test_steps_are_stopped_if_that_was_asked_for(machine: Machine):
    """With a time after which steps are to stop, a running step is stopped, and then the bill is ended."""
    machine.start("step", "sleep 600")
    assert beat(machine, 0.2, stop_after_s=0.6)["ok"]
    eventually((machine.home / "bill").exists)
    _, end = machine.watch("step")
    assert end["stopped"]


def test_a_machine_that_was_started_again_begins_anew(machine: Machine):
    """The end of an earlier boot's bill does not bind the machine after a restart."""
    machine.env["GPUPLAN_BOOT_ID"] = "first"
    beat(machine, 0.1)
    eventually((machine.home / "bill").exists)
    assert machine.start("job", "true")["code"] == "deadman"
    machine.env["GPUPLAN_BOOT_ID"] = "second"
    assert beat(machine, 60)["ok"]
    assert machine.start("job", "true")["ok"]
