"""The `.t` tokenizer file: upstream's layout, and this project's extension in keys from 100 up.

The layout is specified in docs/format-tokenizer.md. All numbers are little-endian; a file is read and written whole.
"""

import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MAGIC = 0x00567124
VERSION = 1
EXTENSION_VERSION = 1

# Upstream's keys.
_VERSION, _VOCAB_SIZE, _MAX_TOKEN_LENGTH, _BOS_ID = 0, 1, 2, 3
_EOS_ID, _PAD_ID, _CHAT_EOS_ID, _CHAT_TEMPLATE, _CHAT_STOP, _N_EOS_TOKENS, _ADD_BOS = 4, 5, 6, 7, 8, 9, 10
# This project's.
_EXTENSION, _N_MERGES, _PIPELINE, _N_RECORDS, _N_PREFIX_IDS, _N_TOKENS, _REAL_BOS_ID = 100, 101, 102, 103, 104, 105, 106
_KNOWN = frozenset((*range(11), *range(100, 107)))

# Flags of a token record.
ADDED = 1  # matched in the text before anything else; its bytes are its content
SPECIAL = 2  # an added token that is not part of what a reader should see
SINGLE_WORD = 4
LSTRIP = 8
RSTRIP = 16
NORMALIZED = 32
IN_VOCAB = 64  # an added token that the model's own vocabulary holds too
LITERAL = 128  # its vocabulary string is its bytes read as UTF-8, not what the vocabulary's form makes of them
BYTE = 256  # the byte-fallback token <0xNN> of a sentencepiece vocabulary
HOLE = 512  # an id without a token, named only because the format has no holes
ALL_FLAGS = 1023


class TokenizerError(ValueError):
    """A tokenizer file or folder that cannot be used; the message says which, why, and what to do."""


@dataclass(frozen=True)
class TokenRecord:
    """What is to be known about one token beyond its bytes; `flags` is a sum of the constants above."""

    id: int
    flags: int


@dataclass(frozen=True)
class Extension:
    """What upstream's format cannot hold, and what exact token ids need.

    `merges` are pairs of token ids in order of rank, flattened: left, right, left, right, ...
    `pipeline` is the JSON text of a Hugging Face tokenizer without vocabulary, merges and added tokens.
    `n_tokens` is the number of real tokens: rows from there on only pad the vocabulary to the model's.
    `bos_id` is the real beginning-of-sequence token, None where there is none (the header's only marks a boundary).
    """

    pipeline: str
    merges: Sequence[int]
    records: tuple[TokenRecord, ...]
    prefix_ids: tuple[int, ...]
    n_tokens: int
    bos_id: int | None


@dataclass(frozen=True)
class TokenizerFile:
    """The content of a `.t` file. `bos_id` is, as in upstream, also the first id that is no regular token."""

    tokens: tuple[bytes, ...]
    scores: tuple[float, ...]
    bos_id: int
    eos_ids: tuple[int, ...]
    add_bos: bool
    chat_template: str | None = None
    extension: Extension | None = field(default=None)


def placeholder(token_id: int) -> bytes:
    """The name of an id that no token uses: unique, and never empty, which the format does not allow."""
    return b"[PAD%d]" % token_id


def holes(content: TokenizerFile) -> frozenset[int]:
    """The ids without a token among the others; padding behind the last token is not counted."""
    if content.extension is not None:
        return frozenset(record.id for record in content.extension.records if record.flags & HOLE)
    return frozenset(token_id for token_id, token in enumerate(content.tokens) if token == placeholder(token_id))


def check_rows(content: TokenizerFile, rows: int) -> None:
    """Raise TokenizerError where a token that generating needs has no row in a model of so many.

    An end token that is never made would never end a text; a bos or prefix token would make every prompt unreadable.
    """
    extension = content.extension
    bos_id = extension.bos_id if extension else content.bos_id if content.add_bos else None
    needed = [("end", token_id) for token_id in content.eos_ids]
    needed += [("prefix", token_id) for token_id in (extension.prefix_ids if extension else ())]
    needed += [("bos", bos_id)] if bos_id is not None else []
    for role, token_id in needed:
        if token_id >= rows:
            text = content.tokens[token_id].decode("utf-8", "replace") if token_id < len(content.tokens) else ""
            raise TokenizerError(
                f"the {role} token {text!r} has the id {token_id}, and the model has {rows} rows only: "
                "tokenizer and model do not belong together"
            )


