"""The shipped phases against the code and the plan's own commands."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from orchestrator.plan import StepRun, resolve
from orchestrator.plan.globs import matches
from orchestrator.transport import code_folder
from orchestrator.words import files
from orchestrator.words.model import Plan

GLM = "./dllama inference --model ./converter/glm4_5_air.m --tokenizer ./converter/glm4_5_air.t"
MOE = "./dllama inference --model ./converter/intellect3.m --tokenizer ./converter/intellect3.t"

# The plan's commands, as it has them: each must be a step's command, or the beginning of it.
COMMANDS = {
    "day1/download-glm": "hf download zai-org/GLM-4.5-Air-Base --local-dir GLM-4.5-Air-Base",
    "day1/download-intellect3": "hf download PrimeIntellect/INTELLECT-3 --local-dir INTELLECT-3",
    "day2-3/convert-glm": "python convert-hf.py ../GLM-4.5-Air-Base q40 glm4_5_air",
    "day2-3/convert-glm-tokenizer": "python convert-tokenizer-hf.py ../GLM-4.5-Air-Base glm4_5_air",
    "day2-3/infer-glm-france": f'{GLM} --prompt "What is the capital of France?"',
    "day4-5/convert-intellect3": "python convert-hf.py ../INTELLECT-3 q40 intellect3",
    "day4-5/convert-intellect3-tokenizer": "python convert-tokenizer-hf.py ../INTELLECT-3 intellect3",
    "day4-5/infer-intellect3": f'{MOE} --prompt "Explain AI"',
    "day6-7/infer-glm": f'{GLM} --prompt "Explain quantum computing in simple terms"',
    "day6-7/benchmark-glm": f'{GLM} --prompt "What is artificial intelligence?" --benchmark',
    "day6-7/infer-single-node": f"{MOE} --nthreads 8 --workers tcp://localhost:9998,tcp://localhost:9999 "
    '--prompt "Describe the future of AI"',
    "day6-7/infer-multi-node": f'{MOE} --port 9999 --prompt "Explain machine learning"',
    "day6-7/worker-node": "./dllama-worker --model ./converter/intellect3.m --root-hostname $GPUPLAN_ROOT_IP:9999",
}
SCRIPT = "test-script"  # it uses everything


def code_files() -> list[str]:
    return [entry.path for entry in code_folder.find(files.remote() / "distributed-llama", most_mb=2)]


@pytest.mark.parametrize("step", COMMANDS)
def test_the_plans_commands_stand_as_they_are(step: str, shipped: Plan):
    """A command of the plan is a step's command, word for word."""
    phase, name = step.split("/")
    assert " ".join(shipped.phase(phase).step(name).run.split()).startswith(COMMANDS[step])


def test_what_steps_use_is_in_the_code(shipped: Plan):
    """Every glob in `uses` names something that the code has."""
    found = code_files()
    for phase in shipped.phases:
        for step in phase.steps:
            for glob in step.uses:
                assert any(matches(path, glob) for path in found), f"{phase.name}/{step.name}: {glob}"


def test_every_folder_of_the_code_counts_for_somebody(shipped: Plan):
    """No package of the code is outside every step's `uses`: a change of it would go unnoticed."""
    steps = [step for phase in shipped.phases for step in phase.steps if not step.builtin and step.name != SCRIPT]
    for path in set(code_files()) - {"test_glm_implementation.sh"}:
        if path.startswith("dllama_glm/api/"):  # for people: no step of the plan serves it
            continue
        used = [step.name for step in steps if any(matches(path, glob) for glob in step.uses)]
        assert used, f"{path} is in the uses of no step"


def test_the_overlay_makes_what_it_says(shipped: Plan):
    """What the overlay is to create is in the code."""
    (overlay,) = [step for phase in shipped.phases for step in phase.steps if step.builtin == "overlay"]
    assert set(overlay.creates) <= set(code_files())


def test_one_port_is_never_used_twice_at_a_time(shipped: Plan):
    """The multi-node root ends before the single node's workers take its port: nothing may run beside it."""
    steps = {step.name: step for step in shipped.phase("day6-7").steps}
    assert steps["worker-9999"].needs == steps["worker-9998"].needs == ("infer-multi-node",)


