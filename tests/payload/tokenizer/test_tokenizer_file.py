"""The `.t` file itself: its bytes as documented, damage of every kind, and writing that never leaves half a file."""

import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from dllama_glm.formats import tokenizer_file
from dllama_glm.formats.tokenizer_file import (
    ADDED,
    BYTE,
    SPECIAL,
    Extension,
    TokenizerError,
    TokenizerFile,
    TokenRecord,
    from_bytes,
    to_bytes,
)
from dllama_glm.tokenizer.runtime import Tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payload.tokenizer.tokenizer_folders import TESTS, converted, make

DOCUMENT = TESTS.parent / "docs" / "format-tokenizer.md"

# The worked example of the document: three regular tokens, one special, one row of padding.
EXAMPLE = TokenizerFile(
    tokens=(b"a", b"b", b"ab", b"<e>", b"[PAD4]"),
    scores=(0.0, -1.0, -2.0, -3.0, -4.0),
    bos_id=3,
    eos_ids=(3,),
    add_bos=False,
    chat_template="{{x}}",
    extension=Extension(
        pipeline='{"model":{},"decoder":{"type":"Fuse"}}',
        merges=(0, 1),
        records=(TokenRecord(3, ADDED | SPECIAL),),
        prefix_ids=(3,),
        n_tokens=4,
        bos_id=None,
    ),
)


def test_documented_example_is_what_is_written() -> None:
    """The hex dump in docs/format-tokenizer.md is, byte for byte, what the writer makes of its example."""
    rows = re.findall(r"^[0-9a-f]{4}  ((?:[0-9a-f]{2} )+) ", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert bytes.fromhex("".join(rows)) == to_bytes(EXAMPLE)


def test_reading_gives_back_what_was_written() -> None:
    """Every field survives, the extension's too."""
    assert from_bytes(to_bytes(EXAMPLE)) == EXAMPLE


def test_example_encodes() -> None:
    """The documented example is a working tokenizer: the merge, the special token, the silent padding."""
    ours = Tokenizer(from_bytes(to_bytes(EXAMPLE)))
    assert (ours.encode("aba<e>b"), ours.prompt_ids("b")) == ([2, 0, 3, 1], [3, 1])
    assert ours.decode([2, 3, 4, 1]) == "abb"


def _with_header(pairs: list[tuple[int, int]], payload: bytes) -> bytes:
    header = b"".join(struct.pack("<ii", *pair) for pair in pairs)
    return struct.pack("<ii", tokenizer_file.MAGIC, 8 + len(header)) + header + payload


_TOKENS = struct.pack("<fI", 0.0, 1) + b"a" + struct.pack("<fI", 0.0, 1) + b"b"
_MINIMUM = [(0, 1), (1, 2), (2, 1), (3, 1)]


def test_keys_of_older_files_are_read() -> None:
    """A single eos, a chat eos, a pad and an extra stop text in any order of keys; add_bos is taken as 1."""
    content = from_bytes(_with_header([(8, 3), (6, 1), (5, 0), *_MINIMUM, (4, 0)], b"\0\0\0" + _TOKENS))
    assert (content.eos_ids, content.add_bos, content.tokens) == ((0, 1), True, (b"a", b"b"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "too short"),
        (b"GGUF" + bytes(20), "no tokenizer file"),
        (struct.pack("<ii", 0x567123, 28) + bytes(20), "old format"),
        (struct.pack("<ii", tokenizer_file.MAGIC, 4000), "states a header of 4000 bytes"),
        (_with_header([*_MINIMUM, (99, 1)], _TOKENS), "unknown header key 99"),
        (_with_header([*_MINIMUM, (1, 2)], _TOKENS), "repeated header key 1"),
        (_with_header([(0, 2), *_MINIMUM[1:]], _TOKENS), "version 2"),
        (_with_header([(0, 1), (1, 2), (2, 0)], _TOKENS), "no longest token"),
        (_with_header(_MINIMUM, _TOKENS[:-1]), "ends within its tokens"),
        (_with_header(_MINIMUM, _TOKENS + b"x"), "1 bytes after its end"),
        (_with_header([*_MINIMUM, (7, -1)], _TOKENS), "ends within its chat template"),
        (_with_header([*_MINIMUM, (7, 1)], b"\xff" + _TOKENS), "chat template that is not UTF-8"),
        (_with_header([*_MINIMUM, (4, 2)], _TOKENS), "token id 2 in a vocabulary of 2"),
        (_with_header([(0, 1), (1, 2), (2, 1), (3, 3)], _TOKENS), "bos id 3 in a vocabulary of 2"),
        (_with_header([(0, 1), (1, 1), (2, 1)], struct.pack("<fI", 0.0, 2) + b"ab"), "a token of 2 bytes at id 0"),
        (_with_header([*_MINIMUM, (100, 2)], _TOKENS), "extension 2"),
        (_with_header([*_MINIMUM, (100, 1), (105, 3)], _TOKENS), "3 real tokens in a vocabulary of 2"),
        (_with_header([*_MINIMUM, (100, 1), (103, 1)], _TOKENS + struct.pack("<ii", 0, 4096)), "unknown flags"),
        (_with_header([*_MINIMUM, (9, 1 << 30)], _TOKENS), "ends within its end tokens"),
    ],
)
def test_damage_is_named(data: bytes, message: str, tmp_path: Path) -> None:
    """Each kind of damage gives an error that names it, and the file."""
    path = tmp_path / "damaged.t"
    path.write_bytes(data)
    with pytest.raises(TokenizerError, match=message) as caught:
        tokenizer_file.read(path)
    assert str(path) in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A file that is not there gives an error with its path."""
    with pytest.raises(TokenizerError, match=r"nowhere\.t: cannot read"):
        tokenizer_file.read(tmp_path / "nowhere.t")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The bytes of real files of both kinds."""
    folder = tmp_path_factory.mktemp("files")
    make(folder, "qwen")
    converted(folder, folder / "standard.t")
    converted(folder, folder / "extended.t", "--extended")
    return [(folder / "standard.t").read_bytes(), (folder / "extended.t").read_bytes(), to_bytes(EXAMPLE)]


