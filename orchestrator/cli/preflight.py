"""Before any money is spent: which provider and place serve every phase, and what it will cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from orchestrator.plan import PhaseRun, bare, candidates, choose_places, kinds, may_stage, ranked, staging_need
from orchestrator.plan.machines import MachineRequest, described
from orchestrator.plan.sorting import Key
from orchestrator.words.errors import AccountRefused, NoCapacity, NoMachine, ProviderUnavailable
from orchestrator.words.model import MachineNeed, Phase
from orchestrator.words.provider import Capability, Offer, Provider


@dataclass(frozen=True, slots=True)
class Choice:
    """Where the run will be; for each phase the machine that is tried first, and what the dearest one costs."""

    provider: Provider
    place: str | None
    offers: dict[str, Offer]
    dearest: dict[str, Decimal]  # USD an hour of one machine
    looked_at: frozenset[str] = frozenset()  # phases with nothing left to run that get a machine without GPU
    staged: frozenset[str] = frozenset()  # phases whose steps without GPU run on a CPU machine
    cpu: Offer | None = None  # the CPU machine that is tried first at that place; None: none is sold there
    dearest_cpu: Decimal | None = None  # USD an hour of the dearest of them there
    passed_over: tuple[str, ...] = ()  # providers that would have been taken first, each with the reason
    movable: bool = False  # a volume will fix the place, which no volume has fixed yet, and others serve all of it too


def choose(
    phases: Sequence[PhaseRun],
    providers: Sequence[Provider],
    *,
    spot: bool,
    spot_or_demand: bool,
    place: str | None,
    network: bool,
    cuda: Mapping[str, str],
    done: Collection[str] = (),
    rests: Mapping[Key, str] | None = None,
    strictly: bool = False,
) -> Choice:
    """The first provider, in the order of preference, that serves all phases. NoMachine: each one's reason.

    NoCapacity: ... of which one may pass.

    `place`: where the plan's volume already is; None: free to choose, `network`: among those with a private one.
    `cuda`: provider -> the least that its machines' drivers must know. `done`: ids of the steps that are.
    `rests`, `strictly`: see plan.sorted_out.
    """
    reasons: list[str] = []
    kind: type[NoMachine] = NoMachine
    for provider in providers:
        try:
            found = served(
                phases, provider, spot=spot, spot_or_demand=spot_or_demand, place=place, network=network,
                cuda=cuda.get(provider.name, ""), done=done, rests=rests, strictly=strictly,
            )  # fmt: skip
            return replace(found, passed_over=tuple(reasons))
        except (AccountRefused, NoMachine, ProviderUnavailable) as error:
            reasons.append(f"{provider.name}: {error.message}")
            kind = kind if isinstance(error, AccountRefused) else NoCapacity
    raise kind(
        "no provider serves this run\n  " + "\n  ".join(reasons), remedy=_remedy(spot=spot, fixed=place is not None)
    )


def served(
    phases: Sequence[PhaseRun],
    provider: Provider,
    *,
    spot: bool,
    spot_or_demand: bool,
    place: str | None,
    network: bool,
    cuda: str,
    done: Collection[str] = (),
    rests: Mapping[Key, str] | None = None,
    strictly: bool = False,
) -> Choice:
    """What one provider has for all phases: see `choose`. NoMachine: why it does not serve one of them.

    ProviderUnavailable, AccountRefused: it does not answer, or not to us.
    """
    ran = frozenset(p.phase.name for p in phases if all(s.id in done for s in p.steps))
    asked = _Asked(phases, provider, place, spot, spot_or_demand, cuda, rests or {}, strictly)
    return asked.choice(ran, network=network)


@dataclass
class _Asked:
    """One provider, asked for the machines of these phases."""

    phases: Sequence[PhaseRun]
    provider: Provider
    place: str | None
    spot: bool
    spot_or_demand: bool
    cuda: str
    rests: Mapping[Key, str] = field(default_factory=dict)
    strictly: bool = False
    answers: dict[tuple[int, bool], list[Offer]] = field(default_factory=dict)  # by GPUs and kind

    def choice(self, ran: frozenset[str], *, network: bool) -> Choice:
        """What it has for them. NoMachine: it does not serve one; ProviderUnavailable: it does not answer."""
        provider, place = self.provider, self.place
        looking = _lookers(self.phases, provider, place, ran)
        phases = [p.phase for p in self.phases if p.phase.name not in looking]
        self._require_sold(phases)
        on_sale = {p.name: self._on_sale(p) for p in phases}
        staging = [p for p in self.phases if p.phase.name not in looking and provider.rented and may_stage(p)]
        cpus = self._cpus() if staging or looking else []
        movable = False
        if place is None and any(p.volume for p in phases) and _has(provider, Capability.VOLUMES):
            anywhere = [(p.machine, self._ranked(p, on_sale, None)) for p in phases]
            if network:
                anywhere = [(need, [o for o in offers if o.private_network]) for need, offers in anywhere]
            place, *others = self._choose_places(
                anywhere, [(staging_need(p.phase), cpus) for p in staging], phases, network=network
            )
            movable = bool(others)
        cpu = next((o for o in cpus if o.available and place in (None, o.place)), None)
        found = {p.name: self._ranked(p, on_sale, place) for p in phases}
        for phase in phases:
            if not found[phase.name]:
                where = f" in {place}" if place else ""
                where += " with a private network" if phase.machine.nodes > 1 else ""
                bound = f" for ${phase.max_usd_hour} an hour" if phase.max_usd_hour else ""
                raise NoMachine(f"{phase.name} needs {described(phase.machine)}: not sold{where}{bound}")
        found |= looking
        return Choice(
            provider=provider,
            place=place,
            offers={name: offers[0] for name, offers in found.items()},
            dearest={name: max(offer.price_hour for offer in offers) for name, offers in found.items()},
            looked_at=frozenset(looking),
            staged=frozenset(p.phase.name for p in staging) if cpu else frozenset(),
            movable=movable,
            cpu=cpu,
            dearest_cpu=max((o.price_hour for o in cpus if place in (None, o.place)), default=None),
        )

    def _ranked(
        self, phase: Phase, on_sale: Mapping[str, list[tuple[bool, list[Offer]]]], place: str | None
    ) -> list[Offer]:
        return ranked(phase, on_sale[phase.name], place=place, rests=self.rests, strictly=self.strictly)

    def _choose_places(
        self,
        requests: Sequence[MachineRequest],
        staging: Sequence[MachineRequest],
        phases: Sequence[Phase],
        *,
        network: bool,
    ) -> list[str]:
        """Places that sell CPU machines too, if there are any."""
        spot = self._only_spot(phases)
        try:
            return choose_places([*requests, *staging], spot=spot, network=network)
        except NoMachine:
            return choose_places(requests, spot=spot, network=network)

    def _cpus(self) -> list[Offer]:
        """The machines without GPU, cheapest first, with the largest disk that a phase asks for."""
        sold = self.provider.offers(gpus=0, spot=False)
        need = MachineNeed(disk_gb=max(p.phase.machine.disk_gb for p in self.phases))
        return candidates(need, sold, place=None, spot=False, rests=self.rests, strictly=self.strictly)

    def _kinds(self, phase: Phase) -> tuple[bool, ...]:
        return kinds(phase, spot=self.spot, spot_or_demand=self.spot_or_demand)

    def _only_spot(self, phases: Sequence[Phase]) -> bool:
        """Whether one of them takes nothing but interruptible machines."""
        return any(False not in self._kinds(p) for p in phases)

    def _require_sold(self, phases: Sequence[Phase]) -> None:
        if self._only_spot(phases) and not _has(self.provider, Capability.SPOT):
            raise NoMachine("it does not sell interruptible machines")
        if any(p.machine.nodes > 1 for p in phases) and not _has(self.provider, Capability.PRIVATE_NETWORK):
            raise NoMachine("several nodes need a private network, which it does not have")

    def _on_sale(self, phase: Phase) -> list[tuple[bool, list[Offer]]]:
        """What is sold with as many GPUs as are needed, by kind; each question is asked once."""
        gpus = phase.machine.count if phase.machine.gpu else 0
        for kind in self._kinds(phase):
            if (gpus, kind) not in self.answers:
                self.answers[gpus, kind] = self.provider.offers(gpus=gpus, spot=kind, min_cuda=self.cuda)
        return [(kind, self.answers[gpus, kind]) for kind in self._kinds(phase)]


def _has(provider: Provider, capability: Capability) -> bool:
    return capability in provider.capabilities


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


def _remedy(*, spot: bool, fixed: bool) -> str:
    if spot:
        return "leave --spot out, or take --spot-or-demand"
    elsewhere = "; --move PLACE starts over at another place" if fixed else ""
    return f"try later, another --provider or another GPU type{elsewhere}"
