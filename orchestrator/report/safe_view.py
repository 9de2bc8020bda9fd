"""A view that never fails: a closed terminal or a broken pipe must not end the run's driver."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.report.snapshot import Snapshot, View


class SafeView:
    """Any view, until it fails for the first time; from then on nobody looks."""

    def __init__(self, view: View) -> None:
        self._view: View | None = view

    def update(self, seen: Snapshot) -> None:
        """Show it, if anybody still looks."""
        self._try(lambda view: view.update(seen))

    def log(self, step: str, line: str) -> None:
        """Show it, if anybody still looks."""
        self._try(lambda view: view.log(step, line))

    def progress(self, step: str, text: str) -> None:
        """Show it, if anybody still looks."""
        self._try(lambda view: view.progress(step, text))

    def say(self, text: str) -> None:
        """Show it, if anybody still looks."""
        self._try(lambda view: view.say(text))

    def confirm(self, question: str, given_up: Callable[[], bool]) -> bool:
        """Ask, if anybody still looks. False: no, or nobody does."""
        answers: list[bool] = []
        self._try(lambda view: answers.append(view.confirm(question, given_up)))
        return answers == [True]

    def _try(self, show: Callable[[View], None]) -> None:
        if self._view is not None:
            try:
                show(self._view)
            except Exception:  # noqa: BLE001  whoever looked has gone; the run goes on to its end
                self._view = None
