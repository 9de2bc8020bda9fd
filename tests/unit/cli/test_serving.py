"""`gpuplan dashboard` as a command: its link, its end, a port that is taken, what is not installed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from orchestrator.cli.background import PROGRAM


def begin(home: Path, *words: str, program: str = PROGRAM) -> subprocess.Popen[str]:
    environ = {**os.environ, "GPUPLAN_HOME": str(home)}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", program, "dashboard", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ,
    )  # fmt: skip


def test_it_prints_a_link_and_ends_by_ctrl_c(tmp_path: Path):
    """With --json in a document; an open stream does not hold it up, and it ends well."""
    with begin(tmp_path, "--json") as process:
        assert process.stdout
        text = ""
        while not text.rstrip().endswith("}"):
            text += process.stdout.readline()
        link = json.loads(text)["url"]
        assert link.startswith("http://127.0.0.1:")
        with httpx.Client(trust_env=False, follow_redirects=True) as client:
            assert "There is no run yet" in client.get(link).text
            events = f"{link.partition('?')[0]}events"
            with client.stream("GET", events) as stream:
                assert next(stream.iter_lines()) == "event: part"
                process.send_signal(signal.SIGINT)
                assert process.wait(30) == 0
        assert process.stderr
        assert process.stderr.read() == ""


def test_a_taken_port_is_said(tmp_path: Path):
    """Exit code 2, and --port names another one."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with begin(tmp_path, "--port", str(port)) as process:
            _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"port {port} cannot be opened: Address already in use" in said
    assert "--port" in said


@pytest.mark.parametrize("name", ["uvicorn", "starlette", "jinja2"])
def test_what_is_not_installed_is_named(tmp_path: Path, name: str):
    """Exit code 2, and how to get it."""
    with begin(tmp_path, program=f"import sys; sys.modules[{name!r}] = None; {PROGRAM}") as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"{name} is not installed" in said
    assert "pip install '.[dashboard]'" in said
