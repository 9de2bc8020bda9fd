"""The view that never fails."""

from __future__ import annotations

from typing import cast

from orchestrator.report.safe_view import SafeView
from orchestrator.report.snapshot import View


class Closed:
    """A terminal that goes away at the second word."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)
        if len(self.said) > 1:
            raise BrokenPipeError

    def confirm(self, question: str, given_up: object) -> bool:
        raise AssertionError(question)


def test_nothing_is_said_to_whoever_has_gone():
    """The first failure is the last word to it: nothing is raised, and a question is answered with no."""
    closed = Closed()
    view = SafeView(cast("View", closed))
    for text in ("one", "two", "three"):
        view.say(text)
    assert closed.said == ["one", "two"]
    assert view.confirm("go on?", lambda: False) is False
