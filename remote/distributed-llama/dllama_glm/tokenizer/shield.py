"""Messages that write out a special token: its text goes through the chat template, and into ids, as mere text.

Before the template is rendered each such text is exchanged for one character that nobody uses. What the rendered text
then holds of special tokens is the template's own.
"""

from collections.abc import Callable, Iterator
from typing import Any

Span = tuple[int, int]
_STAND_INS = range(0xF0000, 0xFFFFE)  # a plane of Unicode that is left to private use


def shield(messages: Any, find: Callable[[str], list[Span]]) -> tuple[Any, dict[int, str]]:
    """Return the messages without special tokens, and what `str.translate` needs to put their texts back.

    `find` gives the spans of a text that would become special tokens. Roles stay as they are: templates make tokens of
    them.
    """
    used = {ord(character) for text in _leaves(messages) for character in text}
    free = (chr(code) for code in _STAND_INS if code not in used)
    stand_ins: dict[str, str] = {}

    def one(text: str) -> str:
        while spans := find(text):
            for start, end in reversed(spans):
                found = text[start:end]
                if found not in stand_ins:
                    stand_ins[found] = next(free)
                text = text[:start] + stand_ins[found] + text[end:]
        return text

    return _mapped(messages, one), {ord(stand_in): found for found, stand_in in stand_ins.items()}


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _leaves(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part)


def _mapped(value: Any, one: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return one(value)
    if isinstance(value, dict):
        return {key: part if key == "role" else _mapped(part, one) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(part, one) for part in value]
    return value
