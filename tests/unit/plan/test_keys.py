"""What a done-record depends on, and what it does not."""

from __future__ import annotations

from decimal import Decimal

import pytest

from orchestrator.plan import accepted_keys, done_keys
from orchestrator.words.model import Former, Phase, Plan, Settings, Step
from tests.unit.plan.plan_samples import phase, step

CODE = {"dllama": "1", "converter/convert-hf.py": "2", "dllama_glm/model/forward.py": "3", "requirements.txt": "4"}


def changed(plan: Plan, before: dict[str, str], after: dict[str, str], other: Plan | None = None) -> set[str]:
    old, new = done_keys(plan, before), done_keys(other or plan, after)
    return {name for name in old if old[name] != new.get(name)}


@pytest.fixture
def plan() -> Plan:
    """A clone, the overlay, a download, a conversion and an inference, as in the shipped plan."""
    return Plan(
        name="p",
        phases=(
            phase(
                "one",
                step("clone"),
                step("overlay", "clone", run="", builtin="overlay"),
                step("download", "clone"),
                step("convert", "download", "overlay", uses=["converter/**"]),
                step("infer", "convert", uses=["dllama", "dllama_glm/**"]),
                step("anything", "overlay"),
            ),
        ),
    )


def test_nothing_changed_nothing_runs_again(plan: Plan):
    """The same plan and code give the same keys, in whatever order the code's files come."""
    assert changed(plan, CODE, dict(reversed(CODE.items()))) == set()


def test_a_change_of_the_code_does_not_repeat_downloads(plan: Plan):
    """A changed converter repeats overlay, conversion and what comes after it, never the clone or the download."""
    assert changed(plan, CODE, CODE | {"converter/convert-hf.py": "new"}) == {
        "one/overlay",
        "one/convert",
        "one/infer",
        "one/anything",
    }


def test_a_step_that_says_what_it_uses_depends_on_that_only(plan: Plan):
    """A changed runtime repeats the inference and not the conversion; a step that says nothing depends on all of it."""
    assert changed(plan, CODE, CODE | {"dllama_glm/model/forward.py": "new"}) == {
        "one/overlay",
        "one/infer",
        "one/anything",
    }


def test_new_and_removed_files_count(plan: Plan):
    """A file that appears or goes changes the keys like one that changes."""
    assert "one/convert" in changed(plan, CODE, CODE | {"converter/new.py": "1"})
    assert "one/infer" in changed(plan, CODE, {k: v for k, v in CODE.items() if k != "dllama"})


@pytest.mark.parametrize(
    "change",
    [
        {"run": "make it otherwise"},
        {"cwd": "elsewhere"},
        {"env": {"A": "b"}},
        {"on": "all"},
        {"creates": ("x",)},
        {"hub": {"repo": "o/m", "dir": "m"}},
    ],
)
def test_what_the_result_depends_on_changes_the_key(change: dict[str, object], plan: Plan):
    """Command, folder, environment, nodes, outputs and repository are part of the key, and so of all that need it."""
    steps = list(plan.phases[0].steps)
    steps[2] = type(steps[2]).model_validate(steps[2].model_dump() | change)
    other = plan.model_copy(update={"phases": (plan.phases[0].model_copy(update={"steps": tuple(steps)}),)})
    assert changed(plan, CODE, CODE, other) == {"one/download", "one/convert", "one/infer"}


@pytest.mark.parametrize(
    "change", [{"timeout": 9.0}, {"retries": 3}, {"gpu": False}, {"reads_gb": 7}, {"on_oom": "other"}]
)
def test_what_it_does_not_depend_on_leaves_the_key(change: dict[str, object], plan: Plan):
    """Time-outs, retries, sizes and the way out of memory trouble do not repeat work."""
    steps = list(plan.phases[0].steps)
    steps[2] = steps[2].model_copy(update=change)
    other = plan.model_copy(update={"phases": (plan.phases[0].model_copy(update={"steps": tuple(steps)}),)})
    assert changed(plan, CODE, CODE, other) == set()


def test_settings_leave_the_keys(plan: Plan):
    """Settings of the operation are no part of a result, and neither is what a machine was set up with."""
    other = plan.model_copy(update={"settings": Settings(setup="make", requirements=("r.txt",), budget_usd=Decimal(7))})
    assert changed(plan, CODE, CODE, other) == set()


def test_a_command_of_the_codes_folder_depends_on_all_of_it():
    """Who runs something of $GPUPLAN_CODE and does not say with `uses` which files count depends on every one."""
    run = 'python "$GPUPLAN_CODE/train.py"'
    steps = (Step(name="all", run=run), Step(name="some", run=run, uses=("train.py",)), Step(name="none", run="true"))
    plan = Plan(name="p", phases=(Phase(name="a", steps=steps),))
    assert changed(plan, {"train.py": "1"}, {"train.py": "1", "data.py": "2"}) == {"a/all"}
    assert changed(plan, {"train.py": "1"}, {"train.py": "2"}) == {"a/all", "a/some"}


def test_a_phases_environment_counts(plan: Plan):
    """The environment of a phase is that of its steps."""
    other = plan.model_copy(update={"phases": (plan.phases[0].model_copy(update={"env": {"A": "1"}}),)})
    assert changed(plan, CODE, CODE, other) == set(done_keys(plan, CODE))


def test_keys_fit_in_file_names(shipped: Plan):
    """Every step has a key of its own, 32 hexadecimal digits."""
    keys = done_keys(shipped, CODE)
    assert len(set(keys.values())) == len(keys) == sum(len(p.steps) for p in shipped.phases)
    assert all(len(key) == 32 and int(key, 16) >= 0 for key in keys.values())


def test_shipped_downloads_survive_any_code(shipped: Plan):
    """In the shipped plan no change of the code touches the clone or a download."""
    assert not changed(shipped, CODE, {}) & {"day1/clone", "day1/download-glm", "day1/download-intellect3"}


def test_a_former_state_that_gave_the_same_results_is_accepted():
    """A key of before holds where the plan's author says so, also when files came or went since; no other does."""
    plan = Plan(name="p", phases=(Phase(name="a", steps=(Step(name="make", run="new", uses=("tool/**",)),)),))
    before = Plan(name="p", phases=(Phase(name="a", steps=(Step(name="make", run="old", uses=("tool/**",)),)),))
    then, now = {"tool/a.py": "1"}, {"tool/a.py": "2", "tool/b.py": "3", "other.py": "4"}
    former = Former(covers=("tool/",), payload=then, steps={"a/make": {"run": "old"}})
    old, new = done_keys(before, then)["a/make"], done_keys(plan, now)["a/make"]
    assert accepted_keys(plan.model_copy(update={"formers": (former,)}), now)["a/make"] == {old, new}
    assert accepted_keys(plan, now)["a/make"] == {new}