@pytest.mark.parametrize("examples", [200, pytest.param(2000, marks=pytest.mark.faults)])
def test_mutated_files_end_in_an_error_or_a_tokenizer(files: list[bytes], examples: int) -> None:
    """Bytes changed, cut out or put in: one clear error, or a tokenizer that works; never anything else."""

    @given(data=st.data())
    @settings(max_examples=examples, deadline=None, database=None)
    def check(data: st.DataObject) -> None:
        _mutated(files, data)

    check()


def _mutated(files: list[bytes], data: st.DataObject) -> None:
    mutated = bytearray(data.draw(st.sampled_from(files)))
    near = st.one_of(st.integers(0, 200), st.integers(0, len(mutated) - 1))
    for _ in range(data.draw(st.integers(1, 4))):
        at = min(data.draw(near), len(mutated))
        kind = data.draw(st.sampled_from(["change", "cut", "insert", "end"]))
        if kind == "end":
            del mutated[at:]
        else:
            new = b"" if kind == "cut" else data.draw(st.binary(min_size=1, max_size=4))
            mutated[at : at + (0 if kind == "insert" else data.draw(st.integers(1, 4)))] = new
    try:
        ours = Tokenizer(from_bytes(bytes(mutated)))
        ours.encode("the ab <e>")
        ours.decode(list(range(min(ours.vocab_size, 50))))
    except TokenizerError:
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pipeline": "{"}, "pipeline that is not JSON"),
        ({"pipeline": "[]"}, "pipeline without a model"),
        ({"pipeline": '{"model":{},"strings":"rot13"}'}, "unknown form 'rot13'"),
        ({"pipeline": '{"model":{},"pre_tokenizer":{"type":"Nonsense"}}'}, "cannot be built"),
        ({"merges": (0, 0)}, "cannot be built"),
    ],
)
def test_extension_that_makes_no_sense_is_refused(change: dict[str, object], message: str) -> None:
    """A pipeline or merges that do not make a tokenizer give one clear error."""
    values = {**vars(EXAMPLE.extension), **change}
    content = TokenizerFile(**{**vars(EXAMPLE), "extension": Extension(**values)})
    with pytest.raises(TokenizerError, match=message):
        Tokenizer(content)


def test_token_that_is_not_utf8_is_refused() -> None:
    """In a sentencepiece vocabulary each token but the byte tokens is text."""
    extension = Extension('{"model":{},"strings":"sentencepiece"}', (), (TokenRecord(0, BYTE),), (), 2, None)
    content = TokenizerFile((b"\xff", b"\xff"), (0.0, 0.0), 2, (1,), add_bos=False, extension=extension)
    with pytest.raises(TokenizerError, match="token at id 1 that is not UTF-8"):
        Tokenizer(content)


def test_an_unwritable_content_leaves_the_old_file(tmp_path: Path) -> None:
    """What the format cannot hold is refused before anything is written; no partial file stays."""
    path = tmp_path / "t.t"
    path.write_bytes(b"old")
    with pytest.raises(TokenizerError, match="empty token at id 0"):
        tokenizer_file.write(path, TokenizerFile((b"",), (0.0,), 0, (0,), add_bos=False))
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("t.t", b"old")]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that cannot take the new file leaves the old one, and no partial one."""
    path = tmp_path / "t.t"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        tokenizer_file.write(path, EXAMPLE)
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("t.t", b"old")]


def test_importing_the_runtime_is_cheap() -> None:
    """The tokenizer's modules load none of the heavy libraries until a file is loaded."""
    program = (
        f"import sys; sys.path.insert(0, {str(TESTS.parent / 'remote' / 'distributed-llama')!r})\n"
        "import dllama_glm.tokenizer.runtime\n"
        "heavy = ('tokenizers', 'jinja2', 'numpy', 'sentencepiece', 'transformers', 'torch')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"
