"""What would be tried of everything on sale, and why the rest would not."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from orchestrator.cost import gb_hour
from orchestrator.plan import key_of, sorted_out
from orchestrator.plan.sorting import Reason
from orchestrator.words.model import MachineNeed, Phase
from tests.unit.plan.plan_samples import offer

A100 = "A100-80GB"
NEED = MachineNeed(gpu=(A100,), count=2)


def test_each_that_is_left_out_has_its_reason():
    """Too few GPUs, too little memory, another place, too dear: in words with what is needed."""
    phase = Phase(name="p", steps=(), machine=NEED, max_usd_hour=Decimal(4))
    sold = [
        offer(A100, "3.58", gpus=2, memory=80),
        offer(A100, "1.79", gpus=1, memory=80),
        offer("RTX-4090", "1.48", gpus=2, memory=24),
        offer(A100, "3.10", gpus=2, memory=80, place="B"),
        offer("H100-80GB", "7.98", gpus=2, memory=80),
    ]
    tried, left = sorted_out(phase, [(False, sold)], place="A")
    assert tried == sold[:1]
    assert [(one.reason, one.why) for one in left] == [
        (Reason.TOO_SMALL, "1 GPUs, 2 are needed"),
        (Reason.TOO_SMALL, "24 GB a GPU, 80 are needed"),
        (Reason.ELSEWHERE, "in B, not in A"),
        (Reason.TOO_DEAR, "$7.9800 an hour, at most $4 are wanted"),
    ]


def test_the_disk_that_is_asked_for_counts_for_what_is_too_dear():
    """A machine at $3.58 with 80 GB of its own costs $3.5911 an hour: more than $3.59, less than $3.60."""
    need = NEED.model_copy(update={"disk_gb": 80})
    sold = [replace(offer(A100, "3.58", gpus=2, memory=80), disk_gb_hour=gb_hour(Decimal("0.10")))]
    phase = Phase(name="p", steps=(), machine=need, max_usd_hour=Decimal("3.60"))
    (tried,), _ = sorted_out(phase, [(False, sold)], place=None)
    assert (tried.price_hour, tried.disk_hour) == (Decimal("3.5911112"), Decimal("0.0111112"))
    tighter = phase.model_copy(update={"max_usd_hour": Decimal("3.59")})
    none, (left,) = sorted_out(tighter, [(False, sold)], place=None)
    assert (none, left.why) == ([], "$3.5911 an hour, at most $3.59 are wanted")


def test_what_failed_a_while_ago_is_left_out_as_long_as_anything_else_would_do():
    """A type at a place; alone, it is tried again."""
    phase = Phase(name="p", steps=(), machine=NEED)
    here, there = offer(A100, "3.58", gpus=2, memory=80), offer(A100, "3.58", gpus=2, memory=80, place="B")
    rests = {key_of(here): "2 min ago: refused: no instances"}
    tried, left = sorted_out(phase, [(False, [here, there])], place=None, rests=rests)
    assert (tried, [(one.offer, one.why) for one in left]) == ([there], [(here, rests[key_of(here)])])
    assert sorted_out(phase, [(False, [here])], place=None, rests=rests) == ([here], [])
