"""Text that somebody else wrote, on its way into a page: the project's one escape, and the masking of secrets."""

from __future__ import annotations

import re

from orchestrator.words.outside import escape
from orchestrator.words.secret import hide

# What Markdown gives a meaning to within a line or a cell; what begins a tag or an entity, calls a person or a number,
# or becomes a link by itself.
_MEANS = re.compile(r"([\\`*{}\[\]|~!]|(?<![^\W_])_|_(?![^\W_]))")
_CALLS = re.compile(r"[<>&@#]|://|(?i:www)(?=\.)")


def shown(text: object, most: int = 0) -> str:
    """The text without what commands a terminal or turns it around, secrets masked; cut to `most` characters, 0: not.

    It is not HTML yet: a template and the picture's writer see to that.
    """
    said = escape(hide(str(text)))
    return f"{said[: most - 1]}…" if most and len(said) > most else said


def markdown(text: object) -> str:
    """The text as one line of Markdown that means nothing but itself."""
    line = _MEANS.sub(r"\\\1", " ".join(shown(text).split()))
    return _CALLS.sub(lambda found: "".join(f"&#{ord(c)};" for c in found[0]), line)
