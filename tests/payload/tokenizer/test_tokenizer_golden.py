"""What upstream's converter writes and what upstream's runtime makes of it, byte by byte and id by id."""

import hashlib
from pathlib import Path

import pytest
from dllama_glm.formats import tokenizer_file
from dllama_glm.tokenizer import convert
from dllama_glm.tokenizer.runtime import load

from tests.payload.tokenizer.tokenizer_folders import GOLDEN, copy, read, write

FOLDERS = ["llama", "qwen3", "qwen3_moe", "tokenizer-chatml", "tokenizer-llama3"]


@pytest.mark.parametrize("name", FOLDERS)
def test_file_is_upstreams_byte_for_byte(name: str, tmp_path: Path) -> None:
    """Where upstream loads the model, the `.t` has upstream's size and sha256."""
    expected = read(GOLDEN / name / "expected.json")["t"]
    assert convert.main([str(GOLDEN / name), name, "--output", str(tmp_path)]) == 0
    data = (tmp_path / f"{name}.t").read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (expected["bytes"], expected["sha256"])


@pytest.mark.parametrize("name", FOLDERS)
def test_reading_and_writing_again_changes_no_byte(name: str, tmp_path: Path) -> None:
    """A file that is read and written again is the same file."""
    path = tmp_path / "t.t"
    assert convert.main([str(GOLDEN / name), name, "--output", str(path)]) == 0
    assert tokenizer_file.to_bytes(tokenizer_file.read(path)) == path.read_bytes()


@pytest.mark.parametrize("options", [(), ("--extended",)])
@pytest.mark.parametrize("name", ["llama", "qwen3", "qwen3_moe"])
def test_prompt_ids_are_those_of_upstreams_runtime(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """The prompt of the golden perplexity runs has upstream's ids, with the standard file and with the extended one.

    But for the bos that upstream takes for granted: the extended file has it where transformers adds it.
    """
    expected = read(GOLDEN / name / "expected.json")["perplexity"]
    path = tmp_path / "t.t"
    assert convert.main([str(GOLDEN / name), name, "--output", str(path), *options]) == 0
    unasked = 1 if options and name == "llama" else 0
    assert load(path).prompt_ids(expected["prompt"]) == expected["prompt_ids"][unasked:]


def test_end_tokens_of_generation_config_are_appended(tmp_path: Path) -> None:
    """An end token that only generation_config.json names is added to upstream's, and nothing else changes."""
    folder = copy(GOLDEN / "llama", tmp_path / "model")
    write(folder / "generation_config.json", {"eos_token_id": [494, 493]})
    assert convert.main([str(folder), "t", "--output", str(tmp_path)]) == 0
    assert convert.main([str(GOLDEN / "llama"), "plain", "--output", str(tmp_path)]) == 0
    content, plain = (tokenizer_file.read(tmp_path / name) for name in ("t.t", "plain.t"))
    assert content.eos_ids == (491, 494, 493)
    assert (content.tokens, content.bos_id, content.add_bos, content.chat_template, content.extension) == (
        plain.tokens,
        plain.bos_id,
        plain.add_bos,
        plain.chat_template,
        plain.extension,
    )
