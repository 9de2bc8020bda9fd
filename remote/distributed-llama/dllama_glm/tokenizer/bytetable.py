"""The table by which byte-level BPE writes each of the 256 bytes as one printable character."""


def _table() -> tuple[str, ...]:
    # Latin-1's visible characters stand for themselves; the other bytes, in order, for U+0100 onwards.
    visible = frozenset((*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)))
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte) if byte in visible else chr(next(others)) for byte in range(256))


_CHARACTERS = _table()
_BYTES = {character: byte for byte, character in enumerate(_CHARACTERS)}
_TRANSLATION = {byte: character for byte, character in enumerate(_CHARACTERS) if chr(byte) != character}


def to_string(token: bytes) -> str:
    """Return the vocabulary string that stands for `token`."""
    return token.decode("latin-1").translate(_TRANSLATION)


def to_bytes(string: str) -> bytes | None:
    """Return the bytes that a vocabulary string stands for, None where it holds a character outside the table."""
    try:
        return bytes([_BYTES[character] for character in string])
    except KeyError:
        return None


def to_bytes_mixed(string: str) -> bytes:
    """Return upstream's reading of a string: the table character by character, UTF-8 for what is not in it."""
    return b"".join(bytes((_BYTES[character],)) if character in _BYTES else character.encode() for character in string)
