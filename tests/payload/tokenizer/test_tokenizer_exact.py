"""With the extension, ids and text are Hugging Face's for whatever text there is."""

import pytest
from dllama_glm.tokenizer.runtime import Tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HuggingFace

from tests.payload.tokenizer.tokenizer_folders import SPECIAL, converted, make

FAMILIES = ["glm", "llama3", "qwen"]
_ALL_SPECIAL = sorted({text for texts in SPECIAL.values() for text in texts} | {"<think>", "</think>"})
_PIECES = st.one_of(
    st.text(max_size=12),
    st.text(alphabet=st.characters(categories=["L", "M", "N"]), max_size=8),
    st.text(alphabet=" \t\r\n\u00a0\u2028\u3000\u200b", max_size=6),
    st.text(alphabet="0123456789٣५Ⅷ½", max_size=9),
    st.sampled_from(
        [
            "'s",
            "'LL",
            "'Re",
            "don't",
            "İ",
            "ſ",
            "ß'S",
            "e\u0301",
            "\u1112\u1161\u11ab",
            "👩‍👩‍👧‍👦",
            "\x00",
            "\ufeff",
            "▁",
        ]
    ),
    st.sampled_from(_ALL_SPECIAL),
    st.sampled_from(["the", " the", "capital of France", "日本語", "Столица", "  ", "\n\n"]),
)
TEXTS = st.lists(_PIECES, max_size=12).map("".join)
many = settings(max_examples=400, deadline=None, database=None)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Tokenizer, HuggingFace]]:
    """Per family our tokenizer, from its `.t`, and Hugging Face's, from its tokenizer.json."""
    result = {}
    for family in FAMILIES:
        folder = tmp_path_factory.mktemp(family)
        original = make(folder, family)
        options = () if family == "glm" else ("--extended",)
        result[family] = (converted(folder, folder / "t.t", *options), original)
    return result


@pytest.mark.parametrize("family", FAMILIES)
@given(text=TEXTS)
@many
def test_ids_equal_hugging_faces(pairs: dict[str, tuple[Tokenizer, HuggingFace]], family: str, text: str) -> None:
    """Any text has the ids that `tokenizers` gives it, with and without what the post-processor adds."""
    ours, original = pairs[family]
    assert ours.encode(text) == original.encode(text).ids
    assert ours.encode(text, add_special=False) == original.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
@many
def test_text_equals_hugging_faces(
    pairs: dict[str, tuple[Tokenizer, HuggingFace]], family: str, data: st.DataObject
) -> None:
    """Any ids, also those that spell no whole character, decode as in `tokenizers`, and so does the stream."""
    ours, original = pairs[family]
    ids = data.draw(st.lists(st.integers(0, ours.n_tokens - 1), max_size=30))
    for skip in (True, False):
        expected = original.decode(ids, skip_special_tokens=skip)
        stream = ours.decode_stream(skip_special=skip)
        assert ours.decode(ids, skip_special=skip) == expected
        assert "".join([*map(stream.push, ids), stream.flush()]) == expected


@pytest.mark.parametrize("family", FAMILIES)
@given(text=TEXTS)
@many
def test_stream_never_shows_half_a_character(
    pairs: dict[str, tuple[Tokenizer, HuggingFace]], family: str, text: str
) -> None:
    """Of a valid text no piece of the stream holds a replacement character that the text has not."""
    ours, _ = pairs[family]
    stream = ours.decode_stream(skip_special=False)
    shown = [stream.push(token_id) for token_id in ours.encode(text, add_special=False)]
    assert stream.flush() == ""
    assert "".join(shown).count("\ufffd") == text.count("\ufffd")


def test_half_a_surrogate_pair_is_refused(pairs: dict[str, tuple[Tokenizer, HuggingFace]]) -> None:
    """A text that is no valid Unicode gives one clear error."""
    with pytest.raises(ValueError, match="not valid Unicode"):
        pairs["glm"][0].encode("a\ud800b")


def test_bytes_that_never_become_a_character_end_as_a_replacement(
    pairs: dict[str, tuple[Tokenizer, HuggingFace]],
) -> None:
    """What is held back at the end is shown as U+FFFD, and the stream can be used again."""
    ours, _ = pairs["glm"]
    first = next(token_id for token_id in range(ours.n_tokens) if ours.piece(token_id) == b"\xe6")
    stream = ours.decode_stream()
    assert (stream.push(first), stream.flush()) == ("", "\ufffd")
    assert stream.push(ours.encode("A", add_special=False)[0]) == "A"


@pytest.mark.parametrize("family", FAMILIES)
def test_prefix_is_never_doubled(pairs: dict[str, tuple[Tokenizer, HuggingFace]], family: str) -> None:
    """A raw prompt gets `[gMASK]<sop>` (GLM) unless it is written out, or its bos once, where one is added."""
    ours, original = pairs[family]
    named = {"glm": ["[gMASK]", "<sop>"], "llama3": ["<|begin_of_text|>"], "qwen": []}[family]
    start = [original.token_to_id(text) for text in named]
    expected = start + original.encode("x", add_special_tokens=False).ids
    assert ours.prompt_ids("x") == expected
    if family == "glm":
        assert ours.prompt_ids("[gMASK]<sop>x") == expected
        assert ours.prompt_ids(" \n[gMASK]<sop>x") == expected
        assert ours.prompt_ids(" x") == start + original.encode(" x", add_special_tokens=False).ids
