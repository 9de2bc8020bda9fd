"""Which machines of a phase come and go together, and which steps they come for."""

from __future__ import annotations

from orchestrator.plan import resolve
from orchestrator.plan.crews import Crew, Name, crews_for, crews_of, staging_need
from orchestrator.words.model import MachineNeed, Phase, Plan, RunsOn
from tests.unit.plan.plan_samples import phase, step

NEED = MachineNeed(gpu=("A100-80GB",), count=4, nodes=3, image="mine:1", disk_gb=50)
FETCH = step("fetch", gpu=False, creates=("data",))
TRAIN = step("train", "fetch", on=RunsOn.ALL)
ASK = step("ask", "train", on=RunsOn.ROOT)


def crews(made: Phase, *, staged: bool) -> tuple[Crew, ...]:
    (run,) = resolve(Plan(name="x", phases=(made,)), [made.name])
    return crews_of(run, made.machine, staged=staged)


def told(found: tuple[Crew, ...]) -> list[tuple[Name, tuple[int, ...], list[str]]]:
    return [(crew.name, crew.nodes, [run.step.name for run in crew.steps]) for crew in found]


def test_the_staging_machine_is_one_without_gpus():
    """One machine, of the provider's own image, with the disk that the phase wants; nothing is taken over for it."""
    need = staging_need(phase("p", FETCH, machine=NEED.model_copy(update={"reuse": "earlier"})))
    assert need == MachineNeed(gpu=(), count=1, nodes=1, image=None, reuse=None, disk_gb=50)


def test_unstaged_every_machine_is_there_for_all_that_it_does():
    """The first node does what runs on one; the others come for what runs on all."""
    assert told(crews(phase("p", FETCH, TRAIN, ASK, machine=NEED), staged=False)) == [
        (Name.MAIN, (0,), ["fetch", "train", "ask"]),
        (Name.WORKERS, (1, 2), ["train"]),
    ]


def test_staged_the_gpus_come_for_the_steps_that_need_them():
    """What needs none is done by the machine that is there from beginning to end."""
    found = crews(phase("p", FETCH, TRAIN, ASK, machine=NEED), staged=True)
    assert told(found) == [
        (Name.STAGING, (0,), ["fetch"]),
        (Name.MAIN, (0,), ["train", "ask"]),
        (Name.WORKERS, (1, 2), ["train"]),
    ]
    assert [crew.name for crew in crews_for(found, "p/train")] == [Name.MAIN, Name.WORKERS]
    assert [crew.need.nodes for crew in found] == [1, 3, 3]
