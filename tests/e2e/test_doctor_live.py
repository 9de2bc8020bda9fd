"""`gpuplan doctor --live`: one small machine is rented, asked and ended, whatever comes between."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.words.observed import Observed, load
from tests import forked
from tests.e2e.tool import INT, KILL, Tool, ended, until

LIVE = ("doctor", "--live", "--dry-run", "--yes", "--plan", "shipped")
RTX = "NVIDIA GeForce RTX 4090"
SEEN = {
    "runpod": Observed(
        provider="runpod", listed_s=60, address_s=120, private_s=200, unlisted_s=150, volume_gb=10,
        disk_gb=Decimal(10), volume_tier="STANDARD", quotas={"minute": 77_000}, bids={RTX: Decimal("0.21")},
    ),
    "lambda": Observed(provider="lambda", address_s=100, private_never=True, firewall=("icmp from 0.0.0.0/0",)),
}  # fmt: skip
LATE_S = 60.0  # of the cloud's time, 1.2 real seconds: what a busy computer may be late with a look


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[Tool]:
    """A home, and a cloud that does as those fixtures say."""
    for one in SEEN.values():
        one.save(tmp_path / "seen")
    (tmp_path / "home").mkdir()
    cloud = forked.cloud(tmp_path / "cloud", fixtures=tmp_path / "seen")
    yield Tool(tmp_path / "home", cloud)
    cloud.stop()


def nothing_is_left(tool: Tool) -> None:
    """The cloud's own books."""
    alive = tool.cloud.alive()
    assert (alive["machines"], alive["volumes"]) == ([], [])


def test_what_a_cloud_does_is_what_is_written_down(seen: Tool, tmp_path: Path):
    """Round trip: clouds that do as fixtures say are found to; one machine each, all of it ended, no secret kept."""
    done = seen.run(*LIVE, "--json", "--out", str(tmp_path / "out"), timeout=300)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["ok"], [one["exit"] for one in said["providers"]]) == (True, [0, 0])
    nothing_is_left(seen)
    assert len(seen.creates()) == 2
    found = load(tmp_path / "out")
    runpod, lambdalabs, asked = found["runpod"], found["lambda"], SEEN["runpod"]
    for name in ("listed_s", "address_s", "private_s", "unlisted_s"):
        late = getattr(runpod, name) - getattr(asked, name)
        assert -10 < late < LATE_S, name  # the create's answer takes time too
    assert (runpod.disk_gb, runpod.volume_tier, runpod.bids) == (asked.disk_gb, "STANDARD", asked.bids)
    assert runpod.quotas["minute"] == 77_000
    assert not runpod.private_never
    assert (lambdalabs.private_never, lambdalabs.firewall) == (True, ("icmp from 0.0.0.0/0",))
    assert -10 < (lambdalabs.address_s or 0) - 100 < LATE_S
    assert runpod.torch
    assert all(one.rehearsed for one in found.values())
    answers = {one["question"]: one["answer"] for one in said["providers"][0]["answers"]}
    assert answers["what df shows of a network volume"] == "10.0 GB of a volume of 10 GB: its own size"
    assert not (seen.home / "fixtures").exists()  # a rehearsal's are no news for other rehearsals
    text = "".join((tmp_path / "out" / f"{name}.json").read_text() for name in found)
    facts, owner = seen.cloud.facts, (seen.home / "owner").read_text()
    ids = [entry["id"] for entry in seen.cloud.log() if entry.get("id")]
    keys = [access.api_key for access in facts.clouds.values()]
    assert ids
    assert [word for word in (*keys, *ids, *seen.creates(), owner, "127.0.0.1", "ssh-ed25519") if word in text] == []
    assert {reply["request"] for reply in runpod.replies} >= {"POST /v2/pods", "GET /v2/pods/{id}"}


def test_killed_in_the_middle_its_machine_is_found_and_ended(tool: Tool):
    """After SIGKILL `reap` lists the machine as this owner's, and `down` ends it with its volume."""
    process = tool.start(*LIVE, "--provider", "runpod")
    until(lambda: tool.rows("select 1 from gpuplan_machines where reachable_at is not null"), 120)
    process.send_signal(KILL)
    process.communicate(timeout=60)
    listed = json.loads(tool.run("reap", "--json").stdout)
    assert sorted(one["kind"] for one in listed["others"]) == ["machine", "volume"]
    assert tool.cloud.alive()["machines"] != []
    down = tool.run("down")
    assert down.returncode == 0, down.stderr
    nothing_is_left(tool)
    assert len(tool.creates()) == 1


def test_ctrl_c_ends_what_was_rented_and_asks_nobody_else(tool: Tool):
    """Exit code 6, machine and volume gone, no machine at the next provider, and nothing is written down."""
    process = tool.start(*LIVE, "--out", str(tool.home / "out"))
    until(lambda: tool.rows("select 1 from gpuplan_steps where started_at is not null"), 120)  # the volume is in use
    code, output = ended(process, INT, seconds=120)
    assert code == 6, output
    nothing_is_left(tool)
    assert len(tool.creates()) == 1
    assert not (tool.home / "out").exists()


def test_refused_or_sold_out_it_leaves_nothing(tool: Tool):
    """A cap below the price at the deadline is exit 5, before anything; a provider that sells none: 4, no volume."""
    dear = tool.run(*LIVE, "--max-usd", "0.5")
    assert dear.returncode == 5
    assert "may cost $0.98 until its deadline, more than $0.5" in dear.stderr
    assert tool.cloud.log() == []
    tool.cloud.arm("create-refused-capacity@20")
    began = time.monotonic()
    out = tool.run(*LIVE, "--provider", "runpod", "--json", timeout=200)
    assert out.returncode == 4, out.stderr
    one = json.loads(out.stdout)["providers"][0]
    assert (one["exit"], one["fixture"]) == (4, None)
    assert "no longer any instances" in one["why"]
    nothing_is_left(tool)
    assert time.monotonic() - began < 150


def test_without_a_key_or_anybody_to_ask_nothing_is_rented(tool: Tool):
    """No key is exit 2, with what to set; neither is there a question without a terminal."""
    none = tool.run("doctor", "--live", "--plan", "shipped", RUNPOD_API_KEY="", LAMBDA_API_KEY="", GPUPLAN_REHEARSAL="")
    assert none.returncode == 2
    assert "RUNPOD_API_KEY" in none.stderr
    nobody = tool.run("doctor", "--live", "--dry-run", "--plan", "shipped")
    assert (nobody.returncode, "--yes rents without asking" in nobody.stderr) == (2, True)
    stray = tool.run("doctor", "--max-usd", "1", "--plan", "shipped")
    assert (stray.returncode, "belong to --live" in stray.stderr) == (2, True)
    assert tool.cloud.log() == []
