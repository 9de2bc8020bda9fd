"""What `doctor --live` has seen of the real clouds is what the emulated ones do; without it they do as before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.providers import open_provider
from orchestrator.rehearsal.clouds.instances import BOOTING
from orchestrator.rehearsal.clouds.pods import BOOT
from orchestrator.words.errors import UsageError
from orchestrator.words.observed import Observed, load
from orchestrator.words.provider import Facts, Provider
from tests.rehearsal.in_process.clouds_bench import KEY, Bench

RTX, A100 = "NVIDIA GeForce RTX 4090", "NVIDIA A100-SXM4-80GB"


@contextmanager
def clouds(name: str, **seen: Any) -> Iterator[tuple[Bench, Provider]]:
    """Clouds that do as was seen, and an adapter that asks for what is not known yet."""
    bench = Bench(observed={name: Observed(provider=name, **seen)})
    access = replace(bench.clouds.access(name, public_key=KEY, owner="abcd1234"), explores=True)
    yield bench, open_provider(name, access)
    assert bench.clouds.breaches() == []
    bench.clouds.close()


LOOK_S = 5  # between two looks


def life(bench: Bench, provider: Provider) -> dict[str, float]:
    """When a machine was listed, had an address and a private one; when it was listed no more after its end."""
    seen: dict[str, float] = {}
    machine, began = bench.rent(provider), bench.moment
    while bench.moment - began < timedelta(seconds=300) and "private" not in seen:
        since = (bench.moment - began).total_seconds()
        if any(view.id == machine for view in provider.machines()):
            seen.setdefault("listed", since)
        view = provider.machine(machine)
        if view and view.address:
            seen.setdefault("address", since)
        if view and view.private_ip:
            seen.setdefault("private", since)
        bench.wait(LOOK_S)
    provider.destroy(machine)
    began = bench.moment
    while any(view.id == machine for view in provider.machines()):
        assert bench.moment - began < timedelta(seconds=100)
        bench.wait(LOOK_S)
    return seen | {"unlisted": (bench.moment - began).total_seconds()}


@pytest.mark.parametrize(
    ("name", "usual"),
    [
        ("runpod", {"listed": 4, "address": BOOT, "private": BOOT + 20, "unlisted": 0}),
        ("lambda", {"listed": 0, "address": BOOTING, "private": BOOTING + 20, "unlisted": 5}),
    ],
)
def test_a_machine_lives_as_was_seen(name: str, usual: dict[str, int]):
    """List, address, private address and end come after the seconds that were seen, else after those made up here."""
    with clouds(name) as (bench, provider):
        found = life(bench, provider)
        assert found == {key: pytest.approx(second, abs=LOOK_S + 2) for key, second in usual.items()}
    seen = {"listed_s": 30, "address_s": 80, "private_s": 200, "unlisted_s": 40}
    with clouds(name, **seen) as (bench, provider):
        found = life(bench, provider)
        assert found == {key.removesuffix("_s"): pytest.approx(second, abs=LOOK_S + 2) for key, second in seen.items()}


@pytest.mark.parametrize("name", ["runpod", "lambda"])
def test_a_private_address_that_never_came_never_comes(name: str):
    """A machine is up, and has none for as long as it is looked at."""
    with clouds(name, private_never=True) as (bench, provider):
        assert "private" not in life(bench, provider)


def test_tier_quota_and_bids_are_those_that_were_seen():
    """A volume of no named kind gets that tier; the API allows so many requests; types without a bid have none."""
    with clouds("runpod") as (bench, provider):
        assert provider.facts().quotas == {"minute": 60, "hour": 3_000, "day": 50_000}
        assert A100 in (provider.facts().bids or {})
        provider.create_volume("gpuplan-v", 10, "EU-RO-1")
        assert [v.tier for v in provider.volumes()] == ["HIGH_PERFORMANCE"]
    bids = {RTX: Decimal("0.21")}
    with clouds("runpod", volume_tier="STANDARD", quotas={"minute": 99}, bids=bids) as (bench, provider):
        assert provider.facts() == Facts(quotas={"minute": 99, "hour": 3_000, "day": 50_000}, bids=bids)
        provider.create_volume("gpuplan-v", 10, "EU-RO-1")
        assert [v.tier for v in provider.volumes()] == ["STANDARD"]
        assert {o.type_id for o in provider.offers(gpus=1, spot=True)} == {RTX}
        assert bench.clouds.calls[0].status == 200
    with clouds("runpod", bids={}) as (bench, provider):
        assert provider.facts().bids == {}


def test_the_firewall_is_the_one_that_was_seen():
    """Its rules are told as they were written down."""
    with clouds("lambda") as (_, provider):
        assert provider.facts().firewall == ("tcp 22 from 0.0.0.0/0", "icmp from 0.0.0.0/0")
    rules = ("tcp 1-65535 from 10.0.0.0/8",)
    with clouds("lambda", firewall=rules) as (_, provider):
        assert provider.facts().firewall == rules


@pytest.mark.parametrize(("shown", "expected"), [("10", "50"), ("250000", "250000")])
def test_a_machine_is_shown_the_quota_or_the_pool(shown: str, expected: str):
    """Where the volume's own size was seen, every volume shows its own; where the pool was, that."""
    with clouds("runpod", volume_gb=10, disk_gb=Decimal(shown), address_s=5) as (bench, provider):
        volume = provider.create_volume("gpuplan-v", 50, "EU-RO-1")
        offer = next(o for o in provider.offers(gpus=1, spot=False) if o.place == "EU-RO-1" and o.available)
        bench.rent(provider, offer=offer, volume_id=volume, volume_name="gpuplan-v")
        bench.wait(60)
        assert bench.booted[0].spec.disk_gb == Decimal(expected)


def test_fixtures_are_read_back_as_they_were_written(tmp_path: Path):
    """One file a provider; one that is none is named."""
    one = Observed(provider="runpod", listed_s=7.5, bids={RTX: Decimal("0.21")}, firewall=("icmp from 0.0.0.0/0",))
    assert one.save(tmp_path / "new") == tmp_path / "new" / "runpod.json"
    assert load(tmp_path / "new") == {"runpod": one}
    (tmp_path / "new" / "other.json").write_text('{"provider": "other", "surprise": 1}')
    with pytest.raises(UsageError, match=r"other\.json is not what doctor --live writes"):
        load(tmp_path / "new")
