"""Small phases, steps and offers to decide about."""

from __future__ import annotations

from decimal import Decimal

from orchestrator.words.model import MachineNeed, Phase, Step, VolumeNeed
from orchestrator.words.provider import Offer

VOLUME = VolumeNeed(name="v", size_gb=10)


def offer(
    gpu: str,
    price: str,
    *,
    gpus: int = 1,
    memory: int = 0,
    place: str = "A",
    spot: bool = False,
    available: bool = True,
) -> Offer:
    return Offer("p", f"{gpu}-type", gpu, gpus, memory, Decimal(price), place, spot, available)


def phase(
    name: str,
    *steps: Step,
    machine: MachineNeed | None = None,
    env: dict[str, str] | None = None,
    secrets: tuple[str, ...] = (),
) -> Phase:
    return Phase(
        name=name, steps=steps, volume=VOLUME, machine=machine or MachineNeed(), env=env or {}, secrets=secrets
    )


def step(name: str, *needs: str, **more: object) -> Step:
    return Step.model_validate({"name": name, "run": f"make {name}", "needs": needs, **more})
