"""`gpuplan doctor`: what will not do, and what to do about it; nothing is created to find out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.cli.checks import Finding, Patient, examine
from orchestrator.cli.doctoring import told
from orchestrator.testing.bench import OWNER
from orchestrator.transport.keys import ensure_key_pair, key_file
from orchestrator.words.errors import AccountRefused
from orchestrator.words.provider import MachineSpec
from tests.unit.cli.desk import Desk
from tests.unit.cli.test_market import Spots
from tests.unit.receiver import Receiver

PLAN = """
settings: {providers: [runpod]}
only:
  machine: {gpu: [A100-80GB]}
  steps: [{name: s, run: s, secrets: [A_SECRET]}]
"""
NOWHERE = "http://127.0.0.1:9"  # nobody listens there


def examined(desk: Desk, *, mode: int = 0o600) -> dict[str, Finding]:
    """The findings by name, of a home with its key."""
    (desk.home.path / "owner").write_text(OWNER)
    ensure_key_pair(desk.home.path)
    key_file(desk.home.path).chmod(mode)
    world = replace(desk._world(), hub_url=NOWHERE, key_file=key_file(desk.home.path))
    return {one.name: one for one in examine(Patient(world, desk.bench.spec.plan, ()))}


def test_all_is_well_and_nothing_was_created(tmp_path: Path):
    """Key, credit, prices, secret, disk: ok; what cannot be seen is no mistake; nothing was made or ended."""
    desk = Desk(tmp_path, PLAN)
    found = examined(desk)
    assert [one for one in found.values() if one.ok is False] == []
    assert {name for name, one in found.items() if one.ok} == {
        "SSH key", "disk", "runpod key", "runpod credit", "runpod prices", "secret A_SECRET", "left",
    }  # fmt: skip
    assert found["clock"].ok is None
    assert desk.bench.clouds.log() == []
    assert {c.method for c in desk.bench.clouds.calls if "graphql" not in c.path} == {"GET", "DELETE"}


class ReadOnly(Spots):
    """A key that may look, and end nothing."""

    def destroy(self, machine_id: str) -> None:
        raise AccountRefused(f"RunPod refused DELETE pods/{machine_id} (403): read-only key")


def test_a_key_that_may_only_read_is_told(tmp_path: Path):
    """What it may not do is said with the vendor's words, before a machine is rented that it could not end."""
    desk = Desk(tmp_path, PLAN)
    desk.providers["runpod"] = ReadOnly(desk._provider("runpod"))
    key = examined(desk)["runpod key"]
    assert (key.ok, key.remedy) == (False, "give the key read and write access to machines and volumes")
    assert "may not end machines: RunPod refused DELETE" in key.detail


def test_no_credit_and_a_hub_that_is_away(tmp_path: Path):
    """Each is a line of its own; the others are looked at all the same."""
    desk = Desk(tmp_path, PLAN.replace("secrets:", "hub: {repo: a/b, dir: b}, secrets:"), faults=("credit-low@50",))
    found = examined(desk)
    assert (found["runpod credit"].ok, found["runpod credit"].detail) == (False, "$0.50")
    assert found["hub a/b"].ok is False
    assert NOWHERE in found["hub a/b"].detail
    assert found["left"].ok


@pytest.mark.parametrize(("owner", "ok"), [(OWNER, False), ("zzzzzzzz", None)])
def test_a_machine_of_no_run_that_goes_on_is_wrong(tmp_path: Path, owner: str, ok: object):
    """Ours: with the command that ends it; another owner's is only said."""
    desk = Desk(tmp_path, PLAN)
    provider = desk._provider("runpod")
    offer = next(o for o in provider.offers(gpus=1, spot=False) if o.available)
    name = f"gpuplan-{owner}-1101-bbbb-day1-1-t4000000000"
    later = datetime.now(UTC) + timedelta(hours=1)
    provider.create(MachineSpec(name, offer, "an/image", 50, ("22/tcp",), "k", later))
    desk.bench.clock.sleep(provider.list_lag_s)
    left = examined(desk)["left"]
    assert left.ok is ok
    assert name in left.detail
    assert "an hour" in left.detail


def test_a_private_key_that_others_may_read_is_wrong(tmp_path: Path):
    """With the command that closes it."""
    desk = Desk(tmp_path, PLAN)
    found = examined(desk, mode=0o644)["SSH key"]
    assert (found.ok, found.remedy) == (False, f"chmod 600 {key_file(desk.home.path)}")


def test_a_test_message_goes_to_who_is_told(tmp_path: Path):
    """Each address is a line, whether it was taken or not, and none is shown; to tell nobody is no mistake."""
    receiver = Receiver()
    plan = Desk(tmp_path, PLAN).bench.spec.plan
    address = receiver.address.reveal()

    def findings(*notify: str) -> list[Finding]:
        settings = plan.settings.model_copy(update={"notify": notify})
        return list(told(plan.model_copy(update={"settings": settings}), rehearsed=False))

    assert [one.ok for one in findings()] == [None]
    assert [one.ok for one in findings(address, address)] == [True, True]
    receiver.status = 500
    (refused,) = findings(address)
    receiver.close()
    assert (refused.name, refused.ok) == ("notify 1", False)
    assert "s3cret-word" not in str(refused)
    assert len(receiver.got) == 3
    assert "a test of" in receiver.got[0]["title"]
    (unset,) = findings("NO_SUCH_HOOK")
    assert (unset.ok, unset.detail) == (False, "notify: the variable NO_SUCH_HOOK is not set")
