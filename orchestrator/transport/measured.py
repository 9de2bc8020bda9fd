"""Figures that a job published, as far as they are any."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import islice
from typing import Any

from orchestrator.transport.shapes import LONGEST_NAME, MOST_FIGURES

LONGEST_TEXT = 200  # characters of a text beside a figure


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure with where it was measured, as the program says that measured it; "": it does not say.

    `device`: `cpu`, or the name of a card.
    """

    value: float
    measured_on: str = ""
    device: str = ""

    @classmethod
    def read(cls, said: Any) -> Measured | None:
        """Build it from what a job reported, which may be anything; None: that is no figure."""
        found = said if isinstance(said, dict) else {}
        value = found.get("value")
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            return None
        texts = [found.get(key, "") for key in ("measured_on", "device")]
        measured_on, device = (text[:LONGEST_TEXT] if isinstance(text, str) else "" for text in texts)
        return cls(float(value), measured_on, device)


def by_name(said: object) -> dict[str, Measured]:
    """Figures by their names, which are short and printable, and a bounded many; what is none is left out."""
    if not isinstance(said, dict):
        raise ValueError("no figures by name")  # noqa: TRY004  pydantic knows this one
    named = ((name, one) for name, one in said.items() if len(name) <= LONGEST_NAME and name.isprintable())
    read = ((name, figure) for name, one in named if (figure := Measured.read(one)))
    return dict(islice(read, MOST_FIGURES))
