"""A text that never shows itself."""

from __future__ import annotations


class Secret:
    """Holds a credential; prints as `***` everywhere. `reveal()` is the one way to its text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

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


def mask(text: str, secrets: list[Secret]) -> str:
    """Replace each secret's text by `***`. Texts under four characters are left: they would mask ordinary words."""
    for secret in sorted(secrets, key=lambda s: -len(s.reveal())):
        if len(secret.reveal()) >= 4:
            text = text.replace(secret.reveal(), "***")
    return text
