"""A phase's inputs become the step that fetches them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.cli.input_sizes import with_sizes
from orchestrator.config import load_plan
from orchestrator.config.problems import ConfigErrors
from orchestrator.plan import done_keys, resolve
from orchestrator.testing.store import MemorySource
from orchestrator.words.errors import UsageError
from orchestrator.words.model import Input, Plan
from orchestrator.words.source import Source

PHASE = """name: {name}
volume: {{name: v, size_gb: 100}}
{inputs}
steps:
  - {{name: a, run: a}}
  - {{name: b, run: b, needs: [a]}}
"""


def plan_of(folder: Path, settings: str = "", **phases: str) -> Plan:
    """A plan of these phases, by the `inputs` that they name."""
    folder.mkdir(exist_ok=True)
    (folder / "gpuplan.yaml").write_text(settings or "budget_usd: 9\n")
    for name, inputs in phases.items():
        (folder / f"{name}.yaml").write_text(PHASE.format(name=name, inputs=inputs))
    return load_plan(folder, environ={})


def test_all_steps_need_the_inputs(tmp_path: Path):
    """They come first, need no GPU, and weigh what the plan says."""
    plan = plan_of(tmp_path, one='inputs: [{from: "s3://b/x", to: data, gb: 60}, {from: "gs://b/y", to: more/, gb: 1}]')
    ((fetch, a, b),) = [phase.steps for phase in resolve(plan, ("one",))]
    assert (fetch.id, fetch.step.gpu, fetch.step.writes_gb) == ("one/inputs", False, Decimal(61))
    assert fetch.step.creates == ("data/**", "more/**")
    assert [one.source for one in fetch.inputs] == ["s3://b/x", "gs://b/y"]
    assert (a.needs, b.needs, a.inputs) == (("one/inputs",), ("one/a", "one/inputs"), ())


def test_the_plans_defaults_have_inputs_too(tmp_path: Path):
    """For phases that name none; on the volume that they share they take room once."""
    settings = 'defaults: {inputs: [{from: "s3://b/x", to: data, gb: 60}]}\n'
    plan = plan_of(tmp_path, settings, one="", two="", three='inputs: [{from: "s3://b/z", to: z, gb: 40}]')
    assert {p.name: [i.source for i in p.inputs] for p in plan.phases} == {
        "one": ["s3://b/x"], "two": ["s3://b/x"], "three": ["s3://b/z"],
    }  # fmt: skip
    with pytest.raises(ConfigErrors, match="has 100 GB, and the steps on it write 101 GB"):
        plan_of(tmp_path, settings, three='inputs: [{from: "s3://b/z", to: z, gb: 41}]')


def test_other_inputs_are_another_result(tmp_path: Path):
    """Of the step and of those that need it; of a phase without inputs the keys are what they were."""
    keys = [
        done_keys(plan_of(tmp_path / str(n), one=inputs), {})
        for n, inputs in enumerate(
            ["", "", 'inputs: [{from: "s3://b/x", to: d}]', 'inputs: [{from: "s3://b/y", to: d}]']
        )
    ]
    assert keys[0] == keys[1] == {"one/a": keys[0]["one/a"], "one/b": keys[0]["one/b"]}
    assert len({found["one/b"] for found in keys}) == 3


def test_a_plan_is_read_back_as_it_was_written(tmp_path: Path):
    """Out of a run's folder, with its inputs."""
    plan = plan_of(tmp_path, one='inputs: [{from: "s3://b/x", to: data}]')
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_the_stores_say_what_inputs_weigh(tmp_path: Path):
    """Where the plan does not; one that cannot be asked weighs nothing, and no other phase's is asked."""
    plan = plan_of(
        tmp_path,
        one='inputs: [{from: "s3://b/x", to: x}, {from: "s3://b/y", to: y, gb: 2}]',
        two='inputs: [{from: "s3://b/closed", to: x}]',
        three='inputs: [{from: "s3://b/other", to: x}]',
    )
    asked = list[str]()

    def source(one: Input) -> Source:
        asked.append(one.source)
        if one.source != "s3://b/x":
            raise UsageError("no")
        return MemorySource(one.source, {"a": b"x" * 1_000_000, "b": b"x" * 500_000})

    found = with_sizes(plan, source, ("one", "two"))
    assert {p.name: p.step("inputs").writes_gb for p in found.phases} == {
        "one": Decimal("2.0015"), "two": Decimal(0), "three": Decimal(0),
    }  # fmt: skip
    assert asked == ["s3://b/x", "s3://b/closed"]


def test_a_file_by_https_has_its_own_path(tmp_path: Path):
    """Where `to` does not end in a slash; and another sha256 is another input."""
    inputs = 'inputs: [{{from: "https://a.org/x", to: data/x, sha256: "{}"}}, {{from: "https://a.org/y", to: b/}}]'
    plan = plan_of(tmp_path / "a", one=inputs.format("a" * 64))
    assert plan.phase("one").step("inputs").creates == ("data/x", "b/**")
    other = plan_of(tmp_path / "b", one=inputs.format("b" * 64))
    assert done_keys(plan, {})["one/b"] != done_keys(other, {})["one/b"]


def test_a_sample_lies_in_the_plan(tmp_path: Path):
    """It is found from the plan's folder on, and is no part of what the result is made of; a way out is refused."""
    inputs = 'inputs: [{from: "s3://b/x", to: data%s}]'
    (tmp_path / "some").mkdir()
    (tmp_path / "out").symlink_to("/etc")
    plan = plan_of(tmp_path, one=inputs % ", sample: some")
    assert plan.phase("one").inputs[0].sample == str(tmp_path / "some")
    assert done_keys(plan, {}) == done_keys(plan_of(tmp_path, one=inputs % ""), {})
    with pytest.raises(ConfigErrors, match="is a link that leads out of"):
        plan_of(tmp_path, one=inputs % ", sample: out")
    with pytest.raises(ConfigErrors, match="is one file, some a folder"):
        plan_of(tmp_path, one='inputs: [{from: "https://a.example/x", to: x, sample: some}]')


def test_the_defaults_inputs_are_checked_too(tmp_path: Path):
    """As those of a phase are, in the settings' own place."""
    with pytest.raises(ConfigErrors, match=r"gpuplan.yaml:1:\d+: '/home/x' is nothing that machines fetch from"):
        plan_of(tmp_path, 'defaults: {inputs: [{from: "/home/x", to: data}]}\n', one="")
