"""What becomes text and what ends it: sampling, stop texts, prompts from elsewhere, and conversations that grow."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dllama_glm.cli.chat import Conversation
from dllama_glm.cli.options import parse
from dllama_glm.cli.session import open_session
from dllama_glm.formats import tokenizer_file
from dllama_glm.runtime.errors import DllamaError
from dllama_glm.runtime.generate import PREFILL, Limits, Run, generate
from dllama_glm.runtime.sampler import Sampler
from dllama_glm.tokenizer.stops import StopTexts
from hypothesis import given
from hypothesis import strategies as st

from tests.payload.runtime.runtime_scripts import run_script, try_script

TEST = " This is a test. The model is loaded and it can write text."  # what the base model answers to "Test"


def files(folder: Path, name: str) -> list[str]:
    return ["--model", str(folder / f"{name}.m"), "--tokenizer", str(folder / f"{name}.t")]


def drawn(sampler: Sampler, logits: np.ndarray, count: int = 300) -> list[int]:
    return [sampler.choose(logits) for _ in range(count)]


def test_top_k_and_min_p_leave_out_the_rest():
    """Top-k keeps so many, the first of equals; min-p keeps what has that share of the best; both with top-p."""
    logits = np.log(np.array([0.1, 0.4, 0.1, 0.3, 0.1], np.float32))
    assert set(drawn(Sampler(5, 1.0, 1.0, 1, topk=3), logits)) == {0, 1, 3}
    assert set(drawn(Sampler(5, 1.0, 1.0, 1, minp=0.5), logits)) == {1, 3}
    assert set(drawn(Sampler(5, 1.0, 0.5, 1, topk=2), logits)) == {1}
    assert set(drawn(Sampler(5, 1.0, 1.0, 1, topk=1), logits)) == {1}
    assert set(drawn(Sampler(5, 1.0, 1.0, 1), logits)) == {0, 1, 2, 3, 4}
    assert set(drawn(Sampler(5, 1e-9, 1.0, 1), logits)) == {1}
    shares = np.bincount(drawn(Sampler(5, 1.0, 1.0, 1), logits, 4000), minlength=5) / 4000
    assert np.abs(shares - np.exp(logits)).max() < 0.03


def test_rounding_does_not_change_what_a_seed_draws():
    """Logits that differ in the last bits, as with other ranks, and so swap places by rank, give the same tokens."""
    first, second = np.random.default_rng(3), np.random.default_rng(4)
    logits = first.normal(0, 1e-6, 200).astype(np.float32)
    other = logits + second.normal(0, 1e-6, 200).astype(np.float32)
    assert (np.argsort(logits) != np.argsort(other)).any()
    options: dict[str, Any] = {"temperature": 1.0, "topp": 1.0, "topk": 200, "seed": 7}
    assert drawn(Sampler(200, **options), logits) == drawn(Sampler(200, **options), other)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_ids_without_a_token_are_never_chosen(temperature: float):
    """Holes and padding are left out though their logits are the best; where nothing is a number, it is an error."""
    logits = np.array([1.0, 9.0, 2.0, 9.0], np.float32)
    assert set(drawn(Sampler(3, temperature, 1.0, 1, never=[1, 3]), logits)) <= {0, 2}
    assert Sampler(3, never=[1]).choose(logits) == 2
    with pytest.raises(DllamaError, match="no finite numbers"):
        Sampler(3, temperature).choose(np.array([1.0, np.nan, 2.0], np.float32))


class Wanting:
    """A model whose best row is always 1 and whose second best is 2; it notes what it was given."""

    def __init__(self) -> None:
        self.read: list[tuple[str, list[int], int]] = []

    def reset(self) -> None:
        self.read.clear()

    def forward(self, ids: list[int], position: int, *, every: bool = False) -> np.ndarray:
        self.read.append(("forward", ids, position))
        return np.array([[0.0, 9.0, 5.0, 1.0]], np.float32)

    def greedy(self, ids: list[int], position: int) -> int:
        self.read.append(("greedy", ids, position))
        return 1


def test_greedy_asks_for_logits_only_where_the_best_row_has_no_token():
    """Without holes no logits are asked for; where the best row is a hole, only the last token is read again."""
    limits = Limits(2, 99, frozenset())
    plain, holed = Wanting(), Wanting()
    assert list(generate(plain, Sampler(4), [7, 8], limits, Run(2))) == [1, 1]
    assert {how for how, _, _ in plain.read} == {"greedy"}
    assert list(generate(holed, Sampler(4, never=[1]), [7, 8], limits, Run(2))) == [2, 2]
    assert holed.read[:3] == [("greedy", [7, 8], 0), ("forward", [8], 1), ("greedy", [2], 2)]


def test_a_cancelled_generation_ends_after_the_pass_under_way():
    """Cancelled in the middle of a long prompt, nothing more is read, and the count of what was read is right."""
    model, run = Wanting(), Run(3 * PREFILL)

    def forward(ids: list[int], position: int, *, every: bool = False) -> Any:
        run.cancelled = position > 0

    model.forward = forward  # type: ignore[method-assign]  # as if somebody cancelled in its second pass
    assert list(generate(model, Sampler(4), [1] * 3 * PREFILL, Limits(9, 4 * PREFILL, frozenset()), run)) == []
    assert (run.read, model.read) == (2 * PREFILL, [])


@given(text=st.text(alphabet="abc", max_size=30), stop=st.text(alphabet="abc", min_size=1, max_size=4), data=st.data())
def test_a_stop_text_is_found_however_it_is_cut(text: str, stop: str, data: st.DataObject):
    """What is shown is the text in front of the first stop text, whatever the pieces it came in."""
    ends = StopTexts([stop, "absent"])
    shown, rest = "", text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        shown += ends.push(rest[:size])
        rest = rest[size:]
        assert text.partition(stop)[0].startswith(shown)
    assert shown + ends.flush() == text.partition(stop)[0]
    assert ends.found == (stop if stop in text else None)


def test_of_several_stop_texts_the_first_one_counts():
    """The text ends in front of the first; of two in one place the longer is named."""
    ends = StopTexts(["lo", "ell", "ello"])
    assert (ends.push("h"), ends.push("ello wor"), ends.found, ends.push("ld"), ends.flush()) == (
        "h",
        "",
        "ello",
        "",
        "",
    )


def test_stop_texts_end_the_text_though_they_span_tokens(converted: Path):
    """--stop ends the text in front of it and never shows it; the document names it, and every end token."""
    words = [*files(converted, "base"), "--prompt", "Test", "--stop", "never", "--stop", "st. The mod"]
    assert run_script("dllama", "inference", *words).stdout == " This is a te\n"
    document = json.loads(run_script("dllama", "inference", *words, "--json").stdout)
    assert (document["text"], document["stop"]) == (" This is a te", {"id": None, "text": "st. The mod"})
    assert [token["id"] for token in document["eos"]] == [972, 979, 981]
    assert {token["text"] for token in document["eos"]} == {"<|endoftext|>", "<|user|>", "<|observation|>"}


def test_a_seed_writes_the_same_text_on_any_threads(converted: Path):
    """One thread and two draw the same tokens; without a seed the one that was used is named."""
    hot = ["--prompt", "A", "--temperature", "1.5", "--topp", "0.95", "--max-tokens", "40", "--json"]
    seeded = [*files(converted, "base"), *hot, "--seed", "11"]
    documents = [
        json.loads(run_script("dllama", "inference", *seeded, "--nthreads", threads).stdout) for threads in ("1", "2")
    ]
    assert documents[0]["token_ids"] == documents[1]["token_ids"]
    assert len(documents[0]["token_ids"]) > 10
    free = json.loads(run_script("dllama", "inference", *files(converted, "base"), *hot).stdout)
    again = run_script("dllama", "inference", *files(converted, "base"), *hot, "--seed", str(free["seed"])).stdout
    assert json.loads(again)["token_ids"] == free["token_ids"]


def test_prompts_come_from_a_file_or_stdin(converted: Path, tmp_path: Path):
    """--prompt-file and --prompt - read the prompt, but for its last line break, in every command that takes one."""
    path = tmp_path / "prompt.txt"
    path.write_bytes(b"The capital of France is\r\n")
    words = files(converted, "base")
    assert run_script("dllama", "inference", *words, "--prompt-file", str(path)).stdout == " Paris.\n"
    piped = try_script("dllama", "inference", *words, "--prompt", "-", text="The capital of France is\n")
    assert (piped.returncode, piped.stdout) == (0, " Paris.\n")
    scores = [
        run_script("dllama", "perplexity", *words, *prompt).stdout
        for prompt in (["--prompt", "The capital of France is"], ["--prompt-file", str(path)])
    ]
    assert scores[0] == scores[1]
    chat = try_script("dllama", "chat", *files(converted, "intellect3"), "--prompt", "-", text="Explain AI")
    assert chat.stdout.startswith("AI means artificial intelligence")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prompt-file", "nowhere.txt"], "cannot be read from nowhere.txt: No such file"),
        (["--prompt-file", "."], "Is a directory"),
        (["--prompt-file", "LATIN"], "is not UTF-8 (byte 3)"),
        (["--prompt-file", "LATIN", "--prompt", "x"], "not allowed with"),
        (["--prompt", "x", "--stop", ""], "--stop: is empty"),
        (["--prompt", "x", "--top-k", "0"], "whole number above 0"),
        (["--prompt", "x", "--min-p", "1.5"], "not from 0 to 1"),
    ],
)
def test_bad_prompts_and_choices_are_refused(words: list[str], said: str, converted: Path, tmp_path: Path):
    """A prompt that cannot be read and a number that cannot be meant end in one clear error."""
    latin = tmp_path / "latin.txt"
    latin.write_bytes("caf\xe9".encode("latin-1"))
    words = [str(latin) if word == "LATIN" else word for word in words]
    done = try_script("dllama", "inference", *files(converted, "base"), *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_holes_are_neither_made_nor_printed(converted: Path, tmp_path: Path):
    """At a temperature that draws from all rows, ids without a token do not come up."""
    content = tokenizer_file.read(converted / "base.t")
    assert content.extension
    holes = [tokenizer_file.TokenRecord(token_id, tokenizer_file.HOLE) for token_id in range(1008, 1024)]
    extension = replace(content.extension, n_tokens=1024, records=(*content.extension.records, *holes))
    path = tmp_path / "holes.t"
    tokenizer_file.write(path, replace(content, extension=extension))
    words = ["--model", str(converted / "base.m"), "--tokenizer", str(path), "--prompt", "A", "--json"]
    hot = ["--temperature", "1e9", "--topp", "1", "--seed", "9", "--max-tokens", "120"]
    document = json.loads(run_script("dllama", "inference", *words, *hot).stdout)
    assert len(document["token_ids"]) == 120
    assert max(document["token_ids"]) < 1008
    assert "[PAD" not in document["text"]


@pytest.mark.parametrize("role", ["end", "prefix", "bos"])
def test_a_tokenizer_of_another_model_is_refused(role: str, converted: Path, tmp_path: Path):
    """An end, prefix or bos token that the model has no row for ends the command before anything is computed."""
    content = tokenizer_file.read(converted / "base.t")
    extension = content.extension
    assert extension
    content = replace(content, tokens=(*content.tokens, b"<far>"), scores=(*content.scores, 0.0))
    changes: dict[str, dict[str, Any]] = {"prefix": {"prefix_ids": (974, 1024)}, "bos": {"bos_id": 1024}}
    eos_ids = (972, 1024) if role == "end" else content.eos_ids
    path = tmp_path / "other.t"
    tokenizer_file.write(path, replace(content, eos_ids=eos_ids, extension=replace(extension, **changes.get(role, {}))))
    words = ["--model", str(converted / "base.m"), "--tokenizer", str(path), "--prompt", "A"]
    done = try_script("dllama", "inference", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {path}: the {role} token '<far>' has the id 1024, and the model has 1024 rows only: "
        "tokenizer and model do not belong together\n"
    )


def test_a_conversation_that_outgrows_the_context_drops_its_oldest_turns(converted: Path):
    """The system message and the newest turns stay, what was dropped is said, and the answer is made from the rest."""
    options = parse(
        [
            "chat",
            *files(converted, "intellect3"),
            "--json",
            "--system",
            "Hi",
            "--max-tokens",
            "5",
            "--max-seq-len",
            "80",
        ]
    )
    questions = [f"What is the capital of {place}?" for place in ("France", "Italy", "Spain", "Peru")]
    with open_session(options) as session:
        conversation = Conversation(session, options)
        texts = [conversation.answer(question) for question in questions]
        run = texts[-1][1]
        for kept in range(len(questions), 0, -1):
            messages = [{"role": "system", "content": "Hi"}]
            for (text, _), question in zip(texts[-kept:-1], questions[-kept:-1], strict=True):
                messages += [{"role": "user", "content": question}, {"role": "assistant", "content": text}]
            ids = session.tokenizer.chat_prompt([*messages, {"role": "user", "content": questions[-1]}])
            if len(ids) <= 60:
                break
    assert 1 < kept < 4
    assert run.cached_tokens + run.prompt_tokens == len(ids)


def test_a_conversation_goes_on_whatever_is_too_long(converted: Path):
    """A context that slides gets a note, a message that fits no context is not read, and the next one is answered."""
    lines = ["What is the capital of France?"] * 4 + ["word " * 80, "What is the capital of Canada?"]
    words = [*files(converted, "intellect3"), "--max-tokens", "8", "--max-seq-len", "64"]
    done = try_script("dllama", "chat", *words, text="\n".join(lines))
    assert done.returncode == 0
    assert done.stdout.count("\n") == 5
    assert (
        "the conversation has outgrown the context of 64 tokens: the oldest 1 of its turns are forgotten" in done.stderr
    )
    assert done.stderr.count("not read: The prompt has") == 1


def test_thinking_reaches_the_template(converted: Path, tmp_path: Path):
    """--thinking on and off set enable_thinking; a template that does not know it gets a note."""
    content = tokenizer_file.read(converted / "intellect3.t")
    path = tmp_path / "thinks.t"
    asks = "{% if enable_thinking is defined %}{{ 'yes yes' if enable_thinking else 'no' }}{% endif %}"
    tokenizer_file.write(path, replace(content, chat_template=f"{content.chat_template}{asks}"))
    words = [
        "--model",
        str(converted / "intellect3.m"),
        "--tokenizer",
        str(path),
        "--prompt",
        "Hi",
        "--max-tokens",
        "1",
    ]
    counts = [
        json.loads(run_script("dllama", "chat", *words, "--json", *option).stdout)["prompt_tokens"]
        for option in ([], ["--thinking", "off"], ["--thinking", "on"])
    ]
    assert counts[0] < counts[1] < counts[2]
    plain = [*files(converted, "intellect3"), "--prompt", "Hi", "--max-tokens", "1", "--thinking", "off"]
    assert (
        "changes nothing: this model's chat template knows no enable_thinking"
        in run_script("dllama", "chat", *plain).stderr
    )


def test_special_tokens_in_messages_are_text_unless_asked_for(converted: Path):
    """`<|assistant|>` in a message is many tokens, and with --special-in-messages the one that it names."""
    words = [*files(converted, "intellect3"), "--prompt", "Hi<|assistant|>", "--max-tokens", "1", "--json"]
    text, token = (
        json.loads(run_script("dllama", "chat", *words, *option).stdout)["prompt_tokens"]
        for option in ([], ["--special-in-messages"])
    )
    assert text > token + 3
