"""What a later run makes of an earlier one: nothing is believed that was not seen, nothing of others is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.tool import Tool

PHASE = """
name: one
machine: {gpu: [RTX-4090]}
volume: {name: data, size_gb: 10}
timeout: 5m
steps:
  - {name: make, run: "RUN", creates: [out.txt], timeout: 1m, retries: RETRIES}
"""
MAKE = "echo made > out.txt"
NO_STORE = """
from orchestrator.cli import running
draft = running.draft
running.draft = lambda *given: draft(*given).model_copy(update={"stores": ()})  # as in a real run without one
"""


def plan(folder: Path, run: str = MAKE, *, retries: int = 0, more: str = "", settings: str = "") -> str:
    """A plan of one phase with one step, on a volume."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "one.yaml").write_text(PHASE.replace("RUN", run).replace("RETRIES", str(retries)) + more)
    (folder / "gpuplan.yaml").write_text(f"budget_usd: 5\nstep_seconds: 1\n{settings}")
    return str(folder)


def run(tool: Tool, folder: str, *more: str) -> tuple[int, str]:
    done = tool.run("run", "all", "--plan", folder, "--dry-run", "--yes", *more)
    return done.returncode, done.stdout + done.stderr


def volume(tool: Tool) -> Path:
    """The folder behind the one volume of the cloud."""
    (found,) = Path(tool.cloud.file).parent.glob("cloud/volumes/*")
    return found


@pytest.mark.faults  # tests/unit/cli/test_later_runs has it too, in seconds
def test_another_plan_of_the_same_name_does_not_get_the_volume(tool: Tool, tmp_path: Path):
    """A volume belongs to the plan in its folder: exit code 2 names both, nothing is rented, nothing is deleted."""
    ours = plan(tmp_path / "ours" / "plan", "echo precious > out.txt; exit 1")
    theirs = plan(tmp_path / "theirs" / "plan")
    assert run(tool, ours)[0] == 3
    code, said = run(tool, theirs)
    assert (code, len(tool.creates())) == (2, 1), said
    assert ours in said
    assert theirs in said
    assert (volume(tool) / "out.txt").read_text() == "precious\n"
    named = plan(tmp_path / "theirs" / "plan", settings="plan: theirs\n")
    assert run(tool, named)[0] == 0