def write(path: Path, content: TokenizerFile) -> str:
    """Write `content` to `path`, which holds either its old content or all of the new one, whenever the machine stops.

    Returns the file's sha256, hexadecimal. Raises TokenizerError where the format cannot hold the content, OSError
    where the disk cannot.
    """
    data = to_bytes(content)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return hashlib.sha256(data).hexdigest()


def to_bytes(content: TokenizerFile) -> bytes:
    """Return the bytes of the file. Raises TokenizerError on an empty token or an id that is not in the vocabulary."""
    _check(content)
    template = (content.chat_template or "").encode()
    pairs = [
        (_BOS_ID, content.bos_id),
        (_VERSION, VERSION),
        (_VOCAB_SIZE, len(content.tokens)),
        (_MAX_TOKEN_LENGTH, max(map(len, content.tokens))),
        *([(_CHAT_TEMPLATE, len(template))] if template else []),
        (_N_EOS_TOKENS, len(content.eos_ids)),
        (_ADD_BOS, int(content.add_bos)),
    ]
    parts = [template, struct.pack(f"<{len(content.eos_ids)}i", *content.eos_ids)]
    for token, score in zip(content.tokens, content.scores, strict=True):
        parts += (struct.pack("<fI", score, len(token)), token)
    if content.extension is not None:
        _add_extension(content.extension, pairs, parts)
    header = b"".join(struct.pack("<ii", key, value) for key, value in pairs)
    return struct.pack("<ii", MAGIC, 8 + len(header)) + header + b"".join(parts)


