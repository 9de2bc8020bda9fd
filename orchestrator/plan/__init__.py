"""Decisions about a plan, without touching the world: which steps, which machines, how long, for how much."""

from orchestrator.plan.crews import Crew, crews_for, crews_of, may_stage, staging_need
from orchestrator.plan.estimate import estimate, measured_rates
from orchestrator.plan.keys import accepted_keys, done_keys
from orchestrator.plan.machines import (
    bare,
    choose_places,
    described,
    fits,
    kinds,
    memory_of,
    misplaced,
    networked,
    serves,
    with_disk,
)
from orchestrator.plan.outlook import PhasePreview, Preview, StepPreview
from orchestrator.plan.preview import Market, preview
from orchestrator.plan.resolve import ALL, PhaseRun, StepRun, forced, resolve
from orchestrator.plan.schedule import makespan
from orchestrator.plan.sorting import candidates, key_of, ranked, sorted_out

__all__ = [
    "ALL",
    "Crew",
    "Market",
    "PhasePreview",
    "PhaseRun",
    "Preview",
    "StepPreview",
    "StepRun",
    "accepted_keys",
    "bare",
    "candidates",
    "choose_places",
    "crews_for",
    "crews_of",
    "described",
    "done_keys",
    "estimate",
    "fits",
    "forced",
    "key_of",
    "kinds",
    "makespan",
    "may_stage",
    "measured_rates",
    "memory_of",
    "misplaced",
    "networked",
    "preview",
    "ranked",
    "resolve",
    "serves",
    "sorted_out",
    "staging_need",
    "with_disk",
]
