"""RunPod's price lists as offers: one per type and data centre."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from orchestrator.cost import gb_hour
from orchestrator.providers import gpu_names
from orchestrator.words.provider import Offer

DISK_GB_PER_VCPU = 10  # of a CPU pod's own disk, on the older flavours; the newer ones allow more
DISK_GB_HOUR = gb_hour(Decimal("0.10"))  # of any pod's own disk, while it runs: accounts-billing/billing.mdx
MIN_VCPUS = 8  # a phase has 50 GB unless it asks for less
VCPUS_A_GPU, GB_A_GPU = 4, 16  # asked for at least; and no less memory than the card has
NOT_IN_STOCK = "NONE"

Row = dict[str, Any]


def gpu_offers(types: list[Row], centres: list[Row], gpus: int) -> list[Offer]:
    """Machines with `gpus` NVIDIA GPUs each on Secure Cloud, cheapest first."""
    found = []
    for row in types:
        if row.get("manufacturer", "NVIDIA").upper() != "NVIDIA" or not row["secure"]:
            continue
        if row["maxCount"]["secure"] < gpus or not row["price"]["secure"]:
            continue
        base = Offer(
            provider="runpod",
            type_id=row["id"],
            gpu=gpu_names.from_runpod(row["id"], row["memory"]),
            gpus=gpus,
            memory_gb=row["memory"],
            price_hour=Decimal(row["price"]["secure"]) * gpus,
            place="",
            disk_gb_hour=DISK_GB_HOUR,
        )
        found += _at_places(base, row, centres, "gpuAvailability")
    return _sorted(found)


def cpu_offers(flavours: list[Row], centres: list[Row]) -> list[Offer]:
    """CPU machines of each flavour, at each power of two of vCPUs that is large enough, cheapest first."""
    found = []
    for row in flavours:
        smallest = max(row["vcpu"]["min"], min(MIN_VCPUS, row["vcpu"]["max"]))
        for vcpus in (2**n for n in range(1, 10)):
            if smallest <= vcpus <= row["vcpu"]["max"]:
                base = Offer(
                    provider="runpod",
                    type_id=f"{row['id']}:{vcpus}",
                    gpu="",
                    gpus=0,
                    memory_gb=0,
                    price_hour=Decimal(row["price"]["securePerVcpu"]) * vcpus,
                    place="",
                    disk_gb_hour=DISK_GB_HOUR,
                    most_disk_gb=most_disk_gb(vcpus),
                )
                found += _at_places(base, row, centres, "cpuAvailability")
    return _sorted(found)


def least_ram_gb(offer: Offer) -> int:
    """GB of the host's memory to ask for, for each GPU: a model passes through it on its way to the card."""
    return max(offer.memory_gb, GB_A_GPU)


def most_disk_gb(vcpus: int) -> int:
    """GB that a CPU pod's own disk may have."""
    return vcpus * DISK_GB_PER_VCPU


def cpu_type(type_id: str) -> tuple[str, int]:
    """Flavour and vCPUs of a CPU offer's type id."""
    flavour, _, vcpus = type_id.rpartition(":")
    return flavour, int(vcpus)


def spot_offers(on_demand: list[Offer], bids: dict[str, Decimal]) -> list[Offer]:
    """The same places at the lowest bid per GPU, for the types that still have one; cheapest first."""
    offers = [replace(o, spot=True, price_hour=bids[o.type_id] * o.gpus) for o in on_demand if o.type_id in bids]
    return sorted(offers, key=lambda o: (o.price_hour, not o.available))


def _at_places(base: Offer, row: Row, centres: list[Row], stock_key: str) -> list[Offer]:
    """The offer at each data centre with ordinary network volumes that lists the type.

    The type's own row says where it is in stock for this many GPUs; a centre that lists the type but is not there
    is offered as not available, so that a preview can tell "sold out" from "not sold".
    """
    stock = {place["id"]: place["availability"] for place in row.get("dataCenters") or []}
    offers = []
    for centre in centres:
        if "STANDARD" not in (centre.get("networkVolumeTypes") or ()):
            continue
        listed = any(item["id"] == row["id"] for item in centre.get(stock_key) or [])
        if centre["id"] in stock or listed:
            level = stock.get(centre["id"], NOT_IN_STOCK)
            offers.append(
                replace(
                    base,
                    place=centre["id"],
                    available=level != NOT_IN_STOCK,
                    private_network=bool(centre.get("globalNetwork")),
                    stock=level,
                )
            )
    return offers


def _sorted(offers: list[Offer]) -> list[Offer]:
    """Cheapest first; among equals what is in stock, then where machines can have a private network."""
    return sorted(offers, key=lambda o: (o.price_hour, not o.available, not o.private_network, o.place))
