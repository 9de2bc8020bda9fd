"""docs/plan-vs-reality.md says what `gpuplan plan` computes. WRITE_DOCS=1 writes its second half anew."""

from __future__ import annotations

import os
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from orchestrator.cost import gb_hour
from orchestrator.plan import Market, Preview, preview, resolve, with_disk
from orchestrator.words.model import Plan
from orchestrator.words.provider import Offer
from tests.unit.plan.plan_samples import offer

PAGE = Path(__file__).parents[3] / "docs" / "plan-vs-reality.md"
MARK = "<!-- from here on written by tests/unit/plan/test_page.py -->\n"

# RunPod's secure cloud as read in autumn 2026; the catalogue's prices of the day replace them in a real preview.
A100 = "A100-80GB"


def sold(gpu: str, price: str, *, gpus: int = 1, memory: int = 0) -> Offer:
    """A machine with the disk that the plan's phases ask for."""
    return with_disk(replace(offer(gpu, price, gpus=gpus, memory=memory), disk_gb_hour=gb_hour(Decimal("0.10"))), 50)


PRICES = Market(
    offers={
        "day1": sold("RTX-4090", "0.74", memory=24),
        "day2-3": sold(A100, "1.79", memory=80),
        "day4-5": sold(A100, "3.58", gpus=2, memory=80),
        "day6-7": sold(A100, "3.58", gpus=2, memory=80),
    },
    cpu=sold("", "0.24", gpus=0),
    staged=frozenset({"day1", "day2-3", "day4-5", "day6-7"}),
    volume_price_hour=Decimal("0.0959"),  # 1000 GB at $0.07 a GB and month of 730 hours
    stores=1,
)


def ways(found: Preview) -> list[str]:
    assert found.ways
    told = {
        "As the plan says, every machine to the end of its phase": found.ways.own,
        "The same at the lowest rates known": found.ways.own_far_end,
        "As gpuplan does it": (found.estimated_hours, found.estimated_usd),
        "The same at the lowest rates known, before a run has measured any": found.ways.far_end,
    }
    least = found.bound_hours
    return [
        *(f"* {what}: {hours:.2f} h, ${usd:.2f}" for what, (hours, usd) in told.items()),
        (
            f"* Bytes that must cross once, along the needs: {least['along_needs']:.2f} h (hub {least['hub']:.2f}, "
            f"volume {least['volume']:.2f}, upload {least['upload']:.2f})"
        ),
        f"* The way home from the store, when no machine is left: {found.pull_hours:.2f} h, $0",
    ]


def written(found: Preview) -> str:
    rows = [
        f"| {p.phase} | {p.planned[0]} h, ${p.planned[1]} | {p.needs} at ${p.price_hour:.2f}/h "
        f"| {p.estimated_hours:.2f} h, ${p.estimated_usd:.2f} |"
        for p in found.phases
        if p.planned
    ]
    notes = [
        f"**{note.about}.** The plan: {note.plan}. {note.fact}" + (f" *({note.source})*" if note.source else "")
        for note in found.notes
    ]
    hours, usd = found.planned
    return "\n".join(
        [
            "## Hours and dollars",
            "",
            "An hour in autumn 2026: RTX 4090 $0.74, one A100 80GB $1.79, a CPU machine $0.24, the own disk of each",
            "(50 GB) $0.0069, the volume $0.0959.",
            "",
            "| phase | the plan | machine | estimated |",
            "|---|---|---|---|",
            *rows,
            f"| volume | | | ${found.volume_usd:.2f} |",
            f"| all | {hours} h, ${usd} | | {found.estimated_hours:.2f} h, ${found.estimated_usd:.2f} |",
            "",
            "Bytes over rates, with what runs at the same time sharing them, a boot of each machine and the uploads to",
            "one store. What a run really took stands beside both in `gpuplan plan` once there was one.",
            "",
            *ways(found),
            "",
            "## Sizes and speeds",
            "",
            "| | the plan | so |",
            "|---|---|---|",
            *(f"| {item.what} | {item.plan} | {item.fact} |" for item in found.expected),
            "",
            "What a run measured is the fourth column of `gpuplan plan`.",
            "",
            "## Claims",
            "",
            "\n\n".join(notes),
            "",
        ]
    )


def test_the_page_says_what_is_computed(shipped: Plan):
    """The page's table and claims are those of the preview at the prices that it names."""
    hand_written, mark, rest = PAGE.read_text().partition(MARK)
    assert mark
    expected = "\n" + written(preview(shipped, resolve(shipped, ["all"]), PRICES))
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(hand_written + MARK + expected)
        return
    assert rest == expected, "write it anew with WRITE_DOCS=1"


def test_every_deliverable_of_the_plan_is_in_the_table(shipped: Plan):
    """Each line of the plan's checklist has a deliverable: no phase has fewer than the plan has ticks."""
    ticks = {"day1": 4, "day2-3": 4, "day4-5": 4, "day6-7": 5}
    assert all(len(phase.deliverables) >= ticks[phase.name] for phase in shipped.phases)