@pytest.mark.faults  # tests/unit/cli/test_later_runs has it too, in seconds
def test_a_plan_without_a_store_keeps_its_volume(tool: Tool, tmp_path: Path):
    """With artifacts and nowhere to put them the only copy is on the volume: it is kept although all succeeded."""
    folder = plan(tmp_path / "plan", more="artifacts: [out.txt]\n")
    done = tool.run("run", "all", "--plan", folder, "--dry-run", "--yes", changed=NO_STORE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kept: volume" in done.stdout
    assert volume(tool).exists()


def test_a_volume_is_deleted_when_somebody_says_so(tool: Tool, tmp_path: Path):
    """`down --volumes` shows it; with nobody to ask it is kept (exit code 2), with --yes it is deleted."""
    assert run(tool, plan(tmp_path / "plan"))[0] == 0
    unasked = tool.run("down", "--volumes")
    assert (unasked.returncode, "--yes deletes them" in unasked.stderr) == (2, True), unasked.stderr
    assert "on it: one/make" in unasked.stdout
    assert volume(tool).exists()
    done = tool.run("down", "--volumes", "--yes")
    assert (done.returncode, "deleted: volume gpuplan-" in done.stdout) == (0, True), done.stdout + done.stderr
    assert not list(Path(tool.cloud.file).parent.glob("cloud/volumes/*"))


@pytest.mark.faults  # tests/unit/cli/test_later_runs has it too, in seconds
def test_a_failed_deliverable_is_asked_again(tool: Tool, tmp_path: Path):
    """Steps that are done do not make a failed run up to date: the next one judges again, and resume too."""
    folder = plan(tmp_path / "plan", more="deliverables:\n  - {name: large, file: out.txt, min_bytes: 1000}\n")
    assert run(tool, folder)[0] == 3
    code, said = run(tool, folder)
    assert (code, "up to date as of" in said) == (3, False), said
    assert "which is there\n" in said  # and nothing of its being deleted: this plan saves nothing
    (volume(tool) / "out.txt").write_bytes(b"x" * 2000)
    again = tool.run("resume", "--yes")
    assert again.returncode == 5, again.stdout  # the file has another size than its record: more work than previewed
    assert "one/make" in again.stdout


def test_what_a_failed_attempt_printed_proves_nothing(tool: Tool, tmp_path: Path):
    """A deliverable's text and metric come from the attempt that succeeded."""
    first = (
        'echo Paris; echo \\"{\\\\\\"name\\\\\\": \\\\\\"speed\\\\\\", \\\\\\"value\\\\\\": 50}\\" >> $GPUPLAN_METRICS'
    )
    command = f"if [ ! -e tried ]; then touch tried; {first}; exit 1; fi; echo London; {MAKE}"
    asked = "deliverables:\n  - {name: capital, step: make, stdout: Paris}\n"
    asked += "  - {name: fast, step: make, metric: speed, min: 10}\n"
    code, said = run(tool, plan(tmp_path / "plan", command, retries=1, more=asked))
    assert code == 3, said
    assert "standard output holds 'Paris'; its last: 'London'" in " ".join(said.split())
    assert "one/make measured no speed" in " ".join(said.split())


@pytest.mark.faults
def test_a_step_that_ran_again_has_no_older_record(tool: Tool, tmp_path: Path):
    """A command that is changed and changed back runs three times: what lies there is the last one's."""
    for word in ("one", "two", "one"):
        assert run(tool, plan(tmp_path / "plan", f"echo {word} > out.txt"))[0] == 0
        assert (volume(tool) / "out.txt").read_text() == f"{word}\n"


@pytest.mark.faults
def test_force_that_fails_leaves_no_record(tool: Tool, tmp_path: Path):
    """--force over a done step that then fails: the next run does not take its leavings for the result."""
    command = "if [ -e broken ]; then echo half > out.txt; exit 1; fi; echo good > out.txt"
    folder = plan(tmp_path / "plan", command)
    assert run(tool, folder)[0] == 0
    (volume(tool) / "broken").touch()
    assert run(tool, folder, "--force", "make")[0] == 3
    (volume(tool) / "broken").unlink()
    assert run(tool, folder)[0] == 0
    assert (volume(tool) / "out.txt").read_text() == "good\n"


@pytest.mark.faults  # tests/unit/engine/test_uploads has it too, in seconds
def test_a_store_that_is_unwell_for_a_while_loses_nothing(tool: Tool, tmp_path: Path):
    """Twelve refusals in a row are waited out; the upload then comes to its end on the same machine."""
    folder = plan(tmp_path / "plan", more="artifacts: [out.txt]\n")
    tool.cloud.arm("s3-503@12")
    code, said = run(tool, folder)
    assert code == 0, said
    assert len(tool.creates()) == 1


def test_the_plan_of_this_folder_is_meant_without_a_name(tool: Tool, tmp_path: Path):
    """Run in a plan's folder, its phases and settings count; --plan reads the project's gpuplan.yaml beside it too."""
    plan(tmp_path / "mine")
    here = tool.run("plan", cwd=tmp_path / "mine")
    shown = f"plan mine in {tmp_path / 'mine'}; settings: {tmp_path / 'mine' / 'gpuplan.yaml'}"
    assert shown.replace(" ", "") in "".join(here.stdout.split())
    (tmp_path / "gpuplan.yaml").write_text("budget_usd: 0.0001\n")
    (tmp_path / "mine" / "gpuplan.yaml").write_text("step_seconds: 1\n")
    above = tool.run("run", "all", "--plan", "mine", "--dry-run", "--yes", cwd=tmp_path)
    assert (above.returncode, "budget $0.0" in above.stderr) == (5, True), above.stderr


@pytest.mark.parametrize(("said", "code"), [("n\n", 0), ("", 6)])
def test_an_answer_that_is_not_yes_rents_nothing(tool: Tool, tmp_path: Path, said: str, code: int):
    """`n` at the question is an answer (exit code 0), the end of input none (6); both say that nothing was rented."""
    import os
    import pty
    import subprocess

    from tests.e2e.tool import GPUPLAN

    master, slave = pty.openpty()
    words = [*GPUPLAN, "run", "all", "--plan", plan(tmp_path / "plan"), "--dry-run"]
    process = subprocess.Popen(
        words, stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=tool.env(), cwd=tool.home
    )
    os.close(slave)
    os.write(master, (said or "\x04").encode())
    out, errors = process.communicate(timeout=60)
    os.close(master)
    assert (process.returncode, "nothing was rented" in out + errors) == (code, True), errors
    assert tool.creates() == []
