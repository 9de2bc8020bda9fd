"""sentencepiece's tokenizer.model: its pieces, and the tokenizer.json that says the same."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dllama_glm.formats.tokenizer_file import TokenizerError
from dllama_glm.tokenizer.sentencepiece_proto import (
    BPE,
    BYTE,
    CONTROL,
    UNKNOWN,
    USER_DEFINED,
    Proto,
    ProtoError,
    parse,
)


@dataclass(frozen=True)
class Pieces:
    """The vocabulary of a sentencepiece model as upstream reads it: a space for "▁", one byte for each `<0xNN>`.

    `names` are the pieces as the model writes them.
    """

    names: tuple[str, ...]
    tokens: tuple[bytes, ...]
    scores: tuple[float, ...]
    bos_id: int
    eos_id: int


def read_pieces(path: Path) -> Pieces:
    """Read a tokenizer.model. Raises TokenizerError where it is none, or names no bos or no eos."""
    processor = _open(path)
    if processor.bos_id() < 0 or processor.eos_id() < 0:
        raise TokenizerError("names no bos or no eos token, which the format needs")
    count = processor.get_piece_size()
    names = tuple(processor.id_to_piece(token_id) for token_id in range(count))
    return Pieces(
        names=names,
        tokens=tuple(map(_bytes, names)),
        scores=tuple(processor.get_score(token_id) for token_id in range(count)),
        bos_id=processor.bos_id(),
        eos_id=processor.eos_id(),
    )


def _bytes(piece: str) -> bytes:
    text = piece.replace("▁", " ")
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        return bytes.fromhex(text[3:-1])
    return text.encode()


def _open(path: Path) -> Any:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        raise TokenizerError("reading it needs the sentencepiece package: pip install sentencepiece") from None
    try:
        return SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
        raise TokenizerError(f"is no sentencepiece model: {error}") from None


def to_document(path: Path, *, add_bos: bool) -> dict[str, Any]:
    """Return the tokenizer.json that encodes as the model does, as transformers derives it for the llama family.

    Raises TokenizerError for a unigram model: its ids do not follow from merges.
    """
    try:
        proto = parse(path.read_bytes())
    except OSError as error:
        raise TokenizerError(f"cannot be read: {error.strerror}") from None
    except ProtoError as error:
        raise TokenizerError(f"is no sentencepiece model: {error}") from None
    if proto.model_type != BPE:
        raise TokenizerError("is not a BPE model; exact ids are supported for BPE only (leave out --extended)")
    processor = _open(path)
    ids = {piece.text: token_id for token_id, piece in enumerate(proto.pieces)}
    unk = proto.pieces[processor.unk_id()].text
    kinds = {CONTROL: True, UNKNOWN: True, USER_DEFINED: False}
    added = [
        _added(token_id, piece.text, special=kinds[piece.kind])
        for token_id, piece in enumerate(proto.pieces)
        if piece.kind in kinds
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": _normalizer(proto),
        "pre_tokenizer": None,
        "post_processor": _bos_processor(proto, processor.bos_id()) if add_bos and processor.bos_id() >= 0 else None,
        "decoder": _decoder(proto),
        "model": {
            "type": "BPE",
            "unk_token": unk,
            "fuse_unk": True,
            "byte_fallback": any(piece.kind == BYTE for piece in proto.pieces),
            "vocab": ids,
            "merges": _merges(proto, ids),
        },
    }


def as_llama(document: dict[str, Any], *, legacy: bool) -> dict[str, Any]:
    """Return the document as transformers' LlamaTokenizer has it, which tells where spaces stand beside added tokens.

    With `legacy` each part between added tokens begins with a "▁", otherwise the text as a whole only.
    """
    scheme = "always" if legacy else "first"
    spaces = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    steps = [step for step in document["decoder"]["decoders"] if step["type"] != "Strip"]
    return {
        **document,
        "normalizer": None,
        "pre_tokenizer": spaces,
        "decoder": {"type": "Sequence", "decoders": [*steps, strip]},
        "model": {**document["model"], "byte_fallback": True},
    }


def _added(token_id: int, text: str, *, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": text, "special": special, **flags}


def _merges(proto: Proto, ids: dict[str, int]) -> list[list[str]]:
    """Every way to join two pieces into a third, the best piece first; its ways in the order of the parts' ids."""
    ranked: list[tuple[float, int, int, int]] = []
    for order, piece in enumerate(proto.pieces):
        text = piece.text
        halves = [(text[:cut], text[cut:]) for cut in range(1, len(text))]
        parts = [(ids[left], ids[right]) for left, right in halves if left in ids and right in ids]
        ranked += [(-piece.score, order, *pair) for pair in parts]
    ranked.sort()
    return [[proto.pieces[left].text, proto.pieces[right].text] for _, _, left, right in ranked]


def _normalizer(proto: Proto) -> dict[str, Any] | None:
    steps: list[dict[str, Any]] = []
    if proto.charsmap:
        steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(proto.charsmap).decode()})
    if proto.remove_extra_whitespaces:
        # Not the step "Strip", which takes away other white space too
        steps.append({"type": "Replace", "pattern": {"Regex": r"\A +| +\z"}, "content": ""})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    if proto.add_dummy_prefix:
        steps.append({"type": "Prepend", "prepend": "▁"})
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    return {"type": "Sequence", "normalizers": steps}


def _decoder(proto: Proto) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if proto.add_dummy_prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def _bos_processor(proto: Proto, bos_id: int) -> dict[str, Any]:
    text = proto.pieces[bos_id].text
    bos = {"SpecialToken": {"id": text, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": number}} for number, name in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [bos, first],
        "pair": [bos, first, {"SpecialToken": {"id": text, "type_id": 1}}, second],
        "special_tokens": {text: {"id": text, "ids": [bos_id], "tokens": [text]}},
    }
