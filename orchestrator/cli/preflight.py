"""Before any money is spent: which provider and place serve every phase, and what it will cost."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal

from orchestrator.plan import PhaseRun, bare, candidates, choose_place
from orchestrator.plan.machines import described
from orchestrator.words.errors import AccountRefused, NoMachine, ProviderUnavailable
from orchestrator.words.ports import Capability, Offer, Provider


@dataclass(frozen=True, slots=True)
class Choice:
    """Where the run will be; for each phase the machine that is tried first, and what the dearest one costs."""

    provider: Provider
    place: str | None
    offers: dict[str, Offer]
    dearest: dict[str, Decimal]  # USD an hour of one machine
    looked_at: frozenset[str] = frozenset()  # phases with nothing left to run that get a machine without GPU


def choose(
    phases: Sequence[PhaseRun],
    providers: Sequence[Provider],
    *,
    spot: bool,
    spot_or_demand: bool,
    place: str | None,
    done: Collection[str] = (),
) -> Choice:
    """The first provider, in the order of preference, that serves all phases. NoMachine: each one's reason.

    `place`: where the plan's volume already is; None: free to choose. `done`: ids of the steps that are.
    """
    ran = frozenset(p.phase.name for p in phases if all(s.id in done for s in p.steps))
    reasons = []
    for provider in providers:
        for interruptible in (True, False) if spot_or_demand else (spot,):
            try:
                return _choose(phases, provider, interruptible, place, ran)
            except AccountRefused as error:
                reasons.append(f"{provider.name}: {error.message}")
                break
            except (NoMachine, ProviderUnavailable) as error:
                reasons.append(f"{provider.name}: {error.message}")
    raise NoMachine("no provider serves this run\n  " + "\n  ".join(reasons), remedy=_remedy(spot=spot))


def _choose(
    phases: Sequence[PhaseRun], provider: Provider, spot: bool, place: str | None, ran: frozenset[str]
) -> Choice:
    if spot and Capability.SPOT not in provider.capabilities:
        raise NoMachine("it does not sell interruptible machines")
    looking = _lookers(phases, provider, place, ran)
    phases = [p for p in phases if p.phase.name not in looking]
    needs = [p.phase.machine for p in phases]
    if any(n.nodes > 1 for n in needs) and Capability.PRIVATE_NETWORK not in provider.capabilities:
        raise NoMachine("several nodes need a private network, which it does not have")
    on_sale = {n: provider.offers(gpus=n.count if n.gpu else 0, spot=spot) for n in set(needs)}
    if place is None and any(p.phase.volume for p in phases) and needs and Capability.VOLUMES in provider.capabilities:
        place = choose_place([(n, on_sale[n]) for n in needs], spot=spot)
    offers = {name: found[0] for name, found in looking.items()}
    dearest = {name: max(offer.price_hour for offer in found) for name, found in looking.items()}
    for phase in phases:
        need = phase.phase.machine
        found = candidates(need, on_sale[need], place=place, spot=spot)
        if not found:
            raise NoMachine(f"{phase.phase.name} needs {described(need)}: not sold{f' in {place}' if place else ''}")
        offers[phase.phase.name] = found[0]
        dearest[phase.phase.name] = max(offer.price_hour for offer in found)
    return Choice(provider, place, offers, dearest, frozenset(looking))


def _lookers(
    phases: Sequence[PhaseRun], provider: Provider, place: str | None, ran: frozenset[str]
) -> dict[str, list[Offer]]:
    """Phases of which nothing is left to run -> the machines without GPU that can look at what was done."""
    found: dict[str, list[Offer]] = {}
    if ran and provider.rented:
        on_sale = provider.offers(gpus=0, spot=False)
        for phase in (p.phase for p in phases if p.phase.name in ran):
            offers = candidates(bare(phase.machine), on_sale, place=place, spot=False)
            if offers and offers[0].available:
                found[phase.name] = offers
    return found


def _remedy(*, spot: bool) -> str:
    return "leave --spot out, or take --spot-or-demand" if spot else "try later, another --provider or another GPU type"
