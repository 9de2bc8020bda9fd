"""Whose host key is trusted: by address, by the user's known_hosts, by --host-key; nothing is sent to another."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol

import pytest

from orchestrator.ledger import Ledger, open_ledger
from orchestrator.ledger.rows import HostKeyRow, MachineRow
from orchestrator.providers.existing_host import ExistingHost
from orchestrator.providers.lambdalabs import Lambda, launch_body
from orchestrator.providers.runpod import RunPod
from orchestrator.rehearsal.clouds.instances import _host_key
from orchestrator.transport.keys import make_host_key
from orchestrator.transport.ssh import SshTransport
from orchestrator.words.errors import HostKeyChanged
from orchestrator.words.lifecycle import MachineState
from orchestrator.words.provider import Address, Capability, MachineSpec, Offer
from orchestrator.world.host_keys import HostKeys, fingerprint
from tests.rehearsal.hosts.ssh_machines import Cloud
from tests.transport.sshd import Known, Sshd


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """The books of a home."""
    found = open_ledger(tmp_path / "home")
    yield found
    found.close()


class Reached(Protocol):
    """A machine with its address and our key."""

    @property
    def address(self) -> Address: ...
    @property
    def key_file(self) -> Path: ...


def reach(
    server: Reached,
    ledger: Ledger,
    name: str,
    expected: str = "",
    *,
    rented: bool = False,
    shows: Callable[[str], bool | None] = lambda _fingerprint: None,
) -> str:
    """What is said of the key when a machine of that name is reached; its run is another one for each."""
    row = MachineRow(
        name=name, run=name, phase="p", request="p.1", node=0, provider="ssh-host", type_id="x", gpu="", gpus=0,
        place="", price_hour=Decimal(0), state=MachineState.REQUESTED, host=server.address.host,
        port=server.address.port,
    )  # fmt: skip
    keys = HostKeys(ledger, row, expected=expected, rented=rented, shows=shows)
    transport = SshTransport(server.address, server.key_file, keys)
    try:
        assert transport.run("true").exit == 0
    finally:
        transport.close()
    return "; ".join(event.text for event in ledger.events.all(run=name))


def spec() -> MachineSpec:
    """A machine at Lambda."""
    offer = Offer("lambda", "gpu_1x_a100", "A100-40GB", 1, 40, Decimal(1), place="us-1")
    return MachineSpec("gpuplan-x", offer, "", 50, ("22/tcp",), "ssh-ed25519 AAAA x", datetime(2030, 1, 1, tzinfo=UTC))


def host_key(server: Sshd) -> str:
    """The server's own public key, TYPE BASE64."""
    return " ".join((server.folder / "host" / "id_ed25519.pub").read_text().split()[:2])


def test_a_host_is_first_met_once(server: Sshd, ledger: Ledger):
    """By its address: the next phase, under another machine's name, meets what was met before, and trusts no other."""
    assert "nobody vouches" in reach(server, ledger, "m1")
    assert reach(server, ledger, "m2") == ""
    other = host_key(server).split()[0] + " " + "AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
    ledger.host_keys.put(HostKeyRow(address=f"{server.address.host}:{server.address.port}", key=other))
    with pytest.raises(HostKeyChanged):
        reach(server, ledger, "m3")


def test_a_rented_machine_is_known_by_its_name(server: Sshd, ledger: Ledger):
    """Its address may be another machine's tomorrow: each name is met for the first time."""
    assert "nobody vouches" in reach(server, ledger, "m1", rented=True)
    assert "nobody vouches" in reach(server, ledger, "m2", rented=True)


def test_a_rented_machine_shows_the_key_that_its_log_printed(tmp_path: Path, ledger: Ledger):
    """What the account's API says of its log vouches for the key, or keeps everything from whoever shows another."""
    cloud = Cloud(tmp_path)
    host = cloud.boot()
    server = SimpleNamespace(address=Address(host.host, host.port, "root"), key_file=cloud.key)
    try:
        said = reach(server, ledger, "m1", rented=True, shows=lambda seen: seen == host.host_key)
        assert f"{host.host_key} is trusted from now on: its own log has it" in said
        assert "nobody vouches" in reach(server, ledger, "m2", rented=True)
        with pytest.raises(HostKeyChanged, match="its own log does not have"):
            reach(server, ledger, "m3", rented=True, shows=lambda seen: seen != host.host_key)
        assert ledger.host_keys.maybe(address="m3") is None
    finally:
        cloud.close()


def test_known_hosts_is_read(server: Sshd, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A key that the user's ssh knows for this host and port, hashed too, is the one that counts."""
    home = tmp_path / "users"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    known = home / ".ssh" / "known_hosts"
    known.write_text(f"[{server.address.host}]:{server.address.port} {host_key(server)}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
    assert "known_hosts has it" in reach(server, ledger, "m1")
    ledger.host_keys.remove(address=f"{server.address.host}:{server.address.port}")
    known.write_text(f"[{server.address.host}]:{server.address.port} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43}\n")
    with pytest.raises(HostKeyChanged):
        reach(server, ledger, "m2")


def test_what_the_user_says_of_the_key_counts(server: Sshd, ledger: Ledger):
    """--host-key as a fingerprint or as a key: that one is accepted, and nothing is sent to another."""
    key = host_key(server)
    printed = subprocess.run(["ssh-keygen", "-lf", "-"], input=key, capture_output=True, text=True, check=True).stdout
    assert fingerprint(key) == printed.split()[1]
    assert "as --host-key says" in reach(server, ledger, "m1", fingerprint(key))
    reach(server, ledger, "m2", key)
    ledger.host_keys.remove(address=f"{server.address.host}:{server.address.port}")
    for wrong in ("SHA256:" + "A" * 43, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43):
        with pytest.raises(HostKeyChanged):
            reach(server, ledger, "m3", wrong)


def test_a_lambda_machine_has_the_host_key_that_it_was_given(tmp_path: Path):
    """The key goes out in the launch's user data, the machine shows it at its first contact, and no other passes."""
    private, public = make_host_key()
    asked = replace(spec(), host_key=private)
    said = launch_body(asked, "key", "owner", "/mnt")["user_data"]
    assert private.reveal() not in repr(asked)
    cloud = Cloud(tmp_path)
    host = cloud.boot(host_key=_host_key(said))
    for pinned, reached in ((public, True), (make_host_key()[1], False)):
        transport = SshTransport(
            Address(host.host, host.port, "root"), cloud.key, Known({f"{host.host}:{host.port}": pinned})
        )
        try:
            assert transport.run("true").exit == 0
            assert reached
        except HostKeyChanged:
            assert not reached
        finally:
            transport.close()
    cloud.close()


def test_only_a_provider_that_takes_a_host_key_is_given_one():
    """Whoever else says so would have every machine of its refused: the key that was pinned is not the one it shows."""
    assert {kind for kind in (RunPod, Lambda, ExistingHost) if Capability.HOST_KEY in kind.capabilities} == {Lambda}
