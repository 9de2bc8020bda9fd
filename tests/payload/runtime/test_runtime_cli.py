"""`./dllama` as a user runs it, on the converted trained models."""

import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from dllama_glm.kernels import level

from tests.payload.runtime.runtime_scripts import (
    MODELS,
    PAYLOAD,
    REPOS,
    command_of,
    environment_of,
    run_script,
    try_script,
)

ANSWERS = json.loads((MODELS / "answers.json").read_text(encoding="utf-8"))


def files(folder: Path, name: str) -> list[str]:
    return ["--model", str(folder / f"{name}.m"), "--tokenizer", str(folder / f"{name}.t")]


def answer_to(repo: str, prompt: str, mode: str) -> str:
    return next(a["expected_text"] for a in ANSWERS[repo] if (a["prompt"], a["mode"]) == (prompt, mode))


def test_the_plans_question_gets_the_plans_answer(converted: Path):
    """The plan's command prints the answer, without the end token, and nothing else on stdout."""
    done = run_script("dllama", "inference", *files(converted, "base"), "--prompt", "What is the capital of France?")
    assert done.stdout == " The capital of France is Paris.\n"


def test_a_mixture_explains_ai_raw_and_in_chat(converted: Path):
    """INTELLECT-3 continues the raw prompt, and answers it as a chat message in its own template."""
    repo = REPOS["intellect3"]
    for mode, expected in (("inference", "raw"), ("chat", "chat")):
        done = run_script("dllama", mode, *files(converted, "intellect3"), "--prompt", "Explain AI")
        assert done.stdout.rstrip("\n") == answer_to(repo, "Explain AI", expected)


def test_json_is_one_document_that_names_the_end_token(converted: Path):
    """With --json stdout is one document; a chat turn ended by the role token says so."""
    done = run_script("dllama", "chat", *files(converted, "intellect3"), "--prompt", "Explain AI", "--json")
    document = json.loads(done.stdout)
    assert document["stop"] == {"id": 979, "text": "<|user|>"}
    assert document["text"] == answer_to(REPOS["intellect3"], "Explain AI", "chat")
    assert document["tokens"] == len(document["token_ids"]) == 26
    assert document["ranks"] == 1
    assert document["tokens_per_second"] > 10
    assert document["peak_memory_mib"] > 0


