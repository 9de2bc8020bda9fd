"""Plan-wide defaults, and steps that become many."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config import ConfigErrors, load_file, load_plan
from orchestrator.words.model import Plan


def plan(folder: Path, settings: str = "", **phases: str) -> Plan:
    (folder / "gpuplan.yaml").write_text(settings or "plan: p\n")
    for name, text in phases.items():
        (folder / f"{name}.yaml").write_text(f"name: {name}\n{text}")
    return load_plan(folder, environ={})


TRAIN = """
steps:
  - name: train
    matrix: {rate: [1e-4, 1e-5], seed: [1, 2]}
    run: train ${{ matrix.rate }} ${{matrix.seed}} ${HOME}
    creates: ["${{ matrix.rate }}/${{ matrix.seed }}"]
  - {name: pick, run: pick, needs: [train]}
deliverables:
  - {name: trained, step: train}
"""


def test_a_step_becomes_one_for_each_combination(tmp_path: Path):
    """Names, commands and globs have the values; who needs the step needs all, and each is asked about."""
    phase = plan(tmp_path, one=TRAIN).phase("one")
    names = [f"train-{rate}-{seed}" for rate in ("1e-4", "1e-5") for seed in "12"]
    assert [step.name for step in phase.steps] == [*names, "pick"]
    assert phase.step("train-1e-5-2").run == "train 1e-5 2 ${HOME}"
    assert phase.step("train-1e-5-2").creates == ("1e-5/2",)
    assert phase.step("pick").needs == tuple(names)
    assert [(d.name, d.step) for d in phase.deliverables] == [(f"trained ({name})", name) for name in names]


def test_another_phase_needs_all_of_them(tmp_path: Path):
    """`needs: [one/train]` of a second phase; and a file that is checked alone knows its neighbour's variants."""
    two = "steps: [{name: all, run: all, needs: [one/train]}, {name: first, run: f, needs: [one/train-1e-4-1]}]\n"
    settings = "defaults: {volume: {name: d, size_gb: 10}}\n"
    phase = plan(tmp_path, settings, one=TRAIN, two=two).phase("two")
    assert phase.step("all").needs == tuple(f"one/train-{rate}-{seed}" for rate in ("1e-4", "1e-5") for seed in "12")
    assert phase.step("first").needs == ("one/train-1e-4-1",)
    assert load_file(tmp_path / "two.yaml") == phase


def test_a_name_that_holds_a_value_is_taken_as_it_is(tmp_path: Path):
    """A variant can need another step's variant of the same value."""
    text = """
steps:
  - {name: "get-${{ matrix.m }}", matrix: {m: [a, b]}, run: get}
  - {name: "use-${{ matrix.m }}", matrix: {m: [a, b]}, run: use, needs: ["get-${{ matrix.m }}"]}
"""
    steps = plan(tmp_path, one=text).phase("one").steps
    assert [(step.name, step.needs) for step in steps[2:]] == [("use-a", ("get-a",)), ("use-b", ("get-b",))]


@pytest.mark.parametrize(
    ("matrix", "run", "said"),
    [
        ("{rate: [1, 2]}", "x ${{ matrix.rat }}", "one.yaml:3:42: the matrix has no rat\n  did you mean rate?"),
        ("{rate: 1}", "x", "one.yaml:3:28: matrix.rate is a list of values"),
        ("{rate: []}", "x", "one.yaml:3:28: matrix.rate is a list of values"),
        ("{}", "x", "one.yaml:3:21: a matrix has names with lists of values"),
        ("[1]", "x", "one.yaml:3:21: a matrix has names with lists of values"),
        (f"{{a: [{', '.join('12345678901')}], b: [{', '.join('12345678901')}]}}", "x", "more than 100"),
        ("{rate: [a/b]}", "x", "'a-a/b' cannot be a step's name"),
        ("{rate: [1, 1]}", "x", "a-1 is there twice"),
    ],
)
def test_a_matrix_that_means_nothing_is_refused_with_its_place(tmp_path: Path, matrix: str, run: str, said: str):
    """What, where, and what to write."""
    with pytest.raises(ConfigErrors) as caught:
        plan(tmp_path, one=f'steps:\n- {{name: a, matrix: {matrix}, run: "{run}"}}\n')
    assert said in str(caught.value).replace(f"{tmp_path}/", "")


def test_defaults_are_what_a_phase_leaves_out(tmp_path: Path):
    """Volume, image and variables; what a phase says itself wins."""
    settings = "defaults: {volume: {name: d, size_gb: 10}, image: i, env: {A: 1, B: 1}}\n"
    own = "volume: {name: e, size_gb: 20}\nmachine: {image: j}\nenv: {B: 2}\nsteps: [{name: a, run: a}]\n"
    found = plan(tmp_path, settings, one="steps: [{name: a, run: a}]\n", two=own)
    one, two = found.phase("one"), found.phase("two")
    assert (one.volume and one.volume.name, one.machine.image, one.env) == ("d", "i", {"A": "1", "B": "1"})
    assert (two.volume and two.volume.name, two.machine.image, two.env) == ("e", "j", {"A": "1", "B": "2"})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("defaults: {volume: {name: a b, size_gb: 10}}", "gpuplan.yaml:1:27: 'a b' cannot be a volume's name"),
        ("defaults: {env: {PATH: x}}", "gpuplan.yaml:1:24: PATH is set by gpuplan itself"),
        ("defaults: {env: {TOKEN: x}}", "one.yaml:2:10: TOKEN is in the plan's default env too"),
        ("defaults: {volumes: {}}", "gpuplan.yaml:1:12: "),
    ],
)
def test_wrong_defaults_are_refused_with_their_place(tmp_path: Path, settings: str, said: str):
    """In gpuplan.yaml, or where a phase takes the same name for a secret."""
    with pytest.raises(ConfigErrors) as caught:
        plan(tmp_path, f"{settings}\n", one="secrets: [TOKEN]\nsteps: [{name: a, run: a}]\n")
    assert said in str(caught.value).replace(f"{tmp_path}/", "")


def test_another_folders_defaults_have_no_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A gpuplan.yaml beside which a plan is only run gives it no volume."""
    (tmp_path / "plan").mkdir()
    (tmp_path / "gpuplan.yaml").write_text("defaults: {volume: {name: d, size_gb: 10}}\n")
    monkeypatch.chdir(tmp_path)
    assert plan(tmp_path / "plan", one="steps: [{name: a, run: a}]\n").phase("one").volume is None
