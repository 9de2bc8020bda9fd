"""Text that somebody else wrote (a machine, a provider, a plan), on its way to whoever reads it: the one escape."""

from __future__ import annotations

import re

MOST_QUOTED = 200  # characters of an outside text within one of our own sentences
LONG = 500  # characters of a sentence of ours that may quote several

# Complete control sequences say how a text looks, not what it says: they go. CSI; OSC, DCS and their kin with their
# terminator; all other escapes.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
)
# What is left of control characters is shown by its number: C0 without tab and line feed, DEL, C1, the characters that
# turn the direction of text around or are invisible line ends or tags, and halves of surrogate pairs.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_BREAKS = str.maketrans({"\n": "\\n", "\r": "\\r", "\t": "\\t"})


def escape(text: str) -> str:
    r"""Return `text` without what could command a terminal; harmless text, tabs and line feeds stay as they are.

    Colours and cursor movements are dropped, other control characters become `\x07`, `\u202e` and the like, and a
    line's CR LF becomes LF. The result never holds an escape character, whatever the text was.
    """
    return _UNSAFE.sub(_number, _SEQUENCES.sub("", text.replace("\r\n", "\n")))


def quoted(text: str, most: int = MOST_QUOTED) -> str:
    r"""Return `text` for the middle of a sentence: escaped, in one line whose line ends show as `\n`, cut to `most`."""
    shown = escape(text[: 2 * most].strip().translate(_BREAKS))
    return shown if len(shown) <= most and len(text) <= 2 * most else f"{shown[: most - 1]}…"


def _number(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
