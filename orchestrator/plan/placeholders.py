"""What stands in a published text for a figure or a fact of the run: `${NAME}`, `${PHASE/STEP:FIGURE@gpu}`, `$$`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

# Facts that every text may name; a model card has more.
FACTS = frozenset(
    {"plan", "run", "date", "gpuplan", "upstream", "base", "branch", "title", "machine_hours", "machine_usd"}
    | {"deliverables", "benchmarks", "figures", "made_of"}
)
CARD = frozenset({"repo", "base_model", "license", "files"})
DEVICES = ("cpu", "gpu")
LONGEST = 60_000  # characters of a text, which GitHub bounds at 65,536

_FIELD = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[^{}\n]*)\})?")
_FIGURE = re.compile(r"(?P<step>[^:@]+/[^:@]+):(?P<name>[A-Za-z0-9_.-]+)(?:@(?P<device>\w+))?")


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure of a step. `device`: where it must have been measured, or it is not shown; None: anywhere."""

    step: str
    name: str
    device: str | None


Placeholder = Figure | str  # a string: the name of a fact


def mistakes(text: str, facts: frozenset[str], steps: frozenset[str]) -> list[tuple[int, int, str, str]]:
    """What is wrong with a text: line and column from 1 on, a sentence, a remedy.

    `steps`: the plan's, as PHASE/STEP; none: they are not known, and no step is wrong.
    """
    found = []
    if len(text) > LONGEST:
        found.append((1, 1, f"the text has {len(text):,} characters, and may have {LONGEST:,}", ""))
    for match in _FIELD.finditer(text):
        if match["dollar"] is not None:
            continue
        said = _mistake(match["name"], facts, steps)
        if said:
            line = text.count("\n", 0, match.start()) + 1
            found.append((line, match.start() - text.rfind("\n", 0, match.start()), *said))
    return found


def fill(text: str, value: Callable[[Placeholder], str]) -> str:
    """The text with what `value` says of each placeholder. KeyError: one that `mistakes` would refuse."""

    def put(match: re.Match[str]) -> str:
        if match["dollar"] is not None:
            return "$"
        return value(parse(match["name"] or ""))

    return _FIELD.sub(put, text)


def parse(name: str) -> Placeholder:
    """What stands between the braces: a figure, else the name of a fact."""
    found = _FIGURE.fullmatch(name)
    return Figure(found["step"], found["name"], found["device"]) if found else name


def _mistake(name: str | None, facts: frozenset[str], steps: frozenset[str]) -> tuple[str, str] | None:
    if name is None:
        return "a $ that is meant as such is written $$", "a placeholder is ${NAME}"
    one = parse(name)
    if isinstance(one, Figure):
        if one.device is not None and one.device not in DEVICES:
            return f"${{{name}}}: a figure is measured @cpu or @gpu, not @{one.device}", ""
        if steps and one.step not in steps:
            return f"${{{name}}}: the plan has no step {one.step}", _nearest(one.step, steps)
        return None
    if name in facts:
        return None
    return f"there is no placeholder ${{{name}}}", _nearest(name, facts) or "a figure is ${PHASE/STEP:FIGURE}"


def _nearest(word: str, known: frozenset[str]) -> str:
    close = get_close_matches(word, sorted(known), n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(sorted(known))}"
