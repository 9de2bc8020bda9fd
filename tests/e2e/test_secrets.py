"""Secrets in whole runs: in none of the files, tables and texts that a run leaves, whatever quotes them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.e2e import hostile
from tests.e2e.tool import Tool, ended

AGENT = """\
import json, os, time
said = os.path.join(os.path.dirname(__file__), "said")
while not os.path.exists(said):
    time.sleep(0.05)
for line in open(said):
    print(json.dumps({"ok": False, "code": "x", "message": "no: " + line}))
"""
FORMS = """\
set -x
printf '%s\\n%q\\n' "$CANARY" "$CANARY"
: "$CANARY"
python3 - <<'EOP'
import html, json, os, shlex, urllib.parse
text = os.environ["CANARY"]
print(json.dumps({"k": text}), repr(text), shlex.quote(text), html.escape(text))
print(urllib.parse.quote(text, safe=""), urllib.parse.quote_plus(text).lower())
EOP
set +x
"""
THEN = 'for a in "$HOME"/.gpuplan/agent-*; do printf %s "$CANARY" > "$a/new" && mv "$a/new" "$a/said"; done'
MARK = "rehearsed-CANARY"  # how a rehearsal's stand-in begins: after it come quotes, signs and a backslash


def command_lines() -> str:
    """What every process of this computer was started with."""
    said = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            said.append(file.read_bytes().decode("utf-8", "replace"))
    return "\n".join(said)


@pytest.mark.slow
def test_no_form_of_a_secret_is_left_anywhere(tool: Tool, tmp_path: Path):
    """Printed in every form, and quoted in refusals: ledger, tables, logs, volume, terminal, process list have none."""
    plan = hostile.plan(tmp_path / "plan", AGENT, THEN)
    text = (plan / "only.yaml").read_text().replace("    expect: 0.001s\n", "    needs: [forms]\n    expect: 0.001s\n")
    forms = FORMS.strip().replace("\n", "\n      ")
    (plan / "only.yaml").write_text(f"{text}  - name: forms\n    run: |\n      {forms}\n")
    run = tool.start("--debug", "run", "all", "--plan", str(plan), "--dry-run", "--yes", CANARY="mine-7f3a")
    seen = []
    while run.poll() is None:
        seen.append(MARK in command_lines())
        with contextlib.suppress(Exception):
            run.wait(0.1)
    code, output = ended(run)
    assert code == 3, output
    assert "no: ***" in output, output
    status = tool.run("status", "--json").stdout + tool.run("logs").stdout
    assert status.count("***") > 5
    volumes = tool.cloud.file.parent / "cloud" / "volumes"
    for folder in (tool.home, volumes):
        kept = [f for f in folder.rglob("*") if f.is_file() and (MARK.encode() in f.read_bytes())]
        assert kept == []
    assert MARK not in output + status
    assert not any(seen)


PLAIN = """\
name: only
volume: {name: plain, size_gb: 10}
steps:
  - name: look
    run: |
      test "${CANARY#rehearsed-}" != "$CANARY"
      env > everything
    secrets: [CANARY]
  - name: other
    run: env > others
"""


def test_a_rehearsal_gets_no_secret_of_the_users(tool: Tool, tmp_path: Path):
    """A rehearsed machine gets a stand-in and never the user's own; the step that names it gets it, and no other."""
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "gpuplan.yaml").write_text("boot_seconds: 0.001\n")
    (tmp_path / "plan" / "only.yaml").write_text(PLAIN)
    done = tool.run("run", "all", "--plan", str(tmp_path / "plan"), "--dry-run", "--yes", CANARY="mine-7f3a")
    assert done.returncode == 0, done.stdout + done.stderr
    (said,) = (tool.cloud.file.parent / "cloud" / "volumes").glob("*/everything")
    assert "mine-7f3a" not in said.read_text() + done.stdout + done.stderr
    assert MARK in said.read_text()
    assert "CANARY" not in said.with_name("others").read_text()
    assert "secret CANARY: of your environment, for only/look" in done.stdout
