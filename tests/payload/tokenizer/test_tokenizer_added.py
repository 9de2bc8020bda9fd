"""Tokens outside tokenizer.json, and the bos: with the extension both are as transformers has them."""

from pathlib import Path
from typing import Any

import pytest
from dllama_glm.formats.tokenizer_file import TokenizerError
from dllama_glm.tokenizer.build import convert as build
from dllama_glm.tokenizer.folder import read_folder

from tests.payload.tokenizer.tokenizer_folders import converted, corpus, make, read, write

FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}
BOS = "<|begin_of_text|>"
TEXTS = ["a<tool>b", " a <tool> b<|call|>", "the<pad><|im_start|>user\nthe law", "The capital<|call|> of", "<tool", ""]


def _transformers(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(str(folder))


def _token(content: str, *, special: bool) -> dict[str, Any]:
    flags = {"lstrip": False, "rstrip": special, "single_word": False, "normalized": not special}
    return {"content": content, "special": special, **flags}


def _assert_equal(folder: Path, texts: list[str]) -> None:
    ours, theirs = converted(folder, folder / "t.t", "--extended"), _transformers(folder)
    for text in texts:
        ids = theirs.encode(text)
        assert ours.prompt_ids(text) == ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


def _next_id(folder: Path) -> int:
    return max(entry["id"] for entry in read(folder / "tokenizer.json")["added_tokens"]) + 1


PLACES: dict[str, tuple[dict[str, Any], bool]] = {
    "added_tokens.json": ({}, True),
    "and one of them special": ({"additional_special_tokens": ["<|call|>"]}, True),
    "additional_special_tokens": ({"additional_special_tokens": ["<tool>", "<|call|>"]}, False),
    "extra_special_tokens": ({"extra_special_tokens": ["<|call|>"]}, False),
    "a role": ({"pad_token": "<pad>"}, False),
    "a role with flags": ({"pad_token": {**_token("<pad>", special=True), "__type": "AddedToken"}}, True),
}


@pytest.mark.parametrize("place", PLACES)
def test_added_tokens_of_every_file_are_carried(place: str, tmp_path: Path) -> None:
    """added_tokens.json, additional tokens, and a role's token that is in no vocabulary: transformers' ids and text."""
    make(tmp_path, "qwen")
    config, in_file = PLACES[place]
    write(tmp_path / "tokenizer_config.json", {**FAST, **config})
    first = _next_id(tmp_path)
    if in_file:
        write(tmp_path / "added_tokens.json", {"<tool>": first + 1, "<|call|>": first})
    _assert_equal(tmp_path, TEXTS)


def test_added_tokens_decoder_is_carried(tmp_path: Path) -> None:
    """tokenizer_config.json's added_tokens_decoder adds tokens, changes flags, and makes added_tokens.json void."""
    make(tmp_path, "qwen")
    first = _next_id(tmp_path)
    tokens = {first: _token("<tool>", special=False), first + 1: _token("<|call|>", special=True)}
    tokens[first - 1] = _token("</think>", special=True)
    decoder = {str(token_id): token for token_id, token in tokens.items()}
    write(tmp_path / "tokenizer_config.json", {**FAST, "added_tokens_decoder": decoder})
    write(tmp_path / "added_tokens.json", {"<void>": first})
    _assert_equal(tmp_path, [*TEXTS, "a</think> b", "a<void>b"])


@pytest.mark.parametrize("legacy", [True, False])
def test_added_tokens_beside_a_sentencepiece_model(legacy: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """Beside tokenizer.model they and the spaces around them are LlamaTokenizer's; another class is refused."""
    folder = _sentencepiece(tmp_path)
    config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": legacy}
    write(folder / "tokenizer_config.json", config)
    write(folder / "added_tokens.json", {"<|im_start|>": 600, "<tool>": 601, "<|call|>": 602})
    _assert_equal(folder, [text for text in TEXTS if text])
    _, notes = build(read_folder(folder))
    assert "'<|im_start|>', '<tool>', '<|call|>'" in notes[1]
    write(folder / "tokenizer_config.json", {**config, "tokenizer_class": "GemmaTokenizer"})
    with pytest.raises(TokenizerError, match=r"'<tool>'.*only LlamaTokenizer"):
        build(read_folder(folder), extended=True)


def _sentencepiece(folder: Path) -> Path:
    trainer = pytest.importorskip("sentencepiece").SentencePieceTrainer
    (folder / "corpus.txt").write_text("\n".join(corpus()), encoding="utf-8")
    trainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=600,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    write(folder / "config.json", {"model_type": "llama", "bos_token_id": 1, "eos_token_id": 2, "vocab_size": 640})
    return folder


def test_a_stated_id_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """Added tokens are numbered without gaps in transformers, whatever a file states: one with a gap is refused."""
    make(tmp_path, "qwen")
    write(tmp_path / "added_tokens.json", {"<tool>": _next_id(tmp_path) + 3})
    with pytest.raises(TokenizerError, match=r"states the id \d+ for the added token '<tool>'"):
        build(read_folder(tmp_path), extended=True)


def test_the_standard_form_says_what_it_leaves_out(tmp_path: Path) -> None:
    """Upstream's file knows tokenizer.json only: the same bytes as without the other tokens, and a note."""
    make(tmp_path, "qwen")
    plain, few = build(read_folder(tmp_path))
    write(tmp_path / "added_tokens.json", {"<tool>": _next_id(tmp_path)})
    content, notes = build(read_folder(tmp_path))
    assert content == plain
    assert len(few) == 1
    assert notes[0] == few[0]
    assert "('<tool>'): use --extended" in notes[1]


BOS_CASES = {
    "a name alone": ("qwen", {**FAST, "bos_token": "<|endoftext|>"}),
    "a name alone, GPT-2": ("qwen", {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|endoftext|>"}),
    "a post-processor": ("llama3", {**FAST, "bos_token": BOS}),
    "a post-processor against the option": ("llama3", {**FAST, "bos_token": BOS, "add_bos_token": False}),
    "no": ("qwen", {**FAST, "bos_token": "<|endoftext|>", "add_bos_token": False}),
}


@pytest.mark.parametrize("name", BOS_CASES)
def test_a_bos_comes_where_transformers_adds_it(name: str, tmp_path: Path) -> None:
    """A bos that is only named is in front of nothing; the post-processor's comes once."""
    family, config = BOS_CASES[name]
    make(tmp_path, family)
    write(tmp_path / "tokenizer_config.json", config)
    ours, theirs = converted(tmp_path, tmp_path / "t.t", "--extended"), _transformers(tmp_path)
    assert ours.prompt_ids("the law") == theirs.encode("the law")


@pytest.mark.parametrize("asked", [True, None])
def test_a_sentencepiece_bos_comes_where_it_is_asked_for(asked: bool | None, tmp_path: Path) -> None:  # noqa: FBT001
    """Of a tokenizer.model too, only add_bos_token puts the bos in front."""
    folder = _sentencepiece(tmp_path)
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>"}
    write(folder / "tokenizer_config.json", config if asked is None else {**config, "add_bos_token": asked})
    ours = converted(folder, tmp_path / "t.t", "--extended")
    assert ours.prompt_ids("the law") == _transformers(folder).encode("the law")
    assert (ours.prompt_ids("the law")[0] == 1) is (asked is True)


def test_a_bos_that_is_asked_for_comes(tmp_path: Path) -> None:
    """add_bos_token: true adds the bos where no post-processor does."""
    original = make(tmp_path, "qwen")
    write(tmp_path / "tokenizer_config.json", {**FAST, "bos_token": "<|endoftext|>", "add_bos_token": True})
    ours = converted(tmp_path, tmp_path / "t.t", "--extended")
    assert ours.prompt_ids("x") == [original.token_to_id("<|endoftext|>"), *original.encode("x").ids]
