"""Files of upstream's format: its encode rule against the rule written down naively, and sentencepiece."""

from itertools import pairwise
from pathlib import Path

import pytest
from dllama_glm.formats import tokenizer_file
from dllama_glm.formats.tokenizer_file import TokenizerFile
from dllama_glm.tokenizer.boundary import BoundaryEncoder
from dllama_glm.tokenizer.runtime import Tokenizer, load
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.payload.tokenizer.tokenizer_folders import converted, corpus, write

spm = pytest.importorskip("sentencepiece")

_LETTERS = [bytes([value]) for value in b"abc "]
_WORDS = st.lists(st.text("abc ", min_size=2, max_size=4).map(str.encode), max_size=12, unique=True)


def _naive(content: TokenizerFile, text: bytes) -> list[int]:
    """Upstream's rule word by word: specials in id order, shortest regular tokens, then the first of the best pairs."""
    regular = {content.tokens[at]: at for at in range(content.bos_id)}
    ids: list[int] = []
    at = 0
    while at < len(text):
        special = [n for n in range(content.bos_id, len(content.tokens)) if text.startswith(content.tokens[n], at)]
        ids.append(special[0] if special else regular[text[at : at + 1]])
        at += len(content.tokens[ids[-1]])
    while True:
        joined = [regular.get(content.tokens[a] + content.tokens[b]) for a, b in pairwise(ids)]
        found = [(content.scores[token], -at, token) for at, token in enumerate(joined) if token is not None]
        if not found:
            return ids
        _, before, token = max(found)
        ids[-before : 2 - before] = [token]


@given(words=_WORDS, scores=st.lists(st.integers(-4, 0), min_size=20, max_size=20), text=st.text("abc <>", max_size=30))
@settings(max_examples=500, deadline=None, database=None)
def test_encoding_is_upstreams_rule(words: list[bytes], scores: list[int], text: str) -> None:
    """The heap finds the ids of the naive rule for any vocabulary, with ties in score and overlapping specials."""
    padding = [b"%d" % at for at in range(300)]  # a boundary below 256 would mark a sentencepiece vocabulary
    regular = [*_LETTERS, b"<", b">", *words, *padding]
    tokens = (*regular, b"<b", b"<b>", b"<a>")
    values = (*scores, *[-9] * len(tokens))[: len(tokens)]
    content = TokenizerFile(tokens, tuple(map(float, values)), len(regular), (len(regular),), add_bos=False)
    assert BoundaryEncoder(content).encode(text) == _naive(content, text.encode())


def test_bos_is_put_in_front_where_the_file_says_so() -> None:
    """add_bos decides; `add_special=False` leaves the bos out."""
    tokens = (*(bytes([value]) for value in range(256)), b"<s>")
    for add_bos in (True, False):
        ours = Tokenizer(TokenizerFile(tokens, (0.0,) * 257, 256, (256,), add_bos=add_bos))
        assert ours.encode("a") == [256] * add_bos + [97]
        assert ours.encode("a", add_special=False) == [97]


def test_text_that_the_vocabulary_cannot_spell_is_refused() -> None:
    """A vocabulary without a byte gives an error that names it."""
    tokens = tuple(b"t%d" % at for at in range(300))
    with pytest.raises(ValueError, match="no token for b'x'"):
        Tokenizer(TokenizerFile(tokens, (0.0,) * 300, 299, (299,), add_bos=False)).encode("x")


@pytest.fixture(scope="module", params=["identity", "nmt_nfkc"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama-like folder with a small sentencepiece model: as Llama 2's, and with sentencepiece's own defaults."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "corpus.txt").write_text("\n".join(corpus()), encoding="utf-8")
    spm.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=640,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name=request.param,
        remove_extra_whitespaces=request.param != "identity",
        minloglevel=2,
    )
    write(folder / "config.json", {"model_type": "llama", "bos_token_id": 1, "eos_token_id": 2, "vocab_size": 640})
    write(folder / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True})
    return folder


def test_sentencepiece_file_is_laid_out_as_upstreams(folder: Path) -> None:
    """A space for each U+2581, one byte for each byte token, the model's own scores, its bos and eos, and add_bos."""
    converted(folder, folder / "standard.t")
    content = tokenizer_file.read(folder / "standard.t")
    model = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    pieces = [model.id_to_piece(at) for at in range(model.get_piece_size())]
    expected = [bytes.fromhex(p[3:5]) if p.startswith("<0x") else p.replace("▁", " ").encode() for p in pieces]
    assert content.tokens == tuple(expected)
    assert content.scores == tuple(model.get_score(at) for at in range(len(pieces)))
    assert (content.bos_id, content.eos_ids, content.add_bos, content.extension) == (1, (2,), True, None)


@given(text=st.one_of(st.text(max_size=40), st.lists(st.sampled_from(" ".join(corpus()).split(" "))).map(" ".join)))
@settings(max_examples=200, deadline=None, database=None)
def test_sentencepiece_extended_ids_are_its_own(folder: Path, text: str) -> None:
    """With the extension a tokenizer.model's ids are sentencepiece's, for any text without its control tokens."""
    path = folder / "extended.t"
    ours = load(path) if path.exists() else converted(folder, path, "--extended")
    model = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    assert ours.encode(text, add_special=False) == model.encode(text)
    assert ours.encode(text)[0] == model.bos_id()


def test_only_spaces_are_taken_from_the_ends(folder: Path) -> None:
    """A next-line control character at an end of the text stays, as in sentencepiece; spaces go where it drops them."""
    ours = converted(folder, folder / "ends.t", "--extended")
    model = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    for text in ["\x85", "0\x85", "\x85 0", "  a  b  ", " \x85 ", "   "]:
        assert ours.encode(text, add_special=False) == model.encode(text)


def test_sentencepiece_standard_file_reads_plain_text(folder: Path) -> None:
    """Without the extension plain sentences still have sentencepiece's ids and come back whole."""
    ours = converted(folder, folder / "standard.t")
    model = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    for text in ["The capital of France is Paris.", "Größe, naïve and façade", "日本語 text", "a"]:
        assert ours.encode(text) == [1, *model.encode(text)]
        assert ours.decode(ours.encode(text)) == " " + text