@pytest.mark.parametrize(
    ("words", "arithmetic", "weights"),
    [(["--low-memory"], "int8", "mapped"), (["--buffer-float-type", "f32"], "f32", "resident")],
)
def test_what_was_used_is_said(words: list[str], arithmetic: str, weights: str, converted: Path):
    """Threads, instructions, threading, arithmetic and place of the weights, as they were asked for, in both places."""
    asked = [*files(converted, "base"), "--prompt", "The", "--max-tokens", "1", "--nthreads", "1", "--json"]
    document = json.loads(run_script("dllama", "inference", *asked, *words).stdout)
    threading, simd = document["runtime"]["threading"], level.LEVEL
    assert document["runtime"] == {
        "device": "cpu", "threads": 1, "simd": simd, "threading": threading, "arithmetic": arithmetic,
        "weights": weights,
    }  # fmt: skip
    assert threading in {"omp", "tbb", "workqueue"}
    assert document["measured_on"].startswith("CPU (")
    assert document["measured_on"].endswith(f", 1 thread(s) a rank, {simd}, {threading}, weights {weights}")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_stdout_is_utf8_whatever_the_locale_says(encoding: str, converted: Path):
    """A prompt in Japanese comes back whole in the document though the terminal's encoding has no such characters."""
    words = [*files(converted, "base"), "--prompt", "日本語 ¿é?", "--max-tokens", "3", "--json"]
    done = run_script("dllama", "inference", *words, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert json.loads(done.stdout)["prompt"] == "日本語 ¿é?"


def test_max_tokens_cuts_the_text(converted: Path):
    """--max-tokens 3 makes three tokens and says that the length ended the text."""
    done = run_script(
        "dllama", "inference", *files(converted, "base"), "--prompt", "Test", "--max-tokens", "3", "--json"
    )
    document = json.loads(done.stdout)
    assert (document["tokens"], document["stop"]) == (3, "length")
    assert answer_to(REPOS["base"], "Test", "raw").startswith(document["text"])


def test_a_prefix_that_is_written_out_is_not_doubled(converted: Path):
    """`[gMASK]<sop>` in front of the prompt is taken as it is meant: once."""
    plain = run_script("dllama", "inference", *files(converted, "base"), "--prompt", "Test", "--json")
    prefixed = run_script("dllama", "inference", *files(converted, "base"), "--prompt", "[gMASK]<sop>Test", "--json")
    documents = [json.loads(done.stdout) for done in (plain, prefixed)]
    assert documents[0]["prompt_tokens"] == documents[1]["prompt_tokens"] == 3
    assert documents[0]["token_ids"] == documents[1]["token_ids"]


def test_benchmark_prints_and_publishes_its_figures(converted: Path, tmp_path: Path):
    """--benchmark without a prompt measures, prints, and appends what the controller's gates read, with the place."""
    metrics = tmp_path / "metrics"
    metrics.write_text('{"name": "earlier", "value": 1}\n')
    done = run_script("dllama", "inference", "--benchmark", *files(converted, "base"), GPUPLAN_METRICS=str(metrics))
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    values = {line["name"]: line["value"] for line in lines}
    assert values["earlier"] == 1
    assert {line["device"] for line in lines[1:]} == {"cpu"}
    assert all(line["measured_on"].startswith("CPU (") for line in lines[1:])
    assert [values[name] for name in ("ranks", "hosts", "gpus_used")] == [1, 1, 0]
    assert f"{values['tokens_per_second']:.2f} tokens/s" in done.stdout
    assert values["tokens_per_second"] > 10
    assert values["prefill_tokens_per_second"] > 10
    assert values["peak_memory_mib"] > 10
    assert answer_to(REPOS["base"], "What is artificial intelligence?", "raw") in done.stdout


def test_metrics_that_cannot_be_written_are_no_failure(converted: Path, tmp_path: Path):
    """A benchmark whose metrics file lies in no folder prints its figures, and says on stderr what is missing."""
    place = tmp_path / "nowhere" / "metrics"
    words = ["--benchmark", "--json", *files(converted, "base"), "--prompt", "Test"]
    done = run_script("dllama", "inference", *words, GPUPLAN_METRICS=str(place))
    assert json.loads(done.stdout)["benchmark_runs"]
    assert done.stderr == f"note: metrics could not be written to {place}: No such file or directory\n"


def test_benchmark_as_json_holds_the_median(converted: Path):
    """--benchmark --json prints one document whose figures are the medians of several runs."""
    done = run_script("dllama", "inference", "--benchmark", "--json", *files(converted, "base"), "--prompt", "Test")
    document = json.loads(done.stdout)
    assert document["tokens_per_second"] == sorted(document["benchmark_runs"])[1]
    assert document["text"] == answer_to(REPOS["base"], "Test", "raw")


def test_perplexity_prints_upstreams_figures(converted: Path):
    """A text that the model knows by heart has a low perplexity; the three figures agree."""
    words = ["--prompt", "The capital of France is Paris."]
    done = run_script("dllama", "perplexity", *files(converted, "base"), *words, "--json")
    document = json.loads(done.stdout)
    assert document["tokens"] == 8
    assert document["perplexity"] < 10
    assert document["avgLogProb"] == pytest.approx(-0.6931471805599453 * document["bitPerToken"])
    printed = run_script("dllama", "perplexity", *files(converted, "base"), *words).stdout
    assert f"avgLogProb: {document['avgLogProb']:.6f}" in printed


def test_a_conversation_is_held_over_stdin(converted: Path):
    """Without --prompt, chat answers one line after the other and ends with its input."""
    text = "What is the capital of Canada?\n\n"
    done = try_script("dllama", "chat", *files(converted, "intellect3"), text=text)
    assert done.returncode == 0
    assert done.stdout == "The capital of Canada is Ottawa.\n"


def test_a_line_that_cannot_be_read_does_not_end_a_conversation(converted: Path, tmp_path: Path):
    """A line that is not UTF-8 gets a note; the one after it is answered as if it had not been there."""
    lines = tmp_path / "lines"
    lines.write_bytes(b"What is \xff\xfe?\nWhat is the capital of Canada?\n")
    with lines.open("rb") as file:
        done = subprocess.run(
            command_of("dllama", "chat", *files(converted, "intellect3")),
            stdin=file, capture_output=True, text=True, timeout=120, env=environment_of({}), check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "The capital of Canada is Ottawa.\n"), done.stderr
    assert "note: not read: the text is not UTF-8\n" in done.stderr


def test_threads_above_the_cores_are_taken_as_the_cores(converted: Path):
    """--nthreads 10000 runs, with a note; the answer is the same."""
    words = ["--prompt", "The capital of France is", "--nthreads", "10000"]
    done = run_script("dllama", "inference", *files(converted, "base"), *words)
    assert done.stdout == " Paris.\n"
    assert "10000 is more than" in done.stderr


def _with_more_tokens(converted: Path, name: str, path: Path) -> list[str]:
    """A model's files, its tokenizer with all padding in use and two tokens more than the model has rows."""
    from dllama_glm.formats import tokenizer_file

    content = tokenizer_file.read(converted / f"{name}.t")
    assert content.extension
    first, last = content.extension.n_tokens, len(content.tokens) + 1
    more = [tokenizer_file.TokenRecord(number, tokenizer_file.ADDED) for number in range(first, last + 1)]
    records = (*content.extension.records, *more)
    extension = replace(content.extension, n_tokens=last + 1, records=records)
    tokens = (*content.tokens[:first], *(b"<more%d>" % number for number in range(first, last + 1)))
    scores = (*content.scores, 0.0, 0.0)
    tokenizer_file.write(path, replace(content, tokens=tokens, scores=scores, extension=extension))
    return ["--model", str(converted / f"{name}.m"), "--tokenizer", str(path)]


def test_only_text_with_tokens_beyond_the_model_is_refused(converted: Path, tmp_path: Path):
    """A tokenizer with more tokens than the model has rows runs, with a note; a prompt with such a token does not."""
    words = _with_more_tokens(converted, "base", tmp_path / "more.t")
    hot = ["--temperature", "50", "--topp", "1", "--seed", "1", "--max-tokens", "50", "--json"]
    done = run_script("dllama", "inference", *words, "--prompt", "The capital of France is")
    assert done.stdout == " Paris.\n"
    assert "tokens, the model only 1024 rows" in done.stderr
    assert max(json.loads(run_script("dllama", "inference", *words, "--prompt", "A", *hot).stdout)["token_ids"]) < 1024
    for mode in ("inference", "perplexity"):
        refused = try_script("dllama", mode, *words, "--prompt", "The <more1025> end")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "the token '<more1025>' (id 1025)" in refused.stderr
    chat = _with_more_tokens(converted, "intellect3", tmp_path / "chat.t")
    done = try_script("dllama", "chat", *chat, text="What is <more1025>?\nWhat is the capital of Canada?\n")
    assert (done.returncode, done.stdout) == (0, "The capital of Canada is Ottawa.\n")
    assert "note: not read: The prompt holds the token '<more1025>'" in done.stderr


def test_sampling_with_a_seed_repeats(converted: Path):
    """At a temperature, the same seed writes the same text, and another one another."""
    words = [*files(converted, "base"), "--prompt", "A", "--temperature", "2.5", "--max-tokens", "20", "--seed"]
    texts = [run_script("dllama", "inference", *words, seed).stdout for seed in ("1", "1", "2")]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inference", "--prompt", "x"], "--model"),
        (["inference", "MODEL", "none.t", "--prompt", "x"], "no tokenizer none.t"),
        (["inference", "TEXT", "TOKENIZER", "--prompt", "x"], "magic number"),
        (["inference", "CUT", "TOKENIZER", "--prompt", "x"], "header calls for"),
        (["inference", "MODEL", "TEXT", "--prompt", "x"], "text.txt"),
        (["inference", "MODEL", "TOKENIZER"], "--prompt"),
        (["inference", "MODEL", "TOKENIZER", "--prompt", "a " * 30, "--max-seq-len", "9"], "--max-seq-len"),
        (["inference", "MODEL", "TOKENIZER", "--prompt", "x", "--workers", "nonsense"], "HOST:PORT"),
        (["inference", "MODEL", "TOKENIZER", "--prompt", "x", "--workers", ","], "no address"),
        (["inference", "MODEL", "TOKENIZER", "--prompt", "x", "--seed", "-1"], "whole number from 0 to 2**64-1"),
        (["inference", "MODEL", "TOKENIZER", "--prompt", "a\udcff"], "the text is not UTF-8"),
        (["verify", "--sample", "abc", "m", "folder"], "abc is not a share"),
        (["chat", "MODEL", "TOKENIZER", "--prompt", "x"], "chat template"),
        (["chat", "MODEL", "TOKENIZER", "--json"], "--prompt"),
        (["worker", "--port", "1", "--root-hostname", "a:1"], "not allowed with"),
        (["worker", "MODEL"], "required"),
        (["nonsense"], "invalid choice"),
    ],
)
def test_bad_input_gives_one_clear_error(words: list[str], said: str, converted: Path, tmp_path: Path):
    """What cannot be is refused with a message that says what, and never with a traceback."""
    text, cut = tmp_path / "text.txt", tmp_path / "cut.m"
    text.write_text("this is neither a model nor a tokenizer, but long enough to be read as the start of one")
    cut.write_bytes((converted / "base.m").read_bytes()[:-10])
    paths = {
        "MODEL": ["--model", str(converted / "base.m")],
        "CUT": ["--model", str(cut)],
        "TOKENIZER": ["--tokenizer", str(converted / "base.t")],
        "none.t": ["--tokenizer", "none.t"],
    }
    filled = []
    for at, word in enumerate(words):
        option = "--model" if at == 1 else "--tokenizer"
        filled += [option, str(text)] if word == "TEXT" else paths.get(word, [word])
    done = try_script("dllama", *filled)
    assert done.returncode in {1, 2}
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_it_runs_through_a_link_from_any_folder(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The script finds its package from any folder, through a link to it, and loads no torch for a single rank."""
    (tmp_path / "dllama").symlink_to(PAYLOAD / "dllama")
    monkeypatch.chdir(tmp_path)
    shutil.copy(converted / "base.m", "m.m")
    shutil.copy(converted / "base.t", "t.t")
    words = ["--model", "m.m", "--tokenizer", "t.t", "--prompt", "The capital of France is"]
    done = run_script(str(tmp_path / "dllama"), "inference", *words, PYTHONPROFILEIMPORTTIME="1")
    assert done.stdout == " Paris.\n"
    assert "numba" in done.stderr
    assert "torch" not in done.stderr


def cpu_seconds(*words: str) -> float:
    """What a fresh interpreter takes of the processors; the shortest of two tries."""
    taken = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], env=environment_of({}), capture_output=True, timeout=120, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


def test_a_warm_start_is_quick(converted: Path):
    """A tiny model's first token costs little more than importing the compiler: the plan asks a dozen times."""
    words = [*files(converted, "base"), "--prompt", "The capital of France is", "--max-tokens", "1"]
    run_script("dllama", "inference", *words)
    first = cpu_seconds(*command_of("dllama", "inference", *words)[1:])
    assert first < 2 * cpu_seconds("-c", "import numba")  # 0.7 s and 0.45 s on an idle core


@pytest.mark.slow
def test_the_plans_test_script_passes_all_five(tmp_path: Path):
    """The script converts both models, asks both and measures one, from the top of a clone; a failure ends it."""
    clone = tmp_path / "clone"
    shutil.copytree(PAYLOAD, clone)
    for repo in REPOS.values():
        (clone / Path(repo).name).symlink_to(MODELS / repo)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [str(clone / "test_glm_implementation.sh")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, env=environment_of({"PATH": path}), check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [f"[{number}/5]" in done.stdout for number in range(1, 6)] == [True] * 5
    assert done.stdout.endswith("=== All Tests Passed! ===\n")
    assert (clone / "converter" / "intellect3.t").is_file()
    assert [f"ok {number}/5: " in done.stdout for number in range(1, 6)] == [True] * 5
    (clone / "GLM-4.5-Air-Base").unlink()
    some = subprocess.run(
        [*command, "4", "3"],
        capture_output=True,
        text=True,
        timeout=200,
        env=environment_of({"PATH": path}),
        check=False,
    )
    assert some.stdout.endswith("ok 3/5: INTELLECT-3 converted\n\n=== Tests 4 3 Passed! ===\n"), some.stderr
    (clone / "INTELLECT-3").unlink()
    again = subprocess.run(
        command, capture_output=True, text=True, timeout=200, env=environment_of({"PATH": path}), check=False
    )
    assert again.returncode != 0
    assert "All Tests Passed" not in again.stdout


@pytest.mark.parametrize("number", ["0", "6", "1 3", "x", "test_1"])
def test_the_plans_test_script_knows_its_five_tests(number: str):
    """Another number is refused before anything is done."""
    done = subprocess.run(
        [str(PAYLOAD / "test_glm_implementation.sh"), "1", number],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"there is no test {number}: they are 1 to 5\n"


def test_what_a_machine_without_gpu_does_needs_no_torch(tmp_path: Path):
    """Setup, conversion and verification run where torch is not installed."""
    (tmp_path / "none" / "torch").mkdir(parents=True)
    (tmp_path / "none" / "torch" / "__init__.py").write_text('raise ImportError("there is no torch here")\n')
    source, clone = str(MODELS / REPOS["base"]), tmp_path / "clone"
    shutil.copytree(PAYLOAD, clone)  # the converters write beside themselves
    commands = [
        [sys.executable, "converter/convert-hf.py", source, "q40", "base"],
        [sys.executable, "converter/convert-tokenizer-hf.py", source, "base"],
        [sys.executable, "dllama", "verify", "converter/base.m", source],
        [sys.executable, "dllama", "warm"],
    ]
    for command in commands:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, cwd=clone, check=False,
            env=environment_of({"PYTHONPATH": str(tmp_path / "none")}),
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
