"""Files of the architectures that upstream knows, scored as transformers and upstream score them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dllama_glm.parallel.group import SingleGroup
from dllama_glm.runtime.generate import log_probabilities
from dllama_glm.runtime.loader import load_model
from dllama_glm.runtime.source import read_architecture

from tests.payload.runtime.runtime_files import logits_of, oracle_of
from tests.payload.runtime.runtime_scripts import GOLDEN, run_script

SCORED = ["llama", "qwen3", "qwen3_moe"]


def expected_of(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / name / "expected.json").read_text(encoding="utf-8"))["perplexity"]


def convert(name: str, float_type: str, folder: Path) -> Path:
    path = folder / f"{name}.m"
    run_script("converter/convert-hf.py", str(GOLDEN / name), float_type, name, "--output", str(path))
    return path


@pytest.mark.parametrize("name", SCORED)
@pytest.mark.parametrize("float_type", ["f32", "q40"])
def test_perplexity_equals_transformers_and_upstream(name: str, float_type: str, tmp_path: Path):
    """Average log-probability within 2e-5 of transformers on the same weights; upstream's own figure within 0.01."""
    path = convert(name, float_type, tmp_path)
    expected = expected_of(name)
    model = load_model(path, read_architecture(path), SingleGroup(), threads=1, exact=True)
    found = log_probabilities(model, expected["prompt_ids"])
    average = sum(found) / len(found)
    figures = expected[float_type]
    assert average == pytest.approx(figures["transformers_f32_avgLogProb"], abs=2e-5)
    if "avgLogProb" in figures:  # upstream cannot run a mixture of experts in F32
        assert average == pytest.approx(figures["avgLogProb"], abs=0.01)


@pytest.mark.parametrize("float_type", ["q40", "q80"])
def test_the_fast_way_keeps_the_perplexity_of_golden_prompts(float_type: str, tmp_path: Path):
    """Bytes and halves move the perplexity of upstream's prompts by less than half a percent.

    All prompts count together: where two scores of an untrained router are nearly equal, a token meets another expert.
    """
    found: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for name in SCORED:
        path, ids = convert(name, float_type, tmp_path), expected_of(name)["prompt_ids"]
        for exact, scores in found.items():
            model = load_model(path, read_architecture(path), SingleGroup(), threads=1, exact=exact)
            scores.append(np.array(log_probabilities(model, ids)))
    apart = [one - other for one, other in zip(found[True], found[False], strict=True)]
    assert 0 < abs(np.concatenate(apart).mean()) < 0.005
    assert max(np.median(np.abs(errors)) for errors in apart) < 0.05


@pytest.mark.parametrize("name", ["llama", "llama3-tied", "mistral", "qwen3", "qwen3_moe"])
def test_converted_files_compute_what_their_checkpoint_computes(name: str, tmp_path: Path):
    """Converter and runtime together: a checkpoint's F32 file gives the logits of transformers on the checkpoint."""
    path = convert(name, "f32", tmp_path)
    oracle = oracle_of(GOLDEN / name)
    model = load_model(path, read_architecture(path), SingleGroup(), threads=1, exact=True)
    ids = np.random.default_rng(2).integers(0, 380, 200).tolist()  # past the 128 positions that llama3-tied stretches
    assert np.abs(model.forward(ids, 0, every=True) - logits_of(oracle, ids)).max() < 1e-4


@pytest.mark.parametrize("name", SCORED)
def test_the_command_line_scores_a_text_as_upstream_does(name: str, tmp_path: Path):
    """`dllama perplexity` makes upstream's tokens of the text and prints upstream's figure, within the rounding."""
    model = convert(name, "q40", tmp_path)
    tokenizer = tmp_path / "tokenizer.t"
    run_script("converter/convert-tokenizer-hf.py", str(GOLDEN / name), name, "--output", str(tokenizer))
    expected = expected_of(name)
    words = ["--model", str(model), "--tokenizer", str(tokenizer), "--prompt", expected["prompt"], "--json"]
    for how, bound in (("f32", 2e-5), ("q80", 0.005)):
        document = json.loads(run_script("dllama", "perplexity", *words, "--buffer-float-type", how).stdout)
        assert document["tokens"] == len(expected["prompt_ids"]) - 1
        assert document["avgLogProb"] == pytest.approx(expected["q40"]["transformers_f32_avgLogProb"], abs=bound)
