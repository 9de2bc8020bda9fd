"""A text that never shows itself, and the masking of texts in which one may stand."""

from __future__ import annotations

import html
import json
import re
import weakref
from collections.abc import Iterable, Iterator
from functools import lru_cache
from urllib.parse import quote, quote_plus

SHORTEST = 4  # characters: masking shorter ones would mask ordinary words

_living: weakref.WeakValueDictionary[int, Secret] = weakref.WeakValueDictionary()  # every one of this process


class Secret:
    """Holds a credential; prints as `***` everywhere. `reveal()` is the one way to its text."""

    __slots__ = ("__weakref__", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        _living[id(self)] = self

    def reveal(self) -> str:
        """Return the text itself: call it only where it is handed to what needs it."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is not written to disk")


def mask(text: str, secrets: Iterable[Secret]) -> str:
    """Replace each secret's text by `***`, as JSON, shells, URLs and pages write it too. SHORTEST: see there."""
    texts = {secret.reveal() for secret in secrets}
    forms = {form for found in texts if len(found) >= SHORTEST for form in _forms(found)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return text


def hide(text: str) -> str:
    """Mask every secret that this process holds: for what is stored or shown and was written by somebody else."""
    return mask(text, [secret for held in _living.valuerefs() if (secret := held()) is not None])


@lru_cache(maxsize=256)
def _forms(text: str) -> tuple[str, ...]:
    """The text as programs write it: in JSON and Python, in a shell, in URLs, in HTML; each of its lines too."""
    parts = {text, *(line for line in text.splitlines() if len(line) >= SHORTEST)}
    return tuple({form for part in parts for form in (part, *_in_json(part), *_in_shell(part), *_in_pages(part))})


def _in_json(text: str) -> Iterator[str]:
    for ascii_only in (True, False):
        written = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield from (written, written.replace("/", "\\/"))
    yield from (repr(text)[1:-1], repr(text.encode("utf-8", "replace"))[2:-1])


def _in_shell(text: str) -> Iterator[str]:
    yield from (text.replace("'", quote) for quote in ("'\"'\"'", "'\\''"))  # within '…'
    yield re.sub(r'([$`"\\!])', r"\\\1", text)  # within "…"
    yield re.sub(r"^[~#]|[^\w@%+=:./~#-]", r"\\\g<0>", text)  # without quotes, as printf %q has it
    numbered = (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}" for byte in text.encode("utf-8", "replace"))
    yield "".join(numbered).replace("'", "\\'")  # within $'…'


def _in_pages(text: str) -> Iterator[str]:
    yield html.escape(text)
    for written in (
        quote(text, "/", errors="replace"),
        quote(text, "", errors="replace"),
        quote_plus(text, errors="replace"),
    ):
        yield written
        yield re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), written)
