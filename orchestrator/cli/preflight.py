"""Before any money is spent: which provider and place serve every phase, and what it will cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from orchestrator.plan import PhaseRun, candidates, choose_place
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


def choose(
    phases: Sequence[PhaseRun], providers: Sequence[Provider], *, spot: bool, spot_or_demand: bool, place: str | None
) -> Choice:
    """The first provider, in the order of preference, that serves all phases. NoMachine: each one's reason.

    `place`: where the plan's volume already is; None: free to choose.
    """
    reasons = []
    for provider in providers:
        for interruptible in (True, False) if spot_or_demand else (spot,):
            try:
                return _choose(phases, provider, interruptible, place)
            except AccountRefused as error:
                reasons.append(f"{provider.name}: {error.message}")
                break
            except (NoMachine, ProviderUnavailable) as error:
                reasons.append(f"{provider.name}: {error.message}")
    raise NoMachine("no provider serves this run\n  " + "\n  ".join(reasons), remedy=_remedy(spot=spot))


def _choose(phases: Sequence[PhaseRun], provider: Provider, spot: bool, place: str | None) -> Choice:
    if spot and Capability.SPOT not in provider.capabilities:
        raise NoMachine("it does not sell interruptible machines")
    needs = [p.phase.machine for p in phases]
    if any(n.nodes > 1 for n in needs) and Capability.PRIVATE_NETWORK not in provider.capabilities:
        raise NoMachine("several nodes need a private network, which it does not have")
    on_sale = {n: provider.offers(gpus=n.count if n.gpu else 0, spot=spot) for n in set(needs)}
    if place is None and any(p.phase.volume for p in phases) and Capability.VOLUMES in provider.capabilities:
        place = choose_place([(n, on_sale[n]) for n in needs], spot=spot)
    offers, dearest = {}, {}
    for phase in phases:
        need = phase.phase.machine
        found = candidates(need, on_sale[need], place=place, spot=spot)
        if not found:
            raise NoMachine(f"{phase.phase.name} needs {described(need)}: not sold{f' in {place}' if place else ''}")
        offers[phase.phase.name] = found[0]
        dearest[phase.phase.name] = max(offer.price_hour for offer in found)
    return Choice(provider, place, offers, dearest)


def _remedy(*, spot: bool) -> str:
    return "leave --spot out, or take --spot-or-demand" if spot else "try later, another --provider or another GPU type"
