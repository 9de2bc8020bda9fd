"""The user's own programs: what they get, what they say, and a repository that comes late."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from orchestrator.publish.model_hub import ModelHub
from orchestrator.publish.programs import CLOUDS, HUB, Program
from orchestrator.publish.repository import Repository
from orchestrator.rehearsal import git_mirror
from orchestrator.words.errors import StepFailed, UsageError
from orchestrator.words.secret import Secret

PYTHON = ("-I", "-c")


def python(code: str, **options: object) -> str:
    return Program(sys.executable, HUB | CLOUDS)(*PYTHON, code, **options)  # type: ignore[arg-type]  # named options


def test_a_program_gets_the_secrets_that_are_its_own(monkeypatch: pytest.MonkeyPatch):
    """Those that it is given, none that are hidden from it, and the rest of the environment."""
    monkeypatch.setenv("HF_TOKEN", "of-the-environment")
    monkeypatch.setenv("RUNPOD_API_KEY", "rp")
    monkeypatch.setenv("ORDINARY", "yes")
    code = "import os; print([os.environ.get(n) for n in ('HF_TOKEN', 'RUNPOD_API_KEY', 'ORDINARY')])"
    assert python(code) == "[None, None, 'yes']"
    assert python(code, secrets={"HF_TOKEN": Secret("given")}) == "['given', None, 'yes']"


def test_a_bad_end_is_told_with_its_last_words():
    """Masked, escaped, in one line and bounded; one that says nothing, and one that never ends."""
    secret = Secret("a-secret-word")
    with pytest.raises(StepFailed) as told:
        python("import sys; sys.exit('x' * 5000 + '\\nlong ago\\n\\n\\x1b[2J a-secret-word\\nmiddle\\nend')")
    assert str(told.value).endswith("failed with exit code 1: *** \\nmiddle\\nend".replace(" \\n", "\\n"))
    assert secret
    with pytest.raises(StepFailed, match="it said nothing"):
        python("raise SystemExit(3)")
    with pytest.raises(StepFailed, match="did not end within"):
        python("import time; time.sleep(60)", within_s=0.2)


def test_a_program_that_is_not_there_is_named():
    """Exit code 2."""
    assert not Program("no-such-program").is_there
    with pytest.raises(UsageError, match="no-such-program is not in PATH"):
        Program("no-such-program")("x")


def test_a_repository_that_comes_late_is_waited_for(tmp_path: Path):
    """A fork answers a while after it was made; one that never does is told with git's words."""
    bare = git_mirror.make(tmp_path / "there")
    late, waits = tmp_path / "late.git", list[float]()

    def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            shutil.copytree(bare, late)

    ours = Repository(tmp_path / "ours.git", bare.as_uri(), {})
    ours.await_answer(late.as_uri(), (), pause)
    assert waits == [1.0, 2.0]
    waits.clear()
    with pytest.raises(StepFailed, match="git ls-remote"):
        ours.await_answer((tmp_path / "never.git").as_uri(), (), waits.append)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_hf_knows_the_words_that_it_is_called_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The real one, at an address where nobody is: it fails for that, and not for an option that it has not."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    (tmp_path / "m").write_text("m")
    hub = ModelHub({"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"})
    assert hub.is_there
    with pytest.raises(StepFailed) as told:
        hub.upload("o/r", tmp_path / "m", "m", Secret("hf_abcdef"), seen=False)
    assert "refused" in str(told.value).lower()
    assert "option" not in str(told.value).lower()
