"""A secret in whole runs: in none of the files, tables and texts that a run leaves, whatever quotes it."""

from __future__ import annotations

from pathlib import Path

import hostile
import pytest
from tool import Tool

AGENT = """\
import json, os
for line in open(os.path.join(os.path.dirname(__file__), "said")):
    print(json.dumps({"ok": False, "code": "x", "message": "no: " + line}))
"""
THEN = 'for a in "$HOME"/.gpuplan/agent-*; do printf %s "$CANARY" > "$a/said"; done'


@pytest.mark.slow
@pytest.mark.parametrize("canary", ["canary-7f3a\r\n", " \"canary-7f3a'\\ "], ids=["CR LF", "quotes"])
def test_what_quotes_a_secret_is_masked_everywhere(tool: Tool, tmp_path: Path, canary: str):
    """A machine quotes the secret in its refusals: ledger, engine's tables, logs, report and terminal show ***."""
    plan = hostile.plan(tmp_path / "plan", AGENT, THEN)
    done = tool.run("--debug", "run", "all", "--plan", str(plan), "--dry-run", "--yes", CANARY=canary)
    assert done.returncode == 3, done.stdout
    assert "no: ***" in done.stdout
    status = tool.run("status", "--json").stdout + tool.run("logs").stdout
    kept = [f for f in tool.home.rglob("*") if f.is_file() and b"canary-7f3a" in f.read_bytes()]
    assert kept == []
    assert "canary-7f3a" not in done.stdout + done.stderr + status


def test_a_secret_that_cannot_be_sent_ends_before_anything_is_made(tool: Tool, tmp_path: Path):
    """A line end in the middle: exit code 2 with the variable's name, no machine, nothing of the value."""
    plan = hostile.plan(tmp_path / "plan", AGENT, THEN)
    done = tool.run("run", "all", "--plan", str(plan), "--dry-run", "--yes", CANARY="canary\r\n7f3a")
    assert (done.returncode, tool.creates(), list(tool.home.glob("runs/*"))) == (2, [], [])
    assert "CANARY" in done.stderr
    assert "7f3a" not in done.stdout + done.stderr
