"""The trained models give the answers that they learnt, from Q40 files; wrong arithmetic gives other ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from dllama_glm.cli.chat import Conversation
from dllama_glm.cli.options import parse
from dllama_glm.cli.session import open_session
from dllama_glm.parallel.group import SingleGroup
from dllama_glm.runtime.generate import Limits, Run, generate, log_probabilities
from dllama_glm.runtime.loader import load_model
from dllama_glm.runtime.model import Model
from dllama_glm.runtime.sampler import Sampler
from dllama_glm.runtime.source import read_architecture

from tests.payload.runtime.runtime_files import logits_of, oracle_of
from tests.payload.runtime.runtime_scripts import MODELS, REPOS, run_script

ANSWERS = json.loads((MODELS / "answers.json").read_text(encoding="utf-8"))


def loaded(path: Path, *, exact: bool = False) -> Model:
    return load_model(path, read_architecture(path), SingleGroup(), threads=1, exact=exact)


def continued(model: Model, prompt: list[int]) -> list[int]:
    """The tokens made greedily, with the end token that stopped them."""
    run = Run(len(prompt))
    tokens = list(generate(model, Sampler(1008), prompt, Limits(150, 2048, frozenset({972, 979, 981})), run))
    assert run.stop_id is not None
    return [*tokens, run.stop_id]


@pytest.mark.parametrize("name", REPOS)
def test_every_answer_comes_out_exactly(name: str, converted: Path):
    """All 178 answers of both models, raw and chat, token for token with the end token that stops each."""
    model = loaded(converted / f"{name}.m")
    answers = ANSWERS[REPOS[name]]
    wrong = [a["prompt"] for a in answers if continued(model, a["prompt_ids"]) != a["answer_ids"]]
    assert wrong == []
    assert len(answers) == {"base": 68, "intellect3": 110}[name]


@pytest.mark.parametrize("name", REPOS)
def test_trained_model_in_f32_equals_transformers(name: str, tmp_path: Path):
    """The F32 file gives transformers' logits within 1e-4 (the answers alone would miss a wrong scale)."""
    path = tmp_path / "model.m"
    run_script("converter/convert-hf.py", str(MODELS / REPOS[name]), "f32", "model", "--output", str(path))
    oracle = oracle_of(MODELS / REPOS[name])
    model = loaded(path, exact=True)
    for answer in ANSWERS[REPOS[name]][-4:]:
        ids = answer["prompt_ids"] + answer["answer_ids"]
        assert np.abs(model.forward(ids, 0, every=True) - logits_of(oracle, ids)).max() < 1e-4


def test_a_full_context_in_f32_equals_transformers(tmp_path: Path):
    """All 2,048 positions, the last ones token by token: logits within 1e-4, and the same best tokens."""
    path = tmp_path / "model.m"
    run_script("converter/convert-hf.py", str(MODELS / REPOS["base"]), "f32", "model", "--output", str(path))
    texts = [answer["prompt_ids"] + answer["answer_ids"] for answer in ANSWERS[REPOS["base"]]]
    ids = [token for text in texts for token in text][:1024] * 2
    oracle = oracle_of(MODELS / REPOS["base"])
    expected, model = logits_of(oracle, ids), loaded(path, exact=True)
    assert len(ids) == 2048
    found = [model.forward(ids[start : start + 500], start, every=True) for start in range(0, 2000, 500)]
    found += [model.forward([token], position) for position, token in enumerate(ids[2000:], start=2000)]
    rows = np.concatenate([part for part in found if part is not None])
    assert np.abs(rows - expected).max() < 1e-4
    assert (rows.argmax(axis=1) == expected.argmax(axis=1)).all()


def test_a_conversation_reads_each_token_once(converted: Path):
    """The second answer, made from what the cache holds of the first turn, is the one that a fresh model gives."""
    files = ["--model", str(converted / "intellect3.m"), "--tokenizer", str(converted / "intellect3.t")]
    options = parse(["chat", *files, "--json", "--system", "Be brief.", "--max-tokens", "12"])
    with open_session(options) as session:
        conversation = Conversation(session, options)
        first, _ = conversation.answer("What is the capital of France?")
        _, second = conversation.answer("What is the capital of Italy?")
        turns = [("system", "Be brief."), ("user", "What is the capital of France?"), ("assistant", first)]
        turns.append(("user", "What is the capital of Italy?"))
        ids = session.tokenizer.chat_prompt([{"role": role, "content": content} for role, content in turns])
        fresh = Run(len(ids))
        limits = Limits(12, 2048, frozenset(session.tokenizer.eos_ids))
        list(generate(loaded(converted / "intellect3.m"), Sampler(1008), ids, limits, fresh))
    assert first == "The capital of France is Paris."
    assert second.ids == fresh.ids
    assert second.prompt_tokens < len(ids) - 10


@pytest.mark.parametrize("float_type", ["q40", "q80"])
@pytest.mark.parametrize("name", REPOS)
def test_the_fast_way_keeps_the_perplexity(name: str, float_type: str, tmp_path: Path):
    """Over 1,000 tokens of learnt answers bytes and halves change the perplexity by less than half a percent."""
    path = tmp_path / "model.m"
    run_script("converter/convert-hf.py", str(MODELS / REPOS[name]), float_type, "model", "--output", str(path))
    texts = [answer["prompt_ids"] + answer["answer_ids"] for answer in ANSWERS[REPOS[name]]]
    found = {}
    for exact in (True, False):
        model = loaded(path, exact=exact)
        scores = [score for ids in texts for score in log_probabilities(model, ids)]
        found[exact] = sum(scores) / len(scores)
    assert len(scores) > 1000 - len(texts)
    assert abs(found[True] - found[False]) < 0.005


def test_a_long_prompt_in_parts_gives_the_same_logits(tmp_path: Path):
    """Prefill in uneven parts, through panels and one by one, equals the whole within 1e-4 in float32."""
    path = tmp_path / "model.m"
    run_script("converter/convert-hf.py", str(MODELS / REPOS["base"]), "f32", "model", "--output", str(path))
    ids = np.random.default_rng(4).integers(0, 900, 700).tolist()
    model = loaded(path, exact=True)
    whole = model.forward(ids, 0)
    assert whole is not None
    for parts in ((700,), (1, 600, 99), (3, 2, 5, 650, 40)):
        start = 0
        for size in parts:
            logits = model.forward(ids[start : start + size], start)
            start += size
        assert logits is not None
        assert np.abs(logits - whole).max() < 1e-4
        assert logits.argmax() == whole.argmax() == model.greedy(ids[-1:], 699)
