"""A machine that does not come up as it should: what it lacks is said, and what cannot help is not waited for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from orchestrator.engine import readiness
from orchestrator.engine.effects import NotReached
from orchestrator.testing.machine import ScriptedMachine
from orchestrator.transport.keys import require_private
from orchestrator.words.errors import ConnectionLost, KeyRefused, UsageError
from orchestrator.words.lifecycle import Outcome
from orchestrator.words.provider import Address, MachineStatus, MachineView
from tests.unit.cli.desk import Desk

PLAN = "one: {machine: {gpu: [RTX-4090]}, volume: {name: data, size_gb: 10}, steps: [{name: x, run: x}]}"


def events(desk: Desk) -> str:
    return "\n".join(e.text for e in desk.bench.ledger().newest_events(desk.bench.spec.run, 50))


@pytest.mark.parametrize(("ahead", "words"), [(600.0, "600 s ahead of"), (-600.0, "600 s behind"), (59.0, "")])
def test_a_machine_with_another_time_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float, words: str
):
    """More than a minute of difference at the first contact; less is nobody's business."""
    monkeypatch.setattr(ScriptedMachine, "skew_s", ahead)
    desk = Desk(tmp_path, PLAN)
    assert desk.run("one").outcome == Outcome.SUCCEEDED
    assert (f"its clock is {words} this computer's" in events(desk)) == bool(words)
    assert ("its clock is" in events(desk)) == bool(words)


def test_what_a_machine_lacked_is_said(tmp_path: Path):
    """Fifteen minutes without an address: that, and for how long, is why it was given up."""
    desk = Desk(tmp_path, PLAN, faults=("boot-no-address",))
    assert desk.run("one").outcome == Outcome.SUCCEEDED
    first, *_ = desk.bench.ledger().machines.all()
    assert "was not ready within 15 min: it lacked an address; last seen: " in first.reason


@pytest.mark.parametrize("rented", [True, False])
def test_a_key_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rented: bool):  # noqa: FBT001
    """The user's own host is not waited for; a rented machine may still get the key, and says so once."""
    desk = Desk(tmp_path, PLAN)
    desk.run("one")
    context = desk.bench.controller().context
    context.provider.rented = rented
    (row,) = context.ledger.machines.all()
    view = MachineView("i", row.name, MachineStatus.READY, Address("h", 22, "root"), None, None, "", "RUNNING")
    monkeypatch.setattr(context.provider, "machine", lambda _id: view)

    def refuses(_name: str) -> object:
        raise KeyRefused("root@h:22 does not accept the key k", remedy="add k.pub")

    monkeypatch.setattr(context, "agents", refuses)
    before = context.clock.monotonic()
    end = readiness.wait(context, row)
    assert isinstance(end, NotReached)
    assert "does not accept the key" in end.why
    assert (context.clock.monotonic() - before > 60) == rented
    assert events(desk).count("it answers, and does not accept the key k so far") == int(rented)
    assert issubclass(KeyRefused, ConnectionLost)


def test_a_key_file_that_will_not_do_is_refused_at_once(tmp_path: Path):
    """With a passphrase, a public one, a text, none: each in its words, before anything begins."""
    for name, phrase in (("good", ""), ("locked", "secret")):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", phrase, "-f", str(tmp_path / name)]
        subprocess.run(command, check=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", str(tmp_path / "pem")], check=True
    )
    (tmp_path / "text").write_text("hello")
    require_private(tmp_path / "good")
    require_private(tmp_path / "pem")
    for name, words in (
        ("locked", "has a passphrase"),
        ("good.pub", "is a public key"),
        ("text", "is no private key"),
        ("missing", "cannot be read"),
    ):
        with pytest.raises(UsageError, match=words):
            require_private(tmp_path / name)
