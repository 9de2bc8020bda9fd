"""Whole runs of a small plan against the rehearsed cloud: what is printed, what is left, what it cost."""

from __future__ import annotations

import json
import os
import socket
import time
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.tool import INT, PLANS, TERM, Finished, Tool, ended, until

SMALL = ("run", "all", "--plan", str(PLANS / "small"), "--dry-run", "--yes")
SLOW = ("run", "all", "--plan", str(PLANS / "slow"), "--dry-run", "--yes")
AT_ITS_END = pytest.mark.xdist_group("finished")
FAILING = ("run", "all", "--plan", str(PLANS / "failing"), "--dry-run", "--yes")


@AT_ITS_END
def test_a_run_prints_one_document_and_leaves_nothing(finished: Finished):
    """`run all --json`: one JSON document, everything ok, every machine and volume destroyed."""
    tool, done = finished.tool, finished.done
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["state"], document["outcome"], document["dry_run"]) == ("DONE", "succeeded", True)
    assert [p["phase"] for p in document["phases"]] == ["one", "two"]
    assert all(d["ok"] for p in document["phases"] for d in p["deliverables"])
    assert all(p["deliverables"] for p in document["phases"])
    assert document["machines"]
    assert {m["state"] for m in document["machines"]} == {"DESTROYED"}
    assert {v["state"] for v in document["volumes"]} == {"DESTROYED"}
    assert tool.cloud.alive()["machines"] == []
    assert tool.cloud.alive()["volumes"] == []
    assert tool.cloud.alive()["processes"] == 0


@AT_ITS_END
def test_a_machine_that_fits_is_taken_over(finished: Finished):
    """Phase two runs on phase one's machine, and each phase pays for its own time on it."""
    assert len(finished.tool.creates()) == 1
    assert {c[0] for c in finished.tool.rows("select phase from gpuplan_charges")} == {"one", "two"}


@AT_ITS_END
def test_the_bill_adds_up_and_is_the_invoice_once_it_is_settled(finished: Finished):
    """Steps add up to phases, phases and volumes to the total; what the machines cost is what the cloud has billed."""
    tool = finished.tool
    bill = tool.cost()
    for phase in bill["phases"]:
        assert sum(Decimal(s["usd"]) for s in phase["steps"]) == Decimal(phase["usd"])
    total = sum(Decimal(p["usd"]) for p in bill["phases"]) + Decimal(bill["volumes_usd"])
    assert total == Decimal(bill["total_usd"])
    invoice = tool.cloud.invoice()
    billed = sum((Decimal(usd) for usd in invoice["machines"].values()), Decimal(0))
    spent = sum((Decimal(p["usd"]) for p in bill["phases"]), Decimal(0))
    rounded = Decimal("0.000001") * (len(bill["phases"]) + len(invoice["machines"]))
    assert bill["settled"] is True
    assert abs(billed - spent) <= rounded


def test_a_failing_step_shows_its_last_lines_and_ends_the_machine(tool: Tool):
    """Exit code 3, the step's own words, and nothing left running."""
    done = tool.run(*FAILING)
    assert done.returncode == 3
    assert "the disk of the moon is full" in done.stdout + done.stderr
    assert tool.cloud.alive()["machines"] == []
    assert {m["state"] for m in tool.status()["machines"]} == {"DESTROYED"}
    states = {s["name"]: s["state"] for s in tool.status()["phases"][0]["steps"]}
    assert states == {"good": "DONE", "bad": "FAILED", "never": "SKIPPED"}


def test_ctrl_c_again_and_again_changes_nothing(tool: Tool):
    """Until the very end of the process every further Ctrl-C is without effect: exit code 6, and no machine."""
    process = tool.start(*SLOW)
    until(lambda: tool.rows("select 1 from gpuplan_steps where id = 'only/long' and state = 'RUNNING'"))
    while process.poll() is None:
        process.send_signal(INT)
        time.sleep(0.01)
    output, _ = process.communicate()
    assert process.returncode == 6, output
    assert output.rstrip().endswith(": interrupted")
    assert tool.cloud.alive()["machines"] == []
    assert tool.status()["outcome"] == "interrupted"


@pytest.mark.parametrize(
    "signals",
    [pytest.param(one, marks=pytest.mark.faults) for one in ((INT, INT), (INT,), (TERM,))],
    ids=["ctrl-c twice", "ctrl-c", "sigterm"],
)
def test_a_signal_in_the_middle_of_a_step_ends_the_machine(tool: Tool, signals: tuple[int, ...]):
    """Exit code 6 and no machine, also when Ctrl-C comes twice."""
    process = tool.start(*SLOW)
    until(lambda: tool.rows("select 1 from gpuplan_steps where id = 'only/long' and state = 'RUNNING'"))
    code, output = ended(process, *signals)
    assert code == 6, output
    assert tool.cloud.alive()["machines"] == []
    assert tool.status()["outcome"] == "interrupted"