def _add_extension(extension: Extension, pairs: list[tuple[int, int]], parts: list[bytes]) -> None:
    pipeline = extension.pipeline.encode()
    pairs += [
        (_EXTENSION, EXTENSION_VERSION),
        (_N_MERGES, len(extension.merges) // 2),
        (_PIPELINE, len(pipeline)),
        (_N_RECORDS, len(extension.records)),
        (_N_PREFIX_IDS, len(extension.prefix_ids)),
        (_N_TOKENS, extension.n_tokens),
    ]
    if extension.bos_id is not None:
        pairs.append((_REAL_BOS_ID, extension.bos_id))
    parts += [
        pipeline,
        struct.pack(f"<{len(extension.merges)}i", *extension.merges),
        *(struct.pack("<ii", record.id, record.flags) for record in extension.records),
        struct.pack(f"<{len(extension.prefix_ids)}i", *extension.prefix_ids),
    ]


def read(path: Path) -> TokenizerFile:
    """Read a `.t` file. Raises TokenizerError where it is missing, damaged or of another kind."""
    try:
        return from_bytes(path.read_bytes())
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from None
    except OSError as error:
        raise TokenizerError(f"{path}: cannot read the tokenizer file: {error.strerror}") from None


def from_bytes(data: bytes) -> TokenizerFile:
    """Parse the bytes of a `.t` file. Raises TokenizerError; never any other error, whatever the bytes are."""
    header, reader = _read_header(data)
    if header.get(_VERSION) != VERSION:
        raise TokenizerError(f"has version {header.get(_VERSION)}; only version {VERSION} is known")
    if min(header.get(_VOCAB_SIZE, 0), header.get(_MAX_TOKEN_LENGTH, 0)) < 1:
        raise TokenizerError("states no vocabulary size or no longest token")
    template = reader.text(header.get(_CHAT_TEMPLATE, 0), "chat template")
    reader.take(header.get(_CHAT_STOP, 0), "chat stop text")
    eos_ids = reader.integers(header.get(_N_EOS_TOKENS, 0), "end tokens")
    legacy = [header[key] for key in (_EOS_ID, _CHAT_EOS_ID) if key in header]
    tokens, scores = _read_tokens(reader, header[_VOCAB_SIZE], header[_MAX_TOKEN_LENGTH])
    extension = _read_extension(reader, header) if _EXTENSION in header else None
    if reader.rest():
        raise TokenizerError(f"has {reader.rest()} bytes after its end; it was damaged or made by another program")
    content = TokenizerFile(
        tokens=tokens,
        scores=scores,
        bos_id=header.get(_BOS_ID, -1),
        eos_ids=tuple(dict.fromkeys((*legacy, *eos_ids))),
        add_bos=header.get(_ADD_BOS, 1) != 0,
        chat_template=template or None,
        extension=extension,
    )
    _check(content)
    return content


def _read_header(data: bytes) -> tuple[dict[int, int], "_Reader"]:
    if len(data) < 8:
        raise TokenizerError("is too short for a tokenizer file")
    magic, size = struct.unpack_from("<ii", data)
    if magic == 0x567123:
        raise TokenizerError("is of an old format (0x567123); convert the tokenizer again")
    if magic != MAGIC:
        raise TokenizerError(f"is no tokenizer file: it begins with {magic & 0xFFFFFFFF:#010x}, not {MAGIC:#010x}")
    if not 8 <= size <= len(data) or size % 8:
        raise TokenizerError(f"states a header of {size} bytes in a file of {len(data)}")
    header: dict[int, int] = {}
    for key, value in struct.iter_unpack("<ii", data[8:size]):
        if key not in _KNOWN or key in header:
            raise TokenizerError(f"has {'an unknown' if key not in _KNOWN else 'a repeated'} header key {key}")
        header[key] = value
    return header, _Reader(data, size)


def _read_tokens(reader: "_Reader", count: int, longest: int) -> tuple[tuple[bytes, ...], tuple[float, ...]]:
    tokens: list[bytes] = []
    scores: list[float] = []
    for _ in range(count):
        score, length = struct.unpack("<fI", reader.take(8, "tokens"))
        if not 1 <= length <= longest:
            raise TokenizerError(f"has a token of {length} bytes at id {len(tokens)}; the longest should be {longest}")
        tokens.append(reader.take(length, "tokens"))
        scores.append(score)
    return tuple(tokens), tuple(scores)


def _read_extension(reader: "_Reader", header: dict[int, int]) -> Extension:
    if header[_EXTENSION] != EXTENSION_VERSION:
        raise TokenizerError(f"has extension {header[_EXTENSION]}; only {EXTENSION_VERSION} is known: update dllama")
    pipeline = reader.text(header.get(_PIPELINE, 0), "pipeline")
    merges = reader.integers(2 * header.get(_N_MERGES, 0), "merges")
    flat = iter(reader.integers(2 * header.get(_N_RECORDS, 0), "token records"))
    records = tuple(TokenRecord(token_id, flags) for token_id, flags in zip(flat, flat, strict=True))
    return Extension(
        pipeline=pipeline,
        merges=merges,
        records=records,
        prefix_ids=reader.integers(header.get(_N_PREFIX_IDS, 0), "prefix ids"),
        n_tokens=header.get(_N_TOKENS, header[_VOCAB_SIZE]),
        bos_id=header.get(_REAL_BOS_ID),
    )


class _Reader:
    """Takes bytes from the front of a buffer; a count that the file cannot hold is an error, not an allocation."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._data = data
        self._offset = offset

    def rest(self) -> int:
        return len(self._data) - self._offset

    def take(self, count: int, what: str) -> bytes:
        if not 0 <= count <= self.rest():
            raise TokenizerError(f"ends within its {what} ({count} bytes stated, {self.rest()} left)")
        self._offset += count
        return self._data[self._offset - count : self._offset]

    def text(self, count: int, what: str) -> str:
        try:
            return self.take(count, what).decode()
        except UnicodeDecodeError:
            raise TokenizerError(f"has a {what} that is not UTF-8") from None

    def integers(self, count: int, what: str) -> tuple[int, ...]:
        data = self.take(4 * count, what)
        return struct.unpack(f"<{count}i", data)


def _check(content: TokenizerFile) -> None:
    count = len(content.tokens)
    empty = next((token_id for token_id, token in enumerate(content.tokens) if not token), None)
    if not count or empty is not None:
        raise TokenizerError("has no tokens" if not count else f"has an empty token at id {empty}")
    if not -1 <= content.bos_id <= count:
        raise TokenizerError(f"has bos id {content.bos_id} in a vocabulary of {count}")
    for token_id in _ids(content):
        if not 0 <= token_id < count:
            raise TokenizerError(f"names token id {token_id} in a vocabulary of {count}")
    extension = content.extension
    if extension is not None and not 0 < extension.n_tokens <= count:
        raise TokenizerError(f"states {extension.n_tokens} real tokens in a vocabulary of {count}")
    if extension is not None and any(record.flags & ~ALL_FLAGS for record in extension.records):
        raise TokenizerError("has a token record with unknown flags")


def _ids(content: TokenizerFile) -> Iterator[int]:
    yield from content.eos_ids
    if content.extension is not None:
        yield from content.extension.merges
        yield from content.extension.prefix_ids
        yield from (record.id for record in content.extension.records)
        if content.extension.bos_id is not None:
            yield content.extension.bos_id
