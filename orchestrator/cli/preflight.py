"""Before any money is spent: which provider and place serve every phase, and what it will cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from orchestrator.plan import PhaseRun, choose_place, kinds, wanted
from orchestrator.plan.machines import described
from orchestrator.words.errors import AccountRefused, NoMachine, ProviderUnavailable
from orchestrator.words.model import Phase
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
    buys = {p.phase.name: kinds(p.phase, spot=spot, spot_or_demand=spot_or_demand) for p in phases}
    for provider in providers:
        try:
            return _choose([p.phase for p in phases], provider, buys, place)
        except (AccountRefused, NoMachine, ProviderUnavailable) as error:
            reasons.append(f"{provider.name}: {error.message}")
    raise NoMachine("no provider serves this run\n  " + "\n  ".join(reasons), remedy=_remedy(spot=spot))


def _choose(
    phases: Sequence[Phase], provider: Provider, buys: Mapping[str, Sequence[bool]], place: str | None
) -> Choice:
    """`buys`: phase -> the kinds of machine that may be rented for it (`plan.kinds`)."""
    only_spot = any(False not in kind for kind in buys.values())
    if only_spot and Capability.SPOT not in provider.capabilities:
        raise NoMachine("it does not sell interruptible machines")
    if any(p.machine.nodes > 1 for p in phases) and Capability.PRIVATE_NETWORK not in provider.capabilities:
        raise NoMachine("several nodes need a private network, which it does not have")
    asked = {(p.machine.count if p.machine.gpu else 0, spot) for p in phases for spot in buys[p.name]}
    on_sale = {one: provider.offers(gpus=one[0], spot=one[1]) for one in sorted(asked)}
    sold = {
        p.name: [o for spot in buys[p.name] for o in on_sale[p.machine.count if p.machine.gpu else 0, spot]]
        for p in phases
    }
    if place is None and any(p.volume for p in phases) and Capability.VOLUMES in provider.capabilities:
        found_anywhere = [(p.machine, wanted(p, sold[p.name], buys[p.name], place=None)) for p in phases]
        place = choose_place(found_anywhere, spot=only_spot)
    offers, dearest = {}, {}
    for phase in phases:
        found = wanted(phase, sold[phase.name], buys[phase.name], place=place)
        if not found:
            where = f" in {place}" if place else ""
            bound = f" for ${phase.max_usd_hour} an hour" if phase.max_usd_hour else ""
            raise NoMachine(f"{phase.name} needs {described(phase.machine)}: not sold{where}{bound}")
        offers[phase.name] = found[0]
        dearest[phase.name] = max(offer.price_hour for offer in found)
    return Choice(provider, place, offers, dearest)


def _remedy(*, spot: bool) -> str:
    return "leave --spot out, or take --spot-or-demand" if spot else "try later, another --provider or another GPU type"
