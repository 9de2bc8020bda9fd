"""A text that never shows itself, and the masking of texts in which one may stand."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterable
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
    """Replace each secret's text by `***`, also as JSON, Python and URLs write it. Texts under SHORTEST are left."""
    texts = {secret.reveal() for secret in secrets}
    forms = {form for found in texts if len(found) >= SHORTEST for form in _forms(found)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return text


def hide(text: str) -> str:
    """Mask every secret that this process holds: for what is stored or shown and was written by somebody else."""
    return mask(text, [secret for held in _living.valuerefs() if (secret := held()) is not None])


def _forms(text: str) -> tuple[str, ...]:
    quoted = json.dumps(text)[1:-1], repr(text)[1:-1], repr(text.encode())[2:-1]
    return (text, *quoted, quote(text), quote(text, safe=""), quote_plus(text))
