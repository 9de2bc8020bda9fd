"""The plan that gpuplan ships with, rehearsed: on RunPod, interruptible, on Lambda, and on a machine that is there."""

from __future__ import annotations

import json
import os
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from tests.e2e.tool import PLANS, Tool
from tests.forked import WARM
from tests.transport.sshd import private_sshd

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("the shipped plan")]


CARD = "Ran on the card that was rented"
NEED_A_GPU = [
    "PyTorch computed on the card that was rented", "Multi-GPU inference validated",
    *(f"{CARD} ({phase})" for phase in ("day2-3", "day4-5", "day6-7")),
    *(f"{name} {what}" for name in ("GLM-4.5-Air", "INTELLECT-3")
      for what in ("generates at 10 tokens/s or more", "uses less than 80 % of the GPU memory")),
]  # fmt: skip


@pytest.mark.faults  # `make demo` is this run
def test_the_whole_plan_is_rehearsed(tool: Tool):
    """`run all --dry-run --json`: what a CPU can show holds, what needs a GPU is left open, and nothing is left."""
    done = tool.run("run", "all", "--plan", "shipped", "--dry-run", "--yes", "--json", timeout=380)
    assert done.returncode == 0, done.stderr[-3000:]
    document = json.loads(done.stdout)
    assert (document["state"], document["outcome"]) == ("DONE", "succeeded")
    answers = {d["name"] if d["name"] != CARD else f"{CARD} ({p['phase']})": d
               for p in document["phases"] for d in p["deliverables"]}  # fmt: skip
    assert len(answers) >= 45
    assert {n: d["detail"] for n, d in answers.items() if d["ok"] is False} == {}
    assert sorted(n for n, d in answers.items() if d["ok"] is None) == sorted(NEED_A_GPU)
    assert all("a CPU stands in for the GPU here" in answers[n]["detail"] for n in NEED_A_GPU)
    assert f"{len(answers) - len(NEED_A_GPU)} hold, {len(NEED_A_GPU)} need a real GPU" in " ".join(done.stderr.split())
    said = [line.rstrip().replace(str(tool.home), "~") for line in done.stderr.splitlines()]
    assert (len(said) <= 80, max(map(len, said)) <= 120) == (True, True), done.stderr
    assert "gpuplan-" not in done.stderr.replace("gpuplan-rehearsal", ""), "people see day2-3#1"
    assert (document["exit"], document["reason"], document["kept"]) == (0, "", [])
    assert [t["files_done"] == t["files"] and t["ended"] for t in document["transfers"]].count(False) == 0
    assert "Paris" in answers["Basic inference test passes"]["detail"]
    assert {m["state"] for m in document["machines"]} == {"DESTROYED"}
    assert len(document["machines"]) == 6
    assert {v["state"] for v in document["volumes"]} == {"DESTROYED"}
    assert tool.cloud.alive() == {"machines": [], "volumes": [], "processes": 0, "breaches": []}
    report = next(tool.home.glob("runs/*/pulled/**/GLM_IMPLEMENTATION.md")).read_text()
    assert "tokens_per_second" in report
    assert "stand-in models on a CPU, not of a GPU" in report
    assert "A100" not in report.split("### Measured")[1], "a rehearsed figure must not pass for a GPU's"


@pytest.mark.faults  # tests/unit/engine/stories have it too, in seconds
def test_one_phase_alone_pulls_in_what_it_needs_on_interruptible_machines(tool: Tool):
    """`run day4-5 --spot --dry-run` works on its own; its cost shows the interruptible price and fits the invoice."""
    done = tool.run("run", "day4-5", "--spot", "--dry-run", "--yes", timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    steps = {s["name"] for s in tool.status()["phases"][0]["steps"]}
    assert {"day1/clone", "day1/overlay", "day1/download-intellect3", "convert-intellect3"} <= steps
    assert "day1/download-glm" not in steps
    rows = tool.rows("select gpus, spot, price_hour from gpuplan_machines order by requested_at")
    (cpu, *_), (gpus, spot, price) = rows
    assert (cpu, gpus, spot, Decimal(price)) == (0, 2, 1, Decimal("1.7969445"))  # two at half of $1.79, 50 GB
    bill, invoice = tool.cost(), tool.cloud.invoice()
    (phase,) = bill["phases"]
    billed = sum(Decimal(usd) for usd in invoice["machines"].values())
    assert billed <= Decimal(phase["usd"]) + Decimal("0.000001")
    assert Decimal(phase["usd"]) <= billed + len(rows) * Decimal(price) / 3600


@pytest.mark.faults  # tests/contracts and tests/unit/engine/stories have it too, in seconds
def test_lambda_brings_a_phase_through(tool: Tool):
    """`run day1 --provider lambda --dry-run` passes, and ends its machine."""
    done = tool.run("run", "day1", "--provider", "lambda", "--dry-run", "--yes", timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert tool.cloud.alive()["machines"] == []
    assert all(d["ok"] is not False for d in tool.status()["phases"][0]["deliverables"])


@pytest.mark.parametrize(
    "phase",
    [("one", "--plan", str(PLANS / "small")), pytest.param(("day2-3",), marks=pytest.mark.faults)],
    ids=["small", "shipped"],
)
def test_a_machine_that_is_there_runs_a_phase(tool: Tool, tmp_path: Path, phase: tuple[str, ...]):
    """`run PHASE --ssh-host` passes against a private OpenSSH sshd: price 0, nothing created, work in ~/gpuplan."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with private_sshd(tmp_path, env={"PATH": path, "NUMBA_CACHE_DIR": str(WARM)}) as server:
        host = f"{server.address.user}@127.0.0.1:{server.address.port}"
        done = tool.run(
            "run", *phase, "--ssh-host", host, "--ssh-key", str(server.key_file), "--dry-run", "--yes", timeout=380
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert all(d["ok"] is not False for d in tool.status()["phases"][0]["deliverables"])
    assert Decimal(tool.cost()["total_usd"]) == 0
    assert tool.creates() == []
