"""Which machine on sale serves a phase, and at which place all phases are served."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from decimal import Decimal

from orchestrator.plan.resolve import PhaseRun, StepRun
from orchestrator.words.errors import NoMachine
from orchestrator.words.model import GPU_MEMORY_GB, MachineNeed, Phase, Plan, RunsOn
from orchestrator.words.provider import Offer

MachineRequest = tuple[MachineNeed, Sequence[Offer]]  # what is needed, and what is `ranked` for it


def memory_of(gpu: str) -> int:
    """Return the GB of one GPU by gpuplan's name; 0: the name is new to us, or it is none."""
    return GPU_MEMORY_GB.get(gpu, 0)


def fits(need: MachineNeed, offer: Offer) -> bool:
    """Whether the machine has the GPUs and the memory that are needed: the least memory of the wanted types."""
    if not need.gpu:
        return True
    return offer.gpus >= need.count and max(offer.memory_gb, memory_of(offer.gpu)) >= least_memory(need)


def with_disk(offer: Offer, size_gb: int) -> Offer:
    """Return the machine with an own disk of so many GB, or as many as it can have, in its price."""
    disk_hour = (min(size_gb, offer.most_disk_gb or size_gb) * offer.disk_gb_hour).normalize()
    return replace(offer, price_hour=offer.price_hour - offer.disk_hour + disk_hour, disk_hour=disk_hour)


def bare(need: MachineNeed) -> MachineNeed:
    """What is needed to look at what was done: one machine without GPU, otherwise the same."""
    return need.model_copy(update={"gpu": (), "nodes": 1})


def serves(machine: MachineNeed, own: MachineNeed, run: StepRun) -> bool:
    """Whether a step that is written for the machine `own` may run on one that was asked for as `machine`."""
    if run.step.on is not RunsOn.ROOT and machine.nodes < own.nodes:
        return False
    if not run.step.gpu or not own.gpu:
        return True
    return bool(machine.gpu) and machine.count >= own.count and least_memory(machine) >= least_memory(own)


def misplaced(plan: Plan, run: PhaseRun, done: Collection[str]) -> tuple[StepRun, ...]:
    """The steps of other phases, still to do, that the machine of this phase is too small for."""
    machine = run.phase.machine
    pulled = [step for step in run.pulled_in if step.id not in done]
    return tuple(step for step in pulled if not serves(machine, plan.phase(step.phase).machine, step))


def least_memory(need: MachineNeed) -> int:
    """GB of memory that each GPU has at least."""
    return min(memory_of(gpu) for gpu in need.gpu)


def kinds(phase: Phase, *, spot: bool, spot_or_demand: bool) -> tuple[bool, ...]:
    """Return what may be rented for a phase, best first: True interruptible machines, False others.

    `spot`, `spot_or_demand`: what was asked of the run; the phase's own word goes before it. CPU machines are never
    interruptible ones.
    """
    if not phase.machine.gpu:
        return (False,)
    if phase.spot is not None:
        return (phase.spot,)
    return (True, False) if spot_or_demand else (spot,)


def choose_places(requests: Sequence[MachineRequest], *, spot: bool = False, network: bool = False) -> list[str]:
    """Return the places that sell every phase's machine; first that where they cost the least an hour together.

    `spot`, `network`: whether only interruptible machines, or only places with a private network, were looked at.
    NoMachine: no place does; the message says for each phase where its machine is sold.
    """
    best: list[dict[str, Decimal]] = [_prices(need, offers) for need, offers in requests]
    common = set(best[0]).intersection(*best[1:]) if best else set()
    if not common:
        sold = [f"{described(need)}: {_listed(prices)}" for (need, _), prices in zip(requests, best, strict=True)]
        missing = [need for (need, _), prices in zip(requests, best, strict=True) if not prices]
        raise NoMachine(
            f"no place {'with a private network ' if network else ''}sells the machine of every phase now\n  "
            + "\n  ".join(dict.fromkeys(sold)),
            remedy=_remedy(missing, spot=spot),
        )
    return sorted(sorted(common), key=lambda place: sum(prices[place] for prices in best))


def networked(plan: Plan, phases: Iterable[Phase]) -> bool:
    """Whether these phases' volumes must lie where machines can have a private network.

    A volume cannot move: where any phase of the plan that shares one has several nodes, it is made there at once.
    """
    volumes = {p.volume.name for p in phases if p.volume}
    return any(p.volume and p.volume.name in volumes and p.machine.nodes > 1 for p in plan.phases)


def described(need: MachineNeed) -> str:
    """Return the need in words: `2x A100-80GB or H100-80GB, 2 nodes`."""
    machine = f"{need.count}x {' or '.join(need.gpu)}" if need.gpu else "a machine without GPU"
    return f"{machine}, {need.nodes} nodes" if need.nodes > 1 else machine


def _prices(need: MachineNeed, offers: Sequence[Offer]) -> dict[str, Decimal]:
    """Place -> USD an hour of all nodes, for the machine that would be taken there."""
    prices: dict[str, Decimal] = {}
    for offer in offers:
        if offer.available:
            prices.setdefault(offer.place, offer.price_hour * need.nodes)
    return prices


def _listed(prices: dict[str, Decimal]) -> str:
    return ", ".join(sorted(prices)) or "nowhere"


def _remedy(missing: Sequence[MachineNeed], *, spot: bool) -> str:
    if missing and spot:
        return "interruptible machines are not sold for it: try --spot-or-demand, or leave --spot out"
    if missing:
        return "try later, name another GPU type in the phase, or another provider with --provider"
    return "name GPU types that one place sells together, or another provider with --provider"
