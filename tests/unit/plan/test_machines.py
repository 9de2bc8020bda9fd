"""Which machine serves a phase, in which order they are tried, and where all of them are sold."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace

import pytest

from orchestrator.cost import gb_hour
from orchestrator.plan import candidates, choose_places, fits, kinds, memory_of, ranked, with_disk
from orchestrator.plan.machines import serves
from orchestrator.words.errors import ExitCode, NoMachine
from orchestrator.words.model import MachineNeed, Phase, RunsOn, Step
from orchestrator.words.provider import Offer
from tests.unit.plan.plan_samples import offer, step

BIG = MachineNeed(gpu=("A100-80GB", "H100-80GB"), count=2)
SMALL = MachineNeed(gpu=("RTX-4090", "A100-40GB"))
NONE = MachineNeed(count=0)


def phase_of(need: MachineNeed) -> Phase:
    return Phase(name="p", machine=need, steps=(Step(name="s", run="true"),))


def sold(need: MachineNeed, offers: list[Offer]) -> tuple[MachineNeed, list[Offer]]:
    return need, ranked(phase_of(need), [(False, offers)], place=None)


def both(offers: list[Offer]) -> list[tuple[bool, list[Offer]]]:
    return [(kind, offers) for kind in (True, False)]


def test_a_disk_is_in_the_price_once():
    """50 GB at $0.10 a month are $0.0069 an hour, asked for twice too; no more of it than the machine can have."""
    card = replace(offer("RTX-4090", "0.74"), disk_gb_hour=gb_hour(Decimal("0.10")))
    once = with_disk(card, 50)
    assert (once.price_hour, once.disk_hour) == (Decimal("0.7469445"), Decimal("0.0069445"))
    assert with_disk(with_disk(card, 500), 50) == once
    small = replace(offer("", "0.24", gpus=0), disk_gb_hour=gb_hour(Decimal("0.10")), most_disk_gb=80)
    assert with_disk(small, 500).price_hour == Decimal("0.2511112")
    assert with_disk(offer("A10", "1.29"), 500) == offer("A10", "1.29")


def test_count_and_memory_decide():
    """A machine fits with as many GPUs of at least the memory of the smallest wanted type, whatever its name."""
    assert fits(BIG, offer("A100-80GB", "1", gpus=2, memory=80))
    assert fits(BIG, offer("H200-141GB", "1", gpus=4, memory=141))
    assert not fits(BIG, offer("A100-80GB", "1", gpus=1, memory=80))
    assert not fits(BIG, offer("L40S", "1", gpus=2, memory=48))
    assert fits(SMALL, offer("L40S", "1", memory=48))
    assert fits(BIG, offer("H100-80GB", "1", gpus=2, memory=79)), "a provider that counts in GiB says 79"


def test_a_machine_without_gpu():
    """Where none is needed any machine serves; where one is, a CPU machine does not."""
    cpu = offer("", "0.1", gpus=0)
    assert fits(NONE, cpu)
    assert fits(NONE, offer("L4", "1", memory=24))
    assert not fits(SMALL, cpu)


def test_wanted_types_first_then_by_price():
    """The preferred type comes first even when dearer; other types that fit follow, cheapest first; sold out last."""
    found = candidates(
        SMALL,
        [
            offer("L40S", "0.99", memory=48),
            offer("RTX-3090", "0.20", memory=24),
            offer("A100-40GB", "1.99", memory=40),
            offer("RTX-4090", "0.80", memory=24, place="B"),
            offer("RTX-4090", "0.74", memory=24),
            offer("RTX-4090", "0.10", memory=24, available=False),
            offer("L4", "0.15", memory=24, spot=True),
            offer("V100-16GB", "0.05", memory=16),
        ],
        place=None,
        spot=False,
    )
    assert [(o.gpu, str(o.price_hour)) for o in found] == [
        ("RTX-4090", "0.74"),
        ("RTX-4090", "0.80"),
        ("A100-40GB", "1.99"),
        ("RTX-3090", "0.20"),
        ("L40S", "0.99"),
        ("RTX-4090", "0.10"),
    ]


def test_a_larger_machine_is_the_last_resort():
    """Eight GPUs of the preferred type do not come before one of the next type."""
    need = MachineNeed(gpu=("A100-80GB", "H100-80GB"))
    eight, one = offer("A100-80GB", "22.32", gpus=8, memory=80), offer("H100-80GB", "4.29", memory=80)
    assert candidates(need, [eight, one], place=None, spot=False) == [one, eight]


def test_place_and_spot_are_kept_to():
    """Only the volume's place; and interruptible machines only, or never."""
    offers = [
        offer("L4", "1", memory=24),
        offer("L4", "1", memory=24, place="B"),
        offer("L4", "0.5", memory=24, spot=True),
    ]
    need = MachineNeed(gpu=("L4",))
    assert [o.place for o in candidates(need, offers, place="B", spot=False)] == ["B"]
    assert [str(o.price_hour) for o in candidates(need, offers, place=None, spot=True)] == ["0.5"]
    assert candidates(need, offers, place="B", spot=True) == []


