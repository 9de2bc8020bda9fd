"""The parts of sentencepiece's model file (a protocol buffer) that its Python package does not tell."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

# TrainerSpec.model_type
BPE = 2

# SentencePiece.type
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class ProtoError(ValueError):
    """Bytes that are no sentencepiece model."""


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary; `kind` is one of the constants above."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class Proto:
    """A sentencepiece model: its pieces by id, and how it prepares a text. An empty `charsmap` changes nothing."""

    pieces: tuple[Piece, ...]
    model_type: int
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool


def parse(data: bytes) -> Proto:
    """Parse a model file. Raises ProtoError; fields that are not needed are skipped."""
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in _fields(data):
        if isinstance(value, int):
            continue
        if number == 1:
            pieces.append(_piece(value))
        elif number == 2:
            trainer = dict(_fields(value))
        elif number == 3:
            normalizer = dict(_fields(value))
    if not pieces:
        raise ProtoError("it holds no pieces")
    charsmap = normalizer.get(2, b"")
    return Proto(
        pieces=tuple(pieces),
        model_type=_integer(trainer.get(3, 1)),
        charsmap=charsmap if isinstance(charsmap, bytes) else b"",
        add_dummy_prefix=bool(normalizer.get(3, 1)),
        remove_extra_whitespaces=bool(normalizer.get(4, 1)),
    )


def _piece(data: bytes) -> Piece:
    fields = dict(_fields(data))
    text, score = fields.get(1, b""), fields.get(2, bytes(4))
    if not isinstance(text, bytes) or not isinstance(score, bytes) or len(score) != 4:
        raise ProtoError("a piece is not laid out as expected")
    try:
        return Piece(text.decode(), struct.unpack("<f", score)[0], _integer(fields.get(3, NORMAL)))
    except UnicodeDecodeError:
        raise ProtoError("a piece is not UTF-8") from None


def _integer(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ProtoError("a number is not laid out as expected")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value): an int for a varint, bytes for everything else."""
    offset = 0
    while offset < len(data):
        key, offset = _varint(data, offset)
        kind = key & 7
        if kind == _VARINT:
            value, offset = _varint(data, offset)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, offset = _varint(data, offset)
        elif kind in {_FIXED64, _FIXED32}:
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ProtoError(f"unknown wire type {kind} at byte {offset}")
        if offset + length > len(data):
            raise ProtoError("it ends too early")
        yield key >> 3, data[offset : offset + length]
        offset += length


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    while offset < len(data) and shift < 64:
        byte = data[offset]
        value |= (byte & 0x7F) << shift
        offset, shift = offset + 1, shift + 7
        if byte < 0x80:
            return value, offset
    raise ProtoError("it ends too early")
