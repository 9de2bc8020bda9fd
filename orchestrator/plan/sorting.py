"""What of everything on sale would be tried for a machine, in which order, and why the rest would not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from orchestrator.plan.machines import fits, least_memory, memory_of, with_disk
from orchestrator.words.model import MachineNeed, Phase
from orchestrator.words.provider import Offer

Key = tuple[str, str, str, bool]  # provider, type, place, interruptible


class Reason(StrEnum):
    """Why a machine on sale would not be tried."""

    TOO_SMALL = "too small"
    ELSEWHERE = "elsewhere"
    NO_NETWORK = "no private network"
    TOO_DEAR = "too dear"
    RESTS = "failed a while ago"


@dataclass(frozen=True)
class LeftOut:
    """One machine on sale that would not be tried. `why`: in words."""

    offer: Offer
    reason: Reason
    why: str


def key_of(offer: Offer) -> Key:
    """What is left out for a while when it failed: a type at a place."""
    return offer.provider, offer.type_id, offer.place, offer.spot


def sorted_out(
    phase: Phase,
    sold: Iterable[tuple[bool, Sequence[Offer]]],
    *,
    place: str | None,
    rests: Mapping[Key, str] | None = None,
    strictly: bool = False,
) -> tuple[list[Offer], list[LeftOut]]:
    """Return what would be tried, the first in front, and the rest with the reasons.

    `sold`: kind (interruptible or not), its offers, best kind first. place None: anywhere. `rests`: what failed a while
    ago, and how: left out as long as anything else would do, and `strictly`, whether anything else would or not.

    Wanted types come in the order of preference, other types that fit after them; within a type the cheapest is first.
    Machines with more GPUs than needed come later, and what the catalogue calls sold out last: it may be wrong.
    The disk that the phase asks for is in the price of each.
    """
    kept: list[Offer] = []
    out: list[LeftOut] = []
    for kind, offers in sold:
        mine = [with_disk(offer, phase.machine.disk_gb) for offer in offers if offer.spot == kind]
        found = [(offer, _against(phase, offer, place)) for offer in mine]
        kept += sorted((offer for offer, left in found if left is None), key=_order(phase.machine))
        out += [left for _, left in found if left]
    kept.sort(key=lambda offer: not offer.available)
    tired = [offer for offer in kept if key_of(offer) in (rests or {})]
    if rests and (strictly or len(tired) < len(kept)):
        out += [LeftOut(offer, Reason.RESTS, rests[key_of(offer)]) for offer in tired]
        kept = [offer for offer in kept if key_of(offer) not in rests]
    return kept, out


def ranked(
    phase: Phase,
    sold: Iterable[tuple[bool, Sequence[Offer]]],
    *,
    place: str | None,
    rests: Mapping[Key, str] | None = None,
    strictly: bool = False,
) -> list[Offer]:
    """Return what would be tried, the first in front: see `sorted_out`."""
    return sorted_out(phase, sold, place=place, rests=rests, strictly=strictly)[0]


def candidates(
    need: MachineNeed,
    offers: Iterable[Offer],
    *,
    place: str | None,
    spot: bool,
    rests: Mapping[Key, str] | None = None,
    strictly: bool = False,
) -> list[Offer]:
    """Return the offers of one kind that serve the need, the one to try first in front. place None: anywhere."""
    phase = Phase(name="any", steps=(), machine=need)
    return ranked(phase, [(spot, list(offers))], place=place, rests=rests, strictly=strictly)


def _order(need: MachineNeed) -> Callable[[Offer], tuple[object, ...]]:
    ranks = {gpu: rank for rank, gpu in enumerate(need.gpu)}

    def order(offer: Offer) -> tuple[bool, bool, int, Decimal, str, str]:
        larger = bool(need.gpu) and offer.gpus > need.count
        rank = ranks.get(offer.gpu, len(ranks))
        return not offer.available, larger, rank, offer.price_hour, offer.type_id, offer.place

    return order


def _against(phase: Phase, offer: Offer, place: str | None) -> LeftOut | None:
    """What speaks against a machine; None: nothing."""
    need, most = phase.machine, phase.max_usd_hour
    if not fits(need, offer):
        if offer.gpus < need.count:
            return LeftOut(offer, Reason.TOO_SMALL, f"{offer.gpus} GPUs, {need.count} are needed")
        has = max(offer.memory_gb, memory_of(offer.gpu))
        return LeftOut(offer, Reason.TOO_SMALL, f"{has} GB a GPU, {least_memory(need)} are needed")
    if place not in {None, offer.place}:
        return LeftOut(offer, Reason.ELSEWHERE, f"in {offer.place}, not in {place}")
    if need.nodes > 1 and not offer.private_network:  # they must reach each other
        return LeftOut(offer, Reason.NO_NETWORK, f"{offer.place} has no private network, {need.nodes} nodes need one")
    if most is not None and (usd := offer.price_hour * need.nodes) > most:
        return LeftOut(offer, Reason.TOO_DEAR, f"${usd:.4f} an hour, at most ${most} are wanted")
    return None
