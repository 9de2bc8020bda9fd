"""Sampling, stopping, splitting and addresses, each by itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dllama_glm.cli.options import max_tokens, parse
from dllama_glm.parallel.addresses import Endpoint, interface_of, is_loopback, listen, parse_endpoints, private_address
from dllama_glm.parallel.shard import BLOCK, check_rank_count, largest_rank_count, shard, vocabulary_parts
from dllama_glm.runtime.architecture import Architecture, Rotary, Routing
from dllama_glm.runtime.errors import DllamaError, UsageError
from dllama_glm.runtime.generate import PREFILL, Limits, Run, generate, log_probabilities
from dllama_glm.runtime.matrix import F32, Q40, Q80, Matrix
from dllama_glm.runtime.routing import choose
from dllama_glm.runtime.sampler import Sampler

TINY = Architecture(
    name="glm4_moe",
    dim=128,
    layers=4,
    heads=8,
    kv_heads=2,
    head_dim=32,
    dense_width=384,
    expert_width=96,
    shared_experts=1,
    first_dense_layers=1,
    vocab_size=1024,
    max_seq_len=2048,
    norm_eps=1e-5,
    rotary=Rotary(1e6, 16, interleaved=False),
    routing=Routing(8, 2, sigmoid=True, normalise=True, corrected=True),
    attention_bias=True,
    qk_norm=False,
    post_norms=False,
    window=2048,
)


class Script:
    """A model that wants to say the given tokens, whatever it reads; it notes what it was given."""

    def __init__(self, answer: list[int], prompt: int) -> None:
        self.answer = answer
        self.prompt = prompt
        self.read: list[tuple[int, int]] = []

    def reset(self) -> None:
        self.read.clear()

    def forward(self, ids: list[int], position: int, *, every: bool = False) -> np.ndarray:
        self.read.append((position, len(ids)))
        logits = np.zeros((len(ids) if every else 1, 32), np.float32)
        said = max(0, position + len(ids) - self.prompt)
        logits[-1, self.answer[min(said, len(self.answer) - 1)]] = 1
        return logits

    def greedy(self, ids: list[int], position: int) -> int:
        return int(np.argmax(self.forward(ids, position)[-1]))


def made(answer: list[int], *, tokens: int = 100, room: int = 100, prompt: int = 3) -> tuple[list[int], Run]:
    run = Run(prompt_tokens=prompt)
    limits = Limits(tokens, room, frozenset({30, 31}))
    return list(generate(Script(answer, prompt), Sampler(32), [1] * prompt, limits, run)), run


@pytest.mark.parametrize("eos", [30, 31])
def test_every_end_token_stops_and_is_not_part_of_the_text(eos: int):
    """Generation ends at whichever end token comes first, names it, and does not yield it."""
    tokens, run = made([5, 6, 7, eos, 8, 8])
    assert tokens == [5, 6, 7] == run.ids
    assert run.stop_id == eos


def test_the_limit_counts_without_the_end_token():
    """An answer of exactly --max-tokens tokens that then ends is told from one that was cut off."""
    assert made([5, 6, 30], tokens=2)[1].stop_id == 30
    cut, run = made([5, 6, 7, 30], tokens=2)
    assert (cut, run.stop_id) == ([5, 6], None)


def test_generation_ends_where_the_positions_end():
    """A context of 5 positions holds 3 prompt tokens and 2 read ones; the last token made needs no position."""
    tokens, run = made([5], room=5)
    assert len(tokens) == 3
    assert run.stop_id is None


@pytest.mark.parametrize(("prompt", "room"), [(0, 10), (11, 10)])
def test_a_prompt_without_tokens_or_room_is_refused(prompt: int, room: int):
    """An empty prompt and one longer than the context are usage errors, before anything is computed."""
    with pytest.raises(UsageError):
        made([5], prompt=prompt, room=room)


def test_a_long_prompt_is_read_in_parts():
    """Prompts are read in bounded parts at the right positions; speed counts passes after the prompt only."""
    model = Script([5, 30], PREFILL + 2)
    run = Run(prompt_tokens=PREFILL + 2)
    list(generate(model, Sampler(32), [1] * (PREFILL + 2), Limits(9, 999, frozenset({30})), run))
    assert model.read[:2] == [(0, PREFILL), (PREFILL, 2)]
    assert run.passes == len(model.read) - 2


def test_log_probabilities_score_each_next_token():
    """The figure of token i comes from the logits after token i - 1."""

    class Fixed(Script):
        def forward(self, ids: list[int], position: int, *, every: bool = False) -> np.ndarray:
            assert every
            return np.log(np.tile(np.array([[0.5, 0.25, 0.25]], np.float32), (len(ids), 1)))

    assert log_probabilities(Fixed([], 0), [2, 0, 1]) == pytest.approx(np.log([0.5, 0.25]).tolist())


def test_greedy_takes_the_best_token_that_exists():
    """Rows that only pad the matrix are never chosen."""
    assert Sampler(3).choose(np.array([0.0, 2.0, 1.0, 9.0], np.float32)) == 1


def test_sampling_is_repeatable_and_keeps_to_the_most_probable():
    """The same seed gives the same tokens; topp leaves out what lies beyond it."""
    logits = np.log(np.array([0.6, 0.3, 0.1], np.float32))
    first, second = Sampler(3, 1.0, 0.85, seed=5), Sampler(3, 1.0, 0.85, seed=5)
    tokens = [first.choose(logits) for _ in range(200)]
    assert tokens == [second.choose(logits) for _ in range(200)]
    assert set(tokens) == {0, 1}
    assert 90 < tokens.count(0) < 170


def test_routing_corrects_the_choice_but_not_the_weights():
    """The correction bias decides who is chosen; the weights are the plain sigmoids, normalised."""
    logits = np.array([[2.0, 1.0, 0.0, -1.0]], np.float32)
    correction = np.array([-5.0, 0.0, 0.0, 5.0], np.float32)
    chosen, weights = choose(logits, correction, Routing(4, 2, sigmoid=True, normalise=True, corrected=True))
    sigmoids = 1 / (1 + np.exp(-np.array([-1.0, 1.0])))
    assert chosen.tolist() == [[3, 1]]
    assert weights[0] == pytest.approx(sigmoids / sigmoids.sum())


def test_routing_keeps_to_the_best_groups():
    """With groups, an expert outside the groups kept is not chosen however good it is."""
    logits = np.array([[3.0, -9.0, 1.0, 1.5]], np.float32)
    routing = Routing(4, 2, sigmoid=True, normalise=False, scale=2.0, groups=2, groups_kept=1)
    chosen, weights = choose(logits, None, routing)
    assert chosen.tolist() == [[3, 2]]
    assert weights[0] == pytest.approx(2 / (1 + np.exp(-np.array([1.5, 1.0]))))


@pytest.mark.parametrize("ranks", range(1, 9))
def test_the_parts_make_the_whole(ranks: int):
    """For every count, heads, widths and vocabulary are covered once, cut between blocks; KV heads follow queries."""
    parts = [shard(TINY, rank, ranks) for rank in range(ranks)]
    whole = {"heads": 8, "dense": 384, "expert": 96, "shared": 96, "vocab": 1024}
    for name, size in whole.items():
        assert [i for part in parts for i in getattr(part, name)] == list(range(size))
    for part in parts:
        assert part.dense.start % BLOCK == part.expert.stop % BLOCK == 0
        assert [part.kv_heads[kv] for kv in part.kv_of_head(TINY)] == [head // 4 for head in part.heads]
    assert [part.vocab for part in parts] == vocabulary_parts(TINY, ranks)


@pytest.mark.parametrize("ranks", [0, 9, 100])
def test_a_count_that_cannot_work_names_those_that_can(ranks: int):
    """Nine ranks for eight query heads are refused with the counts that work."""
    with pytest.raises(DllamaError, match=r"8 query heads.*1 to 8 ranks"):
        check_rank_count(TINY, ranks)


def test_narrow_heads_are_dealt_out_in_whole_blocks():
    """Heads of 16 values go in pairs, so that the output projection is cut between blocks."""
    narrow = replace(TINY, heads=6, kv_heads=3, head_dim=16)
    assert largest_rank_count(narrow) == 3
    assert [len(shard(narrow, rank, 2).heads) for rank in range(2)] == [4, 2]


@pytest.mark.parametrize("kind", [F32, Q40, Q80])
def test_slices_of_a_matrix_are_the_slices_of_its_values(kind: int):
    """Rows and columns taken of the stored form expand to the rows and columns of the whole."""
    from dllama_glm.formats.model_file import FloatType

    from tests.payload.runtime.stored_blocks import encode

    values = np.random.default_rng(0).standard_normal((6, 128)).astype(np.float32)
    raw = np.frombuffer(b"\x00" * 3 + encode(values, FloatType(kind)), np.uint8)
    matrix = Matrix(raw, kind, 6, 128, 3, FloatType(kind).nbytes(128))
    part = matrix.take_rows(range(1, 5)).take_columns(range(32, 96))
    assert np.array_equal(part.to_float(), matrix.to_float()[1:5, 32:96])
    assert part.nbytes == FloatType(kind).nbytes(4 * 64)


def test_addresses_are_read_in_both_spellings():
    """Commas, several words, and tcp:// all mean the same."""
    expected = [Endpoint("a", 1), Endpoint("b", 2)]
    assert parse_endpoints(["tcp://a:1,tcp://b:2"]) == parse_endpoints(["a:1", "b:2"]) == expected


