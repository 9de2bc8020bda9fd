"""RunPod's machines without GPU: what is sold, and the disk that goes with their size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from orchestrator.providers import open_provider, runpod_catalog
from orchestrator.rehearsal.in_process import InProcessClouds
from orchestrator.testing.clock import ManualClock
from orchestrator.words.errors import Refused
from orchestrator.words.provider import MachineSpec, Offer, Provider


@pytest.fixture
def clouds() -> Iterator[InProcessClouds]:
    with InProcessClouds(ManualClock(0)) as found:
        yield found


@pytest.fixture
def runpod(clouds: InProcessClouds) -> Provider:
    return open_provider("runpod", clouds.access("runpod", public_key="k", owner="cpupods0"))


def spec(offer: Offer, disk_gb: int) -> MachineSpec:
    return MachineSpec(
        name="gpuplan-cpupods0-1102-test-one-1-t1795000000", offer=offer, image="runpod/base:1.0.2-ubuntu2404",
        disk_gb=disk_gb, ports=("22/tcp",), public_key="k", deadline=datetime.now(UTC) + timedelta(hours=1),
    )  # fmt: skip


def test_the_cheapest_has_room_for_a_phases_disk(runpod: Provider):
    """Eight vCPUs at three cents: fewer would not have the 50 GB that a phase has unless it says otherwise."""
    cheapest = runpod.offers(gpus=0, spot=False)[0]
    assert (cheapest.type_id, cheapest.price_hour, cheapest.gpus) == ("cpu3c:8", Decimal("0.24"), 0)


@pytest.mark.parametrize(("asked", "sent"), [(50, 50), (80, 80), (500, 80)])
def test_no_more_disk_is_asked_for_than_the_size_allows(
    clouds: InProcessClouds, runpod: Provider, asked: int, sent: int
):
    """A phase's disk_gb is for its GPUs: a CPU machine gets as much of it as its vCPUs bring."""
    assert runpod.create(spec(runpod.offers(gpus=0, spot=False)[0], asked))
    (create,) = [call for call in clouds.calls if call.method == "POST"]
    assert create.body["disk"] == sent
    assert "gpu" not in create.body


@pytest.mark.parametrize(("flavour", "most"), [("cpu3c", 40), ("cpu5c", 60)])
def test_the_emulated_cloud_refuses_a_larger_disk(
    runpod: Provider, flavour: str, most: int, monkeypatch: pytest.MonkeyPatch
):
    """As the vendor does: 10 GB for each vCPU of the older flavours, 15 of the newer ones."""
    monkeypatch.setattr(runpod_catalog, "most_disk_gb", lambda _vcpus: 10_000)
    offer = replace(runpod.offers(gpus=0, spot=False)[0], type_id=f"{flavour}:4")
    assert runpod.create(spec(offer, most))
    with pytest.raises(Refused, match=f"disk must be at most {most} GB"):
        runpod.create(spec(offer, most + 1))