def test_ctrl_c_while_a_machine_is_being_created_ends_it(tool: Tool):
    """A machine whose create was sent is ended although its run was stopped before the answer was used."""
    process = tool.start(*SLOW)
    until(lambda: tool.rows("select 1 from gpuplan_machines where sent_at is not null"))
    code, output = ended(process, INT)
    assert code == 6, output
    assert tool.cloud.alive()["machines"] == []
    assert len(tool.creates()) <= 1


@pytest.mark.parametrize(
    "fault",
    [
        "preempt@make-file",
        *(
            pytest.param(one, marks=pytest.mark.faults)
            for one in ("ssh-cut@make-file", "create-reply-lost", "create-refused-capacity", "delete-still-listed")
        ),
    ],
)
def test_a_disaster_is_survived(tool: Tool, fault: str):
    """Each rehearsed disaster ends in a finished run, and never in a machine that is left."""
    tool.cloud.arm(fault)
    done = tool.run(*SMALL, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tool.cloud.alive()["machines"] == []
    assert any(f["fired"] for f in tool.cloud.faults()), "the fault was armed but nothing happened"
    assert len(tool.creates()) == len(set(tool.creates()))


HANGING = """
name: only
machine: {gpu: [RTX-4090, A100-40GB], staging: none}
volume: {name: hanging, size_gb: 10}
timeout: 10m
steps:
  - name: make
    run: |
      echo begun >> tries.txt
      if [ "$(wc -l < tries.txt)" = 1 ]; then sleep 300; fi
      echo done > made.txt
    timeout: 10m
    creates: [made.txt]
"""


@pytest.mark.parametrize("provider", ["runpod", pytest.param("lambda", marks=pytest.mark.faults)])
def test_a_machine_that_hangs_is_rebooted(tool: Tool, tmp_path: Path, provider: str):
    """It is silent, rebooted, met again (at RunPod with another port and host key) and does the step once more."""
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "only.yaml").write_text(HANGING)
    (tmp_path / "plan" / "gpuplan.yaml").write_text("budget_usd: 5\nunreachable_minutes: 0.05\nmax_replacements: 0\n")
    tool.cloud.arm("hang@make")
    run = ("run", "all", "--plan", str(tmp_path / "plan"), "--dry-run", "--yes", "--provider", provider)
    done = tool.run(*run, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (len(tool.creates()), tool.cloud.alive()["machines"]) == (1, [])
    assert [e["action"] for e in tool.cloud.log()].count("restart-machine") == 1
    events = [text for (text,) in tool.rows("select text from gpuplan_events")]
    assert any("; rebooted, and waited for" in text for text in events)
    assert any("shows another host key" in text for text in events) == (provider == "runpod")


def test_the_estimate_must_fit_the_budget(tool: Tool):
    """Exit code 5 before anything is rented when the estimate is above the cap."""
    done = tool.run(*SMALL, "--budget", "0.001")
    assert done.returncode == 5
    assert "budget" in done.stderr
    assert tool.creates() == []


def test_nobody_to_confirm_means_no_run(tool: Tool):
    """Without --yes and without a terminal, run refuses: exit code 2, nothing rented."""
    done = tool.run(*SMALL[:-1])
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert tool.creates() == []


@pytest.mark.faults  # tests/unit/cli/test_nothing_to_do has it too, in seconds
def test_a_done_phase_is_up_to_date(tool: Tool):
    """A second run of a done phase rents nothing and says since when it is done; --force repeats it."""
    one = ("run", "one", "--plan", str(PLANS / "small"), "--dry-run", "--yes")
    assert tool.run(*one).returncode == 0
    again = tool.run(*one)
    assert again.returncode == 0
    assert "up to date as of" in again.stdout
    assert len(tool.creates()) == 1
    assert tool.run(*one, "--force", "all").returncode == 0
    assert len(tool.creates()) == 2


@pytest.mark.faults  # tests/unit/engine/stories have it too, in seconds
def test_spot_means_interruptible_machines_at_their_price(tool: Tool):
    """--spot rents through the interruptible product, and the cost shows its price."""
    done = tool.run("run", "one", "--plan", str(PLANS / "small"), "--dry-run", "--yes", "--spot")
    assert done.returncode == 0, done.stderr
    ((spot, price),) = tool.rows("select spot, price_hour from gpuplan_machines")
    assert spot == 1
    assert Decimal(price) < Decimal("0.74")


def test_a_run_without_cloud_of_its_own_ends_its_cloud(tool: Tool):
    """Without a kept cloud the daemon, its guard and its ports end with the run."""
    process = tool.start(*SLOW, GPUPLAN_REHEARSAL="")
    file = until(lambda: next(tool.home.glob("runs/*/rehearsal/rehearsal.json"), None))
    facts = json.loads(file.read_text())
    until(lambda: tool.rows("select 1 from gpuplan_steps where id = 'only/long' and state = 'RUNNING'"))
    code, output = ended(process, INT)
    assert code == 6, output
    for pid in (facts["pid"], facts["guard_pid"]):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", urlsplit(facts["control"]).port or 0), timeout=2)