def test_the_place_that_sells_everything_for_the_least():
    """The cheapest place for one phase loses when it lacks another's machine; nodes count."""
    small = [offer("RTX-4090", "0.1", memory=24, place=p) for p in ("A", "B", "C")]
    big = [
        offer("A100-80GB", "4", gpus=2, memory=80, place="B"),
        offer("A100-80GB", "3", gpus=2, memory=80, place="C"),
        offer("A100-80GB", "1", gpus=2, memory=80, place="A", available=False),
    ]
    big = candidates(BIG, big, place=None, spot=False)
    two_nodes = BIG.model_copy(update={"nodes": 2})
    small_c = [*small[:2], offer("RTX-4090", "1.5", memory=24, place="C")]
    assert choose_places([sold(SMALL, small), sold(BIG, big)])[0] == "C"
    assert choose_places([sold(SMALL, small_c), sold(BIG, big)])[0] == "B"
    assert choose_places([sold(SMALL, small_c), sold(two_nodes, big)])[0] == "C"


def test_no_place_sells_everything():
    """The error says where each machine is sold, and what to do; exit code 4."""
    with pytest.raises(NoMachine) as caught:
        choose_places(
            [
                sold(SMALL, [offer("RTX-4090", "1", memory=24)]),
                sold(BIG, [offer("A100-80GB", "1", gpus=2, memory=80, place="B")]),
            ]
        )
    assert caught.value.exit_code == ExitCode.NO_MACHINE
    assert "1x RTX-4090 or A100-40GB: A" in caught.value.message
    assert "2x A100-80GB or H100-80GB: B" in caught.value.message


def test_nothing_interruptible_is_said_plainly():
    """With --spot and nothing on sale the remedy names --spot-or-demand."""
    with pytest.raises(NoMachine, match="--spot-or-demand"):
        choose_places([(SMALL, [])], spot=True)


def test_what_a_phase_says_of_interruptible_machines_goes_before_the_flags():
    """Its own word, then the run's; where no GPU is needed the flags do not matter."""
    phase = Phase(name="p", machine=SMALL, steps=(Step(name="s", run="true"),))
    flags = [{"spot": s, "spot_or_demand": d} for s, d in ((False, False), (True, False), (False, True))]
    assert [kinds(phase, **flag) for flag in flags] == [(False,), (True,), (True, False)]
    for own in (True, False):
        assert {kinds(phase.model_copy(update={"spot": own}), **flag) for flag in flags} == {(own,)}
    assert {kinds(phase.model_copy(update={"machine": NONE}), **flag) for flag in flags} == {(False,)}


def test_machines_that_are_too_dear_are_not_wanted():
    """`max_usd_hour` bounds all nodes together; interruptible ones come first where both will do."""
    sold = [offer("RTX-4090", "1", memory=24), offer("RTX-4090", "0.4", memory=24, spot=True)]
    phase = Phase(name="p", machine=SMALL, steps=(Step(name="s", run="true"),))
    assert [o.price_hour for o in ranked(phase, both(sold), place=None)] == [Decimal("0.4"), Decimal(1)]
    two = SMALL.model_copy(update={"nodes": 2})
    bound = phase.model_copy(update={"machine": two, "max_usd_hour": Decimal("1.5")})
    assert [o.price_hour for o in ranked(bound, both(sold), place=None)] == [Decimal("0.4")]


def test_memory_of_known_names():
    """Names carry their memory or are sold with one size; unknown names are 0."""
    assert (memory_of("A100-80GB"), memory_of("RTX-4090"), memory_of("new"), memory_of("")) == (80, 24, 0, 0)


ONE, TWO, LARGE = (
    MachineNeed(gpu=("A100-40GB",)),
    MachineNeed(gpu=("A100-40GB",), count=2),
    MachineNeed(gpu=("A100-80GB",)),
)
CPU, TWO_NODES = MachineNeed(), MachineNeed(nodes=2)


@pytest.mark.parametrize(
    ("gpu", "on", "machine", "own", "expected"),
    [
        (True, RunsOn.ROOT, LARGE, ONE, True),
        (True, RunsOn.ROOT, ONE, ONE, True),
        (True, RunsOn.ROOT, ONE, LARGE, False),  # less memory
        (True, RunsOn.ROOT, ONE, TWO, False),  # fewer cards
        (True, RunsOn.ROOT, CPU, ONE, False),  # no card
        (True, RunsOn.ROOT, CPU, CPU, True),
        (False, RunsOn.ROOT, CPU, LARGE, True),  # it needs none
        (False, RunsOn.ROOT, CPU, TWO_NODES, True),
        (False, RunsOn.ALL, CPU, TWO_NODES, False),  # fewer machines than it runs on
        (False, RunsOn.ALL, TWO_NODES, TWO_NODES, True),
    ],
)
def test_a_step_runs_on_what_is_no_less_than_its_own_phase_has(
    on: RunsOn, machine: MachineNeed, own: MachineNeed, *, gpu: bool, expected: bool
):
    """Cards, their memory and machines; for a step that needs no card none count."""
    run = SimpleNamespace(step=step("s", gpu=gpu, on=on))
    assert serves(machine, own, run) is expected  # type: ignore[arg-type]  # as much of one as it asks for
