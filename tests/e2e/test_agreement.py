"""The volume shows more work than the preview did: somebody agrees to it, or the run ends before it costs."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.e2e.tool import GPUPLAN, INT, PLANS, Tool, until

RUN = ("run", "all", "--plan", str(PLANS / "small"), "--dry-run")
FIRST = ("run", "one", "--plan", str(PLANS / "small"), "--dry-run", "--yes")


@pytest.fixture
def damaged(tool: Tool) -> Tool:
    """A home whose ledger says that phase one is done, and a volume that has lost its file."""
    assert tool.run(*FIRST).returncode == 0
    (made,) = {path.resolve() for path in Path(tool.cloud.file).parent.rglob("out/hello.txt")}
    made.unlink()
    return tool


@pytest.mark.faults  # tests/unit/cli/test_nothing_to_do has it too, in seconds
def test_with_nobody_to_ask_the_run_ends_and_the_next_preview_shows_it(damaged: Tool):
    """--yes: exit code 5 naming the step, machine gone; the same command then previews it and brings it to its end."""
    done = damaged.run(*RUN, "--yes")
    assert done.returncode == 5, done.stdout + done.stderr
    assert "more work than was previewed: one/make-file: about" in done.stdout
    assert damaged.cloud.alive()["machines"] == []
    assert damaged.run(*RUN, "--yes").returncode == 0


@pytest.mark.parametrize(
    ("answer", "code"),
    [pytest.param(*each, marks=pytest.mark.faults) for each in (("y", 0), ("n", 5), ("Ctrl-C", 6))],
)
def test_on_a_terminal_it_is_asked_again(damaged: Tool, answer: str, code: int):
    """The question names the step and its price; yes goes on, no ends the run with exit code 5, Ctrl-C with 6."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*GPUPLAN, *RUN], stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=damaged.env(), cwd=damaged.home,
    )  # fmt: skip
    os.close(slave)
    os.write(master, b"y\n")  # to the preview
    until(lambda: damaged.rows("select 1 from gpuplan_events where text like '%more work than was previewed%'"))
    if answer == "Ctrl-C":
        process.send_signal(INT)
    else:
        os.write(master, f"{answer}\n".encode())
    said, _ = process.communicate(timeout=90)
    os.close(master)
    assert process.returncode == code, said
    if answer != "Ctrl-C":  # which may come before the question is out
        assert "one/make-file: about 0.00 h, $0.00. Do it? [y/N]" in said
    assert damaged.cloud.alive()["machines"] == []