@pytest.mark.parametrize("seed", [0, (1 << 64) - 1])
def test_every_seed_of_64_bits_can_be_used(seed: int):
    """The smallest and the largest seed make a sampler."""
    options = parse(["inference", "--model", "m", "--tokenizer", "t", "--seed", str(seed)])
    assert options.seed == seed
    Sampler(3, 1.0, seed=options.seed).choose(np.zeros(3, np.float32))


@pytest.mark.parametrize("words", [[","], [""], ["", ",,"]])
def test_workers_without_an_address_are_refused(words: list[str]):
    """An empty list of workers is a mistake, not a run on one rank."""
    with pytest.raises(UsageError, match="no address"):
        parse_endpoints(words)
    assert parse_endpoints([]) == []


@pytest.mark.parametrize("text", ["localhost", "host:", ":80", "host:0", "host:70000", "host:x"])
def test_what_is_no_address_is_refused(text: str):
    """An address without host or port is a usage error that shows the right form."""
    with pytest.raises(UsageError, match="HOST:PORT"):
        parse_endpoints([text])


def test_listeners_are_never_public(monkeypatch: pytest.MonkeyPatch):
    """A listener binds loopback and the private address only, and a taken port is a usage error."""
    monkeypatch.delenv("GPUPLAN_PRIVATE_IP", raising=False)
    (only,) = listen(0, other_hosts=False)
    assert only.getsockname()[0] == "127.0.0.1"
    only.close()
    monkeypatch.setenv("GPUPLAN_PRIVATE_IP", "127.0.0.2")
    listeners = listen(0, other_hosts=True)
    try:
        names = [listener.getsockname() for listener in listeners]
        assert [host for host, _ in names] == ["127.0.0.1", "127.0.0.2"]
        assert len({port for _, port in names}) == 1
        with pytest.raises(UsageError, match="--port"):
            listen(names[0][1], other_hosts=False)
    finally:
        for listener in listeners:
            listener.close()


