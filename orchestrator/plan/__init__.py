"""Decisions about a plan, without touching the world: which steps, which machines, how long, for how much."""

from orchestrator.plan.keys import done_keys
from orchestrator.plan.machines import candidates, choose_place, described, fits, memory_of
from orchestrator.plan.resolve import ALL, PhaseRun, StepRun, resolve

__all__ = [
    "ALL",
    "PhaseRun",
    "StepRun",
    "candidates",
    "choose_place",
    "described",
    "done_keys",
    "fits",
    "memory_of",
    "resolve",
]
