"""The stop flag, and the question that a run has for whoever looks on."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.engine.control import Control
from orchestrator.testing.clock import ManualClock
from orchestrator.words.errors import Interrupted


def asked(control: Control, clock: ManualClock, *, answer: bool | None) -> Any:
    """What becomes of a question that is answered, or stopped at, a minute later."""

    def later() -> None:
        clock.sleep(60)
        assert control.question == "Go on?"
        if answer is None:
            control.stop("interrupted", "Ctrl-C")
        else:
            control.answer(answer)

    task = clock.spawn("somebody", later)
    try:
        return control.ask("Go on?")
    finally:
        task.join()


@pytest.mark.parametrize("answer", [True, False])
def test_a_question_waits_for_its_answer(*, answer: bool):
    """However long it takes."""
    clock = ManualClock()
    control = Control(clock)
    control.attended = True
    assert asked(control, clock, answer=answer) is answer
    assert (clock.monotonic(), control.question) == (60, None)


def test_to_stop_at_a_question_is_no_answer():
    """The reason is raised, as anywhere else."""
    clock = ManualClock()
    control = Control(clock)
    control.attended = True
    with pytest.raises(Interrupted, match="Ctrl-C"):
        asked(control, clock, answer=None)


def test_where_nobody_looks_on_the_answer_is_no():
    """At once, and nothing is asked."""
    control = Control(ManualClock())
    assert control.ask("Go on?") is False
    assert control.question is None
