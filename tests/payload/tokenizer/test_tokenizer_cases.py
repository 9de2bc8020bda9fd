"""Situations in which other converters crashed, or split the vocabulary at the wrong place, or ran past the end."""

import random
from pathlib import Path

import pytest
from dllama_glm.formats import tokenizer_file
from dllama_glm.tokenizer.runtime import Tokenizer
from tokenizers import Tokenizer as HuggingFace

from tests.payload.tokenizer.tokenizer_folders import MODELS, converted, copy, corpus, make, read, write

BASE = MODELS / "zai-org" / "GLM-4.5-Air-Base"
CHAT = MODELS / "PrimeIntellect" / "INTELLECT-3"


def _mixed_strings(special: list[str], count: int = 1000) -> list[str]:
    """Texts of words, special tokens and characters from all over Unicode; the seed makes them the same each time."""
    source = random.Random(12)
    words = " ".join(corpus()).split(" ")
    planes = [range(0x20, 0x7F), range(0xA0, 0x2000), range(0x3040, 0xD7FF), range(0x1F300, 0x1FAFF)]
    texts = []
    for _ in range(count):
        parts = source.choices(words, k=4) + [chr(source.choice(source.choice(planes))) for _ in range(4)]
        parts += source.choices(special, k=1) if special else []
        source.shuffle(parts)
        texts.append(source.choice(["", " ", "\n", "  "]).join(parts))
    return texts


def _assert_equal(ours: Tokenizer, original: HuggingFace, special: list[str]) -> None:
    for text in _mixed_strings(special):
        ids = original.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, add_special=False) == ids
        assert ours.decode(ids, skip_special=False) == original.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("name", ["TokenizersBackend", "TokenizersBackendFast"])
