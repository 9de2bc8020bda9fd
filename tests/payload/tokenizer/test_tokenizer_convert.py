"""The command `convert-tokenizer-hf.py`: what it prints, where it writes, and what it refuses."""

import copy as copying
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dllama_glm.formats import tokenizer_file
from dllama_glm.formats.tokenizer_file import TokenizerError
from dllama_glm.tokenizer import convert
from dllama_glm.tokenizer.build import convert as build
from dllama_glm.tokenizer.folder import read_folder
from dllama_glm.tokenizer.runtime import Tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HuggingFace

from tests.payload.tokenizer.tokenizer_folders import MODELS, TESTS, copy, make, read, write

BASE = MODELS / "zai-org" / "GLM-4.5-Air-Base"
PAYLOAD = TESTS.parent / "remote" / "distributed-llama"


def _payload(folder: Path) -> Path:
    """A copy of the payload's scripts, so that the default output place can be looked at."""
    shutil.copytree(PAYLOAD, folder, ignore=shutil.ignore_patterns("__pycache__", "*.m", "*.t"))
    return folder


@pytest.mark.parametrize("place", ["converter", "."])
def test_file_is_written_beside_the_script(place: str, tmp_path: Path) -> None:
    """From converter/ and from the top, FOLDER NAME ends in converter/NAME.t, the last line says so, exit code 0."""
    payload = _payload(tmp_path / "distributed-llama")
    script = "convert-tokenizer-hf.py" if place == "converter" else "converter/convert-tokenizer-hf.py"
    done = subprocess.run(
        [sys.executable, script, str(BASE), "glm4_5_air"],
        cwd=payload / place,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines()[-1] == "glm4_5_air.t created successfully"
    content = tokenizer_file.read(payload / "converter" / "glm4_5_air.t")
    assert (content.bos_id, content.eos_ids, content.add_bos) == (972, (972, 979, 981), False)
    assert content.extension is not None
    assert content.extension.prefix_ids == (974, 976)


def test_output_can_be_a_folder_or_a_file(tmp_path: Path) -> None:
    """--output takes a file, or a folder in which NAME.t (or NAME, ending so) is written; the content is the same."""
    assert convert.main([str(BASE), "n", "--output", str(tmp_path)]) == 0
    assert convert.main([str(BASE), "n", "--output", str(tmp_path / "other.t")]) == 0
    assert (tmp_path / "n.t").read_bytes() == (tmp_path / "other.t").read_bytes()
    assert convert.main([str(BASE), "named.t", "--output", str(tmp_path)]) == 0
    assert (tmp_path / "named.t").read_bytes() == (tmp_path / "other.t").read_bytes()


def test_end_tokens_are_printed_whatever_the_locale_says(tmp_path: Path) -> None:
    """An end token of characters that the terminal's encoding lacks is printed in UTF-8."""
    folder = copy(BASE, tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace("<|user|>", "<｜user▁ends｜>"), encoding="utf-8")
    script = str(PAYLOAD / "converter" / "convert-tokenizer-hf.py")
    done = subprocess.run(
        [sys.executable, script, str(folder), "t", "--output", str(tmp_path)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    assert "'<｜user▁ends｜>'" in done.stdout.decode()


def _without(name: str) -> Any:
    return lambda folder: (folder / name).unlink()


def _config(**changes: Any) -> Any:
    return lambda folder: write(folder / "config.json", {**read(folder / "config.json"), **changes})


def _document(change: Any) -> Any:
    def apply(folder: Path) -> None:
        document = read(folder / "tokenizer.json")
        change(document)
        write(folder / "tokenizer.json", document)

    return apply


def _no_end(folder: Path) -> None:
    for name in ("config.json", "generation_config.json"):
        write(folder / name, {key: value for key, value in read(folder / name).items() if key != "eos_token_id"})
    write(folder / "tokenizer_config.json", {})


REFUSED = {
    "vocabulary far too large": (_config(vocab_size=1 << 40), "vocab_size is 1099511627776, far beyond"),
    "no tokenizer": (_without("tokenizer.json"), "neither tokenizer.json nor tokenizer.model"),
    "not JSON": (lambda folder: (folder / "tokenizer.json").write_text("{"), r"tokenizer\.json: is not JSON"),
    "no object": (lambda folder: (folder / "config.json").write_text("[]"), r"config\.json: is not a JSON object"),
    "unigram": (_document(lambda d: d["model"].update(type="Unigram", vocab=[["a", 0.0]])), "type 'Unigram'"),
    "dropout": (_document(lambda d: d["model"].update(dropout=0.1)), "dropout"),
    "merge": (_document(lambda d: d["model"]["merges"].append(["nothing", "here"])), "nothing"),
    "id twice": (_document(lambda d: d["model"]["vocab"].update({"twice": 5})), "share an id"),
    "id far off": (_document(lambda d: d["model"]["vocab"].update({"far": 1 << 30})), "far beyond"),
    "id negative": (_document(lambda d: d["model"]["vocab"].update({"far": -1})), "negative"),
    "id a text": (_document(lambda d: d["model"]["vocab"].update({"far": "7"})), "not a whole number"),
    "added moved": (_document(lambda d: d["added_tokens"][3].update(id=5)), "contradict"),
    "empty token": (_document(lambda d: d["added_tokens"][3].update(content="")), "empty token"),
    "unknown step": (_document(lambda d: d["pre_tokenizer"].update(type="Magic")), "refuses it"),
    "no end token": (_no_end, "no end token"),
    "eos a text": (_config(eos_token_id="<|endoftext|>"), "eos_token_id is '<|endoftext|>'"),
    "eos true": (_config(eos_token_id=[True]), "not a token id"),
    "eos too large": (_config(eos_token_id=5000), "eos_token_id 5000 is not in the vocabulary of 1008"),
    "eos without a row": (
        _config(vocab_size=980),
        "the end token '<|observation|>' has the id 981, and the model has 980",
    ),
    "prefix without a row": (
        lambda folder: (
            (folder / "generation_config.json").unlink() or _config(vocab_size=975, eos_token_id=972)(folder)
        ),
        "the prefix token '<sop>' has the id 976, and the model has 975 rows only",
    ),
    "bos without a row": (_config(vocab_size=990, bos_token_id=993), "the bos token '<think>' has the id 993"),
    "bos too large": (_config(bos_token_id=5000), "bos_token_id 5000 is not in the vocabulary"),
    "template a number": (
        lambda folder: write(folder / "tokenizer_config.json", {"chat_template": 7}),
        "chat_template",
    ),
    "template not UTF-8": (lambda folder: (folder / "chat_template.jinja").write_bytes(b"\xff"), "UTF-8"),
    "no sentencepiece": (
        lambda folder: (folder / "tokenizer.json").unlink() or (folder / "tokenizer.model").write_bytes(b"\x0a\xff"),
        "no sentencepiece model",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_clear_sentence(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that cannot be converted gives exit code 1, one line that says what and where, and no file."""
    damage, message = REFUSED[name]
    folder = copy(BASE, tmp_path / "model")
    damage(folder)
    assert convert.main([str(folder), "t", "--output", str(tmp_path / "t.t")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {folder}")
    assert printed.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with pytest.raises(TokenizerError, match=message):
        build(read_folder(folder))


def test_folder_and_name_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing folder and a name with a slash are refused by name."""
    assert convert.main([str(tmp_path / "nowhere"), "t"]) == 1
    assert "nowhere: no such folder" in capsys.readouterr().err
    assert convert.main([str(BASE), "a/b"]) == 1
    assert "'a/b'" in capsys.readouterr().err


def test_unwritable_output_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An output in a folder that does not exist gives the system's words, no traceback."""
    assert convert.main([str(BASE), "t", "--output", str(tmp_path / "no" / "t.t")]) == 1
    assert "cannot write the tokenizer" in capsys.readouterr().err


def test_more_tokens_than_rows_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model with fewer rows than tokens converts, in either form, with a note: text with those cannot be run."""
    folder = copy(BASE, tmp_path / "model")
    _config(vocab_size=1000)(folder)
    assert convert.main([str(folder), "t", "--output", str(tmp_path)]) == 0
    assert "1008 tokens, the model only 1000 rows" in capsys.readouterr().out
    make(tmp_path / "standard", "qwen", vocab_size=643)
    assert convert.main([str(tmp_path / "standard"), "t", "--output", str(tmp_path)]) == 0
    assert "645 tokens, the model only 643 rows" in capsys.readouterr().out


def test_holes_in_the_vocabulary_are_filled(tmp_path: Path) -> None:
    """Ids without a token keep their place under a name of their own, and all others stay what they were."""
    make(tmp_path, "glm", vocab_size=None)
    document = read(tmp_path / "tokenizer.json")
    for entry in document["added_tokens"]:
        entry["id"] += 3
        document["model"]["vocab"][entry["content"]] = entry["id"]
    write(tmp_path / "tokenizer.json", document)
    write(tmp_path / "generation_config.json", {"eos_token_id": document["added_tokens"][0]["id"]})
    content, _ = build(read_folder(tmp_path))
    first = document["added_tokens"][0]["id"]
    assert content.tokens[first - 3 : first] == (f"[PAD{first - 3}]".encode(), *content.tokens[first - 2 : first])
    assert content.bos_id == first - 3
    ours = Tokenizer(content)
    assert (
        ours.encode(f"the[PAD{first - 1}]<|user|>")
        == HuggingFace.from_file(str(tmp_path / "tokenizer.json")).encode(f"the[PAD{first - 1}]<|user|>").ids
    )


@given(data=st.data())
@settings(max_examples=50, deadline=None, database=None)
def test_mutated_folders_end_in_an_error_or_a_tokenizer(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Values of the JSON files replaced, removed or doubled: one clear error, or a tokenizer that encodes."""
    folder = copy(BASE, tmp_path_factory.getbasetemp() / "mutated")
    name = data.draw(
        st.sampled_from(["tokenizer.json", "config.json", "generation_config.json", "tokenizer_config.json"])
    )
    document = copying.deepcopy(read(BASE / name))
    for _ in range(data.draw(st.integers(1, 3))):
        _mutate(document, data)
    (folder / name).write_text(json.dumps(document), encoding="utf-8")
    try:
        content, _ = build(read_folder(folder), extended=data.draw(st.booleans()))
        Tokenizer(tokenizer_file.from_bytes(tokenizer_file.to_bytes(content))).encode("The capital <|user|> é 12345")
    except TokenizerError:
        pass


_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(), st.floats(), st.text(max_size=5),
    st.builds(list), st.builds(dict), st.builds(lambda: [[]]), st.builds(lambda: {"type": "ByteLevel"}),
)  # fmt: skip


def _mutate(value: Any, data: st.DataObject) -> None:
    """Walk down a random path and change what is there."""
    while isinstance(value, (dict, list)) and value:
        keys = list(value)[:40] if isinstance(value, dict) else list(range(min(len(value), 40)))
        key = data.draw(st.sampled_from(keys))
        inner = value[key]
        if isinstance(inner, (dict, list)) and inner and data.draw(st.booleans()):
            value = inner
            continue
        if data.draw(st.integers(0, 4)) == 0:
            del value[key]
        else:
            value[key] = data.draw(_VALUES)
        return
