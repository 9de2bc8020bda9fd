"""Secrets in whole runs: in none of the files, tables and texts that a run leaves, whatever quotes them."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import hostile
from tests.e2e.tool import Tool, ended
from tests.transport.sshd import private_sshd

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
ODD = " '\"$x`\\%/+&!"  # what has another form in a shell, in JSON, in a URL or in HTML
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


REAL = """\
name: only
timeout: 5m
secrets: [CANARY, HF_TOKEN]
steps:
  - name: forms
    timeout: 1m
    run: |
      FORMS
      test "${HF_TOKEN%'&!'}" != "$HF_TOKEN"
  - name: fails
    timeout: 1m
    needs: [forms]
    run: env; echo "$CANARY$HF_TOKEN" >&2; exit 9
"""


def test_the_users_own_secrets_are_left_nowhere(tool: Tool, tmp_path: Path):
    """A run that is no rehearsal, from a `.env` with CR LF: nowhere at home, on the machine, in output or processes."""
    own: dict[str, Any] = {name: f"mine-7f3a-{name.lower()}{ODD}\r\n" for name in ("CANARY", "HF_TOKEN")}
    keys: dict[str, Any] = {
        name: f"mine-7f3a-{name.lower()}" for name in ("RUNPOD_API_KEY", "LAMBDA_API_KEY", "AWS_SECRET_ACCESS_KEY")
    }
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "only.yaml").write_text(REAL.replace("FORMS", FORMS.strip().replace("\n", "\n      ")))
    with private_sshd(tmp_path / "sshd", env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}) as server:
        host = f"{server.address.user}@127.0.0.1:{server.address.port}"
        words = ["--debug", "run", "all", "--plan", str(tmp_path / "plan"), "--yes"]
        words += ["--ssh-host", host, "--ssh-key", str(server.key_file)]
        refused = tool.run(*words, **own | {"CANARY": "mine-7f3a\r\nümläut"}, **keys)
        assert (refused.returncode, "CANARY" in refused.stderr) == (2, True), refused.stderr
        assert "mine-7f3a" not in refused.stdout + refused.stderr
        run = tool.start(*words, **own, **keys)
        seen = []
        while run.poll() is None:
            seen.append("mine-7f3a" in command_lines())
            with contextlib.suppress(Exception):
                run.wait(0.1)
        code, output = ended(run)
        assert code == 3, output
        shown = output + tool.run("status", "--json").stdout + tool.run("logs").stdout
        assert shown.count("***") > 10
        assert "mine-7f3a" not in shown
        for folder in (tool.home, tmp_path / "sshd"):
            kept = [f for f in folder.rglob("*") if f.is_file() and b"mine-7f3a" in f.read_bytes()]
            assert kept == []
    assert not any(seen)
