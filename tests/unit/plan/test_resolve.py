"""Which steps a run holds, and under which phase."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan import PhaseRun, resolve
from orchestrator.plan.resolve import forced
from orchestrator.words.errors import UsageError
from orchestrator.words.model import Plan
from tests.unit.plan.plan_samples import phase as a_phase
from tests.unit.plan.plan_samples import step as a_step


def held(runs: tuple[PhaseRun, ...]) -> dict[str, list[str]]:
    return {run.phase.name: [s.id + ("+" if s.pulled_in else "") for s in run.steps] for run in runs}


def test_all_runs_each_step_in_its_own_phase(three: Plan):
    """With every phase asked for nothing is pulled in."""
    assert held(resolve(three, ["all"])) == {
        "one": ["one/a", "one/b", "one/c"],
        "two": ["two/d", "two/e"],
        "three": ["three/f", "three/g"],
    }


def test_alone_a_phase_pulls_in_exactly_what_it_needs(three: Plan):
    """Needs are followed through other phases, needs first, and nothing else comes along."""
    assert held(resolve(three, ["two"])) == {"two": ["one/a+", "one/b+", "two/d", "two/e"]}
    assert held(resolve(three, ["three"])) == {"three": ["one/a+", "one/b+", "two/d+", "three/f", "one/c+", "three/g"]}


def test_several_phases_share_what_they_pull_in(three: Plan):
    """A step is pulled in by the first phase that needs it; a later one finds it done."""
    assert held(resolve(three, ["three", "two"])) == {
        "two": ["one/a+", "one/b+", "two/d", "two/e"],
        "three": ["three/f", "one/c+", "three/g"],
    }


def test_phases_run_in_the_plans_order_and_once(three: Plan):
    """The order on the command line does not matter, nor does naming a phase twice."""
    assert list(held(resolve(three, ["three", "one", "three"]))) == ["one", "three"]


def test_a_pulled_in_step_keeps_its_own_phases_world(three: Plan):
    """Environment and secrets are those of the phase whose file holds the step."""
    step = resolve(three, ["two"])[0].steps[0]
    assert (step.phase, step.pulled_in, step.secrets) == ("one", True, ("TOKEN",))
    assert step.env == {"X": "1"}


def test_needs_are_ids(three: Plan):
    """Needs are written out as PHASE/STEP."""
    assert resolve(three, ["three"])[0].steps[-1].needs == ("one/c", "three/f")


def test_unknown_phase_is_told_with_the_nearest(three: Plan):
    """A wrong name, and no name, are usage errors that list what there is."""
    with pytest.raises(UsageError, match=r"did you mean three\?"):
        resolve(three, ["thre"])
    with pytest.raises(UsageError, match="there are: one, two, three, all"):
        resolve(three, ["zzz"])
    with pytest.raises(UsageError, match="which phase"):
        resolve(three, [])


def test_shipped_phases_run_alone(shipped: Plan):
    """Each shipped phase resolves on its own, with every need inside the run."""
    for phase in shipped.phases:
        (run,) = resolve(shipped, [phase.name])
        ids = [step.id for step in run.steps]
        assert all(ids.index(need) < ids.index(step.id) for step in run.steps for need in step.needs)


def test_day4_5_alone_pulls_in_the_download_only(shipped: Plan):
    """INTELLECT-3 alone needs its download, the clone and the overlay, and not the other model."""
    (run,) = resolve(shipped, ["day4-5"])
    assert {step.id for step in run.pulled_in} == {"day1/clone", "day1/overlay", "day1/download-intellect3"}


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Up to four phases of up to four steps, each needing some steps that stand before it."""
    phases, before = [], list[str]()
    for number in range(draw(st.integers(1, 4))):
        steps = []
        for index in range(draw(st.integers(1, 4))):
            needs = draw(st.lists(st.sampled_from(before), unique=True, max_size=3)) if before else []
            steps.append(a_step(f"s{index}", *needs))
            before.append(f"p{number}/s{index}")
        phases.append(a_phase(f"p{number}", *steps))
    return Plan(name="p", phases=tuple(phases))


@given(plans(), st.sets(st.integers(0, 3), min_size=1))
def test_any_run_holds_what_it_needs_once_and_nothing_else(plan: Plan, asked: set[int]):
    """The steps of a run are those of the asked phases and all that they need: each once, after its needs."""
    names = [p.name for number, p in enumerate(plan.phases) if number in asked]
    if not names:
        return
    order = [s.id for run in resolve(plan, names) for s in run.steps]
    needs = {s.id: s.needs for run in resolve(plan, ["all"]) for s in run.steps}
    wanted = [f"{name}/{s.name}" for name in names for s in plan.phase(name).steps]
    closure: set[str] = set()
    while wanted:
        one = wanted.pop()
        closure.add(one)
        wanted += needs[one]
    assert sorted(order) == sorted(closure)
    assert all(order.index(need) < order.index(one) for one in order for need in needs[one])
    for run in resolve(plan, names):
        assert all(s.pulled_in == (s.phase != run.phase.name) for s in run.steps)


def test_what_is_forced_is_named_and_what_needs_it_with_it(three: Plan):
    """By PHASE/STEP, or a STEP that only one phase has; `all` is all; the rest is told."""
    runs = resolve(three, ["all"])
    steps = [step.id for run in runs for step in run.steps]
    assert forced(runs, ["all"]) == tuple(steps)
    whole = forced(runs, [steps[0]])
    assert whole[0] == steps[0]
    assert set(whole) == {steps[0]} | {s.id for r in runs for s in r.steps if set(s.needs) & set(whole)}
    alone = next(s for s in steps if sum(t.rpartition("/")[2] == s.rpartition("/")[2] for t in steps) == 1)
    assert forced(runs, [alone.rpartition("/")[2]]) == forced(runs, [alone])
    with pytest.raises(UsageError, match="the run has no step nothing-like-it"):
        forced(runs, ["nothing-like-it"])