@pytest.mark.parametrize("asked", ["day1", "day2-3", "day4-5", "day6-7", "all"])
def test_no_two_steps_write_one_file_at_a_time(shipped: Plan, asked: str):
    """Whichever phase is asked for, with what it pulls in: of two steps that convert one model, one waits."""
    for phase in resolve(shipped, (asked,)):
        steps = {run.id: run for run in phase.steps}
        writers = [(run.id, file) for run in steps.values() for file in _converts(run.step.run)]
        for (one, file), (other, same) in itertools.combinations(writers, 2):
            assert file != same or one in _before(steps, other) or other in _before(steps, one), (file, one, other)


def _converts(command: str) -> list[str]:
    """The files that a command converts to, by itself or by the script's tests 1 and 3."""
    found = re.findall(r"convert-(tokenizer-)?hf\.py \S+ (?:q40 )?(\w+)", command)
    by_script = {"1": "glm4_5_air", "3": "intellect3"}
    for numbers in re.findall(r"\./test_glm_implementation\.sh([ \d]*)", command):
        asked = numbers.split() or list(by_script)
        found += [(kind, by_script[n]) for n in asked if n in by_script for kind in ("", "tokenizer-")]
    return [f"{name}.{'t' if kind else 'm'}" for kind, name in found]


def _before(steps: dict[str, StepRun], step: str) -> set[str]:
    """All that a step waits for, by way of others too, within its phase."""
    needs = {need for need in steps[step].needs if need in steps}
    return needs.union(*(_before(steps, need) for need in needs)) if needs else needs


def test_gpu_steps_of_the_last_phase_have_the_machine_to_themselves(shipped: Plan):
    """Whatever is measured or uses a GPU runs alone: each such step needs the one before it."""
    phase = shipped.phase("day6-7")
    chain = [step for step in phase.steps if step.gpu and step.ready is None]
    needed: dict[str, set[str]] = {}
    for step in phase.steps:
        own = {need for need in step.needs if "/" not in need}
        needed[step.name] = own.union(*(needed[need] for need in own))
    for earlier, later in itertools.pairwise(chain):
        assert earlier.name in needed[later.name], f"{later.name} could run beside {earlier.name}"


def test_every_phase_that_rents_a_card_shows_that_it_ran_there(shipped: Plan):
    """A figure that was measured on the card; the answers ask for none, so that a rehearsal can show them."""
    for phase in shipped.phases:
        assert phase.machine.gpu
        (shown,) = [one for one in phase.deliverables if "on the card that was rented" in one.name]
        assert (shown.device, shown.metric) in {("gpu", "gpus_used"), ("gpu", "torch_gflops")}
        assert shown.min is not None
        assert shown.min >= 1
        assert phase.step(shown.step or "").gpu
        answers = [one for one in phase.deliverables if one.stdout or one.matches]
        assert answers
        assert {one.device for one in answers} == {None}


@pytest.mark.parametrize(("step", "model"), [("bench-glm", "glm4_5_air"), ("bench-intellect3", "intellect3")])
def test_each_model_is_measured_behind_a_long_context_within_the_gate(step: str, model: str, shipped: Plan):
    """`dllama bench --context 4096` beside the plan's table, and its cache stays below 80 % of every card asked for."""
    phase = shipped.phase("day6-7")
    words = phase.step(step).run.split()
    assert words[:3] == ["./dllama", "bench", f"./converter/{model}.m"]
    context, positions = (int(words[words.index(name) + 1]) for name in ("--context", "--max-seq-len"))
    assert context == 4096
    assert context + 128 <= positions
    weights, position, beside = 59.84e9, 188_416, 2 << 30  # docs/gpu-budget.md
    for gpu in phase.machine.gpu:
        gib = int(re.search(r"-(\d+)GB$", gpu)[1])  # type: ignore[index]
        assert weights + positions * position + beside < 0.8 * gib * 1.06e9, gpu  # an H100 of 80 GB shows 85.5
    assert f"bench_{model}.json" in phase.step("save-results").run
    figures = {(expected.step, expected.metric) for expected in shipped.notes.expected}
    assert (f"day6-7/{step}", "tokens_per_second") in figures


def test_secrets_are_asked_for_where_they_are_used(shipped: Plan):
    """The hub's token belongs to the steps that download, and to no other."""
    assert [phase.name for phase in shipped.phases if phase.secrets] == []
    users = [step.name for phase in shipped.phases for step in phase.steps if step.secrets]
    assert users == [step.name for phase in shipped.phases for step in phase.steps if step.hub]


def test_nothing_in_the_controller_knows_the_plan():
    """The package has no word of the plan's models: a user's own plan works the same."""
    package = Path(files.__file__).parent
    for folder in ("config", "plan"):
        for path in (package / folder).rglob("*.py"):
            assert "glm" not in path.read_text().lower(), path
