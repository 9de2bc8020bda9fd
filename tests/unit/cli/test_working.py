"""`gpuplan worker` where its database is away."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from orchestrator.cli import working
from orchestrator.words.errors import DatabaseBusy


def test_a_server_that_is_away_is_looked_for_at_the_usual_pace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """It is said, and the next look comes after a pause, however quickly the server refused."""
    slept, answers = list[float](), [KeyboardInterrupt(), *[DatabaseBusy("the database does not answer")] * 3]

    def away(*_: object) -> None:
        raise answers.pop()

    monkeypatch.setattr(working, "open_home", lambda: (None, SimpleNamespace(is_shared=True, where="here")))
    monkeypatch.setattr(working, "_undriven", away)
    monkeypatch.setattr(time, "sleep", slept.append)
    with pytest.raises(KeyboardInterrupt):
        working.worker()
    assert slept == [working.LOOK_S] * 3
    assert capsys.readouterr().err.count("the database does not answer") == 3
