"""Decisions about a plan, without touching the world: which steps, which machines, how long, for how much."""

from orchestrator.plan.estimate import estimate, makespan, measured_rates
from orchestrator.plan.keys import accepted_keys, done_keys
from orchestrator.plan.machines import (
    bare,
    candidates,
    choose_place,
    described,
    fits,
    kinds,
    memory_of,
    misplaced,
    networked,
    ranked,
    serves,
)
from orchestrator.plan.outlook import PhasePreview, Preview, StepPreview
from orchestrator.plan.preview import Market, preview
from orchestrator.plan.resolve import ALL, PhaseRun, StepRun, forced, resolve

__all__ = [
    "ALL",
    "Market",
    "PhasePreview",
    "PhaseRun",
    "Preview",
    "StepPreview",
    "StepRun",
    "accepted_keys",
    "bare",
    "candidates",
    "choose_place",
    "described",
    "done_keys",
    "estimate",
    "fits",
    "forced",
    "kinds",
    "makespan",
    "measured_rates",
    "memory_of",
    "misplaced",
    "networked",
    "preview",
    "ranked",
    "resolve",
    "serves",
]
