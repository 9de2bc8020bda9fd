"""`gpuplan down --all` where not every provider can be asked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.cli.sweeping import Everything, tell
from orchestrator.words.errors import StillRunning, UsageError


def test_nothing_is_said_of_providers_that_were_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Without any key nobody knows what runs: exit code 2 with how to set one, and no word on what is running."""
    monkeypatch.setenv("GPUPLAN_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["gpuplan", "down", "--all"])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr()
    assert (caught.value.code, said.out) == (2, "")
    assert "RUNPOD_API_KEY is not set" in said.err
    assert "make one at" in said.err


def test_what_was_not_asked_bounds_what_is_said(capsys: pytest.CaptureFixture[str]):
    """With the key of one provider missing, nothing runs where it could be asked; a silent one is exit code 7."""
    found = Everything([], keyless=[UsageError("lambda: no API key: LAMBDA_API_KEY is not set")])
    tell(found, [], [], volumes=False, json=False)
    assert capsys.readouterr().out.splitlines() == [
        "not asked: lambda: no API key: LAMBDA_API_KEY is not set",
        "nothing of this owner is running where it could be asked",
    ]
    found.silent.append("runpod could not be asked: 503")
    with pytest.raises(StillRunning, match="runpod could not be asked: 503"):
        tell(found, [], [], volumes=False, json=False)
    assert "nothing of this owner" not in capsys.readouterr().out