def test_the_loopback_interface_is_found():
    """Linux tells which interface has an address; an address of no interface has none."""
    assert interface_of("127.0.0.1") in {"lo", None}
    assert interface_of("192.0.2.1") is None
    assert is_loopback("127.0.0.2")
    assert private_address() is None or not private_address().startswith("0.")


def test_both_spellings_of_the_limit():
    """--max-tokens counts new tokens, upstream's --steps the prompt too; the default is 128."""
    words = ["inference", "--model", "m", "--tokenizer", "t", "--prompt", "p"]
    assert max_tokens(parse(words), 10) == 128
    assert max_tokens(parse([*words, "--max-tokens", "3"]), 10) == 3
    assert max_tokens(parse([*words, "--steps", "12"]), 10) == 2
    with pytest.raises(UsageError, match="--steps"):
        max_tokens(parse([*words, "--steps", "10"]), 10)


@pytest.mark.parametrize(
    "words",
    [
        ["--max-tokens", "0"],
        ["--max-tokens", "x"],
        ["--nthreads", "-1"],
        ["--temperature", "-0.1"],
        ["--temperature", "nan"],
        ["--topp", "0"],
        ["--seed", "-1"],
        ["--seed", "1.5"],
        ["--seed", str(1 << 64)],
        ["--seed", "1" * 5000],
        ["--port", "70000"],
        ["--buffer-float-type", "q8"],
        ["--max-token", "3"],
    ],
)
def test_wrong_options_exit_with_2_and_say_why(words: list[str], capsys: pytest.CaptureFixture[str]):
    """A value that cannot be meant, and an option that does not exist, end at once with exit code 2."""
    with pytest.raises(SystemExit) as caught:
        parse(["inference", "--model", "m", "--tokenizer", "t", *words])
    assert caught.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_a_file_beside_the_converter_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The plan names `glm4_5_air.m` from the top of the clone, while it lies in converter/."""
    from dllama_glm.cli import options

    (tmp_path / "converter").mkdir()
    (tmp_path / "converter" / "x.m").touch()
    monkeypatch.setattr(options, "__file__", str(tmp_path / "dllama_glm" / "cli" / "options.py"))
    assert options.existing(Path("x.m"), "model") == tmp_path / "converter" / "x.m"
    with pytest.raises(UsageError, match=r"no model y\.m"):
        options.existing(Path("y.m"), "model")
