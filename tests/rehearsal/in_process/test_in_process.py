"""The emulated clouds without sockets, threads or time of their own."""

from __future__ import annotations

import asyncio
import socket
import threading
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.words.errors import Ambiguous
from orchestrator.words.provider import MachineStatus
from tests.rehearsal.in_process.clouds_bench import START, Bench

PROVIDERS = pytest.mark.parametrize("name", ["runpod", "lambda"])


@PROVIDERS
def test_no_socket_and_no_thread(name: str, bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """A machine's whole life connects to nothing and starts no thread."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a socket was connected, or a thread started")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    provider = bench.provider(name)
    volume = provider.create_volume("gpuplan-v", 10, "EU-RO-1" if name == "runpod" else "us-east-1")
    identity = bench.rent(provider)
    bench.wait(200)
    provider.destroy(identity)
    provider.volumes()
    provider.destroy_volume(volume)
    assert (bench.clouds.machines_left(), bench.clouds.volumes_left()) == ([], [])


def test_a_machine_is_up_at_its_own_moment(bench: Bench):
    """Nothing happens before it is due; what was due is done when asked, at the moment at which it was."""
    provider = bench.provider("runpod")
    identity = bench.rent(provider)
    assert bench.clouds.next_change == START + timedelta(seconds=10)
    bench.wait(21)
    assert bench.events == []
    bench.wait(1)
    assert bench.events == [("up", identity)]
    view = provider.machine(identity)
    assert view is not None
    assert view.status is MachineStatus.BOOTING
    bench.sleep(1000)
    view = provider.machine(identity)
    assert view is not None
    assert view.address is not None
    (machine,) = bench.booted
    assert (machine.host, machine.port) == (view.address.host, view.address.port)
    assert (machine.spec.name, machine.spec.gpus, machine.spec.public_key.split()[0]) == ("gpuplan-a", 1, "ssh-ed25519")


@PROVIDERS
def test_each_machine_has_an_address_of_its_own(name: str, bench: Bench):
    """Two that run share no address and port, and the volume that one mounts is in what it was rented with."""
    provider = bench.provider(name)
    offer = next(o for o in provider.offers(gpus=1, spot=False) if o.available)
    volume = provider.create_volume("gpuplan-v", 10, offer.place)
    bench.rent(provider, offer=offer, volume_id=volume, volume_name="gpuplan-v")
    bench.rent(provider, "gpuplan-b")
    bench.wait(300)
    assert len({(machine.host, machine.port) for machine in bench.booted}) == 2
    assert [machine.spec.volume for machine in bench.booted] == ["gpuplan-v", None]


def test_the_bill_is_for_the_clocks_time(bench: Bench):
    """A pod costs from its create to its end, its disk from when it runs, to the second, however seldom one asks."""
    provider = bench.provider("runpod")
    identity = bench.rent(provider)
    bench.sleep(3600)
    provider.destroy(identity)
    bench.sleep(3600)
    (created,) = [e for e in bench.clouds.log() if e["action"] == "create-machine"]
    assert float(bench.clouds.invoice()["machines"]["gpuplan-a"]) == pytest.approx(
        float(created["price_hour"]) + 50 * 0.10 / 730 * 3578 / 3600, abs=1e-6
    )


def test_a_lost_reply_counts_as_one_create(bench: Bench):
    """The adapter is told nothing, sends it once, and the log of calls says what the client saw."""
    provider = bench.provider("runpod")
    bench.clouds.fault("create-reply-lost")
    with pytest.raises(Ambiguous):
        bench.rent(provider)
    creates = [c for c in bench.clouds.calls if (c.method, c.path) == ("POST", "/v2/pods")]
    assert [(c.at, c.body["name"], c.status) for c in creates] == [(START, "gpuplan-a", None)]
    assert bench.clouds.machines_left() == ["gpuplan-a"]
    assert bench.clouds.faults() == [{"name": "create-reply-lost", "arg": None, "left": 0, "fired": 1}]


@PROVIDERS
def test_a_machine_that_is_taken_away_says_so_a_second_after_its_step_began(name: str, bench: Bench):
    """The step's machine ends without anybody asking the cloud, and only once; a cut leaves it up."""
    provider = bench.provider(name)
    identity = bench.rent(provider)
    bench.wait(300)
    for fault in ("ssh-cut", "preempt"):
        bench.clouds.fault(fault, step="convert")
        bench.clouds.step_started("convert", "gpuplan-a")
        assert bench.clouds.next_change == bench.moment + timedelta(seconds=1)
        bench.wait(1)
    assert bench.events == [("up", identity), ("cut", identity), ("end", identity)]


def test_a_machine_that_is_gone_is_not_cut(bench: Bench):
    """Two disasters in one second: what was taken away has no connection left."""
    asyncio.run(bench.clouds.machines.cut("gone"))
    assert bench.events == []


def test_the_same_seed_gives_the_same_clouds():
    """Ids and keys repeat with the seed and differ without."""

    def trace(seed: int) -> tuple[str, str]:
        bench = Bench(seed)
        with bench.clouds as clouds:
            return bench.rent(bench.provider("runpod")), clouds.access("lambda").api_key.reveal()

    assert trace(1) == trace(1)
    assert set(trace(1)).isdisjoint(trace(2))


def test_faults_are_armed_at_the_start_or_refused():
    """NAME and NAME@ARG are taken; a fault that does not exist is an error."""
    bench = Bench(faults=["list-lag", "create-refused-capacity@3"])
    assert [(f["name"], f["left"]) for f in bench.clouds.faults()] == [("list-lag", 1), ("create-refused-capacity", 3)]
    bench.clouds.close()
    with pytest.raises(ValueError, match="no fault"):
        Bench(faults=["earthquake"])


def test_lambdas_pace_is_waited_out_on_the_clock(bench: Bench):
    """Ten requests are at least nine seconds of the clock apart, and none is refused."""
    provider = bench.provider("lambda")
    for _ in range(10):
        provider.machines()
    assert bench.moment >= START + timedelta(seconds=9)
    assert {call.status for call in bench.clouds.calls} == {200}