@pytest.mark.parametrize("options", [(), ("--extended",)])
def test_backend_class_converts_from_tokenizer_json_alone(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """Whatever class is named, and with nothing else said, the file is that of PreTrainedTokenizerFast."""
    expected = copy(BASE, tmp_path / "fast")
    folder = copy(BASE, tmp_path / "backend")
    values = read(folder / "tokenizer_config.json")
    for missing in ("added_tokens_decoder", "add_bos_token"):
        values.pop(missing, None)
    write(folder / "tokenizer_config.json", {**values, "tokenizer_class": name})
    converted(expected, tmp_path / "fast.t", *options)
    converted(folder, tmp_path / "backend.t", *options)
    assert (tmp_path / "backend.t").read_bytes() == (tmp_path / "fast.t").read_bytes()


def test_folder_without_tokenizer_config_converts(tmp_path: Path) -> None:
    """tokenizer.json and config.json are enough."""
    folder = copy(BASE, tmp_path / "model")
    (folder / "tokenizer_config.json").unlink()
    assert converted(folder, tmp_path / "t.t").eos_ids == (972, 979, 981)


def test_end_tokens_of_both_files_are_stored(tmp_path: Path) -> None:
    """A list of three in config.json and another in generation_config.json: each id once, config.json's first."""
    folder = copy(BASE, tmp_path / "model")
    write(folder / "generation_config.json", {"eos_token_id": [981, 977, 980]})
    assert converted(folder, tmp_path / "t.t").eos_ids == (972, 979, 981, 977, 980)


def test_end_tokens_of_either_file_suffice(tmp_path: Path) -> None:
    """A single id, in generation_config.json only, is the end token."""
    folder = copy(BASE, tmp_path / "model")
    config = read(folder / "config.json")
    del config["eos_token_id"]
    write(folder / "config.json", config)
    write(folder / "generation_config.json", {"eos_token_id": 979})
    assert converted(folder, tmp_path / "t.t").eos_ids == (979,)


@pytest.mark.parametrize("family", ["glm", "qwen"])
def test_no_bos_anywhere(family: str, tmp_path: Path) -> None:
    """Without a bos the boundary is the first special token, nothing is prepended, and ids are Hugging Face's."""
    original = make(tmp_path, family)
    ours = converted(tmp_path, tmp_path / "t.t", "--extended")
    content = tokenizer_file.read(tmp_path / "t.t")
    assert content.bos_id == original.token_to_id("<|endoftext|>")
    assert (content.add_bos, ours.bos_id) == (False, None)
    _assert_equal(ours, original, ["<|endoftext|>", "<think>"])


def test_no_bos_in_the_standard_format(tmp_path: Path) -> None:
    """A model that upstream's converter fails on gets a file of upstream's format, with the same boundary."""
    original = make(tmp_path, "qwen")
    ours = converted(tmp_path, tmp_path / "t.t")
    content = tokenizer_file.read(tmp_path / "t.t")
    assert content.extension is None
    assert (content.bos_id, content.add_bos) == (original.token_to_id("<|endoftext|>"), False)
    ids = ours.encode("<|im_start|>the<|im_end|>")
    assert (ids[0], ids[-1]) == (original.token_to_id("<|im_start|>"), original.token_to_id("<|im_end|>"))


def test_bos_id_zero(tmp_path: Path) -> None:
    """A bos in front of the vocabulary is no boundary: regular and special are told apart by what they are."""
    document = read(_front_bos(tmp_path) / "tokenizer.json")
    original = HuggingFace.from_str((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    ours = converted(tmp_path, tmp_path / "t.t")
    content = tokenizer_file.read(tmp_path / "t.t")
    assert ours.bos_id == 0
    assert content.bos_id == max(document["model"]["vocab"].values()) + 1
    assert ours.prompt_ids("the")[0] == 0
    _assert_equal(ours, original, ["<s>", "<|eot_id|>"])


def _front_bos(folder: Path) -> Path:
    """A Llama-like folder whose bos has id 0, in front of the regular tokens."""
    make(folder, "llama3", bos_token_id=0)
    document = read(folder / "tokenizer.json")
    document["post_processor"] = None
    document["model"]["vocab"] = {"<s>": 0, **{text: at + 1 for text, at in document["model"]["vocab"].items()}}
    document["added_tokens"] = [
        {**document["added_tokens"][0], "id": 0, "content": "<s>"},
        *({**entry, "id": entry["id"] + 1} for entry in document["added_tokens"]),
    ]
    write(folder / "tokenizer.json", document)
    values = read(folder / "config.json")
    write(folder / "config.json", {**values, "eos_token_id": [value + 1 for value in values["eos_token_id"]]})
    tokens = {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "add_bos_token": True}
    write(folder / "tokenizer_config.json", tokens)
    return folder


@pytest.mark.parametrize("name", ["<|user|>", "<|observation|>"])
def test_a_role_token_ends_the_turn_and_is_not_shown(name: str, tmp_path: Path) -> None:
    """Role tokens are end tokens, so that the next turn is never written, and the stream prints nothing for them."""
    ours = converted(CHAT, tmp_path / "t.t")
    (role,) = ours.encode(name, add_special=False)
    assert role in ours.eos_ids
    stream = ours.decode_stream()
    words = ours.encode("The end.", add_special=False)
    assert "".join(map(stream.push, [*words, role])) + stream.flush() == "The end."
    assert ours.piece(role) == name.encode()


def test_padding_rows_reach_the_models_vocabulary(tmp_path: Path) -> None:
    """The rows between the last token and the model's vocabulary size are named, silent, and not in any text."""
    ours = converted(BASE, tmp_path / "t.t")
    assert (ours.vocab_size, ours.n_tokens) == (1024, 1008)
    assert ours.decode([1008, 1023]) == ""
    assert not set(ours.encode("[PAD1008]", add_special=False)) & set(range(1008, 1024))


def test_special_tokens_are_known_by_their_flag(tmp_path: Path) -> None:
    """`<think>` is matched whole but shown, `[gMASK]` is matched whole and hidden, as their flags say."""
    ours = converted(BASE, tmp_path / "t.t")
    ids = ours.encode("[gMASK]<think>", add_special=False)
    assert ids == [974, 993]
    assert ours.decode(ids) == "<think>"
