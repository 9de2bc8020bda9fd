"""`gpuplan open` over a real sshd, with a stand-in of Jupyter that serves HTTP and asks for its token."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from orchestrator.ledger.rows import HostKeyRow, MachineRow, RunRow
from orchestrator.words.lifecycle import MachineState, RunState
from orchestrator.words.spec import WorldSpec
from tests.transport.sshd import Sshd, private_sshd
from tests.unit.cli.desk import Desk

PLAN = "one: {machine: {gpu: [RTX-4090]}, volume: {name: data, size_gb: 10}, steps: [{name: x, run: x}]}"
RUN = "1102-open"
STAND_IN = """#!{python}
import http.server, os, sys
if "--version" in sys.argv:
    sys.exit(0)
assert sys.argv[1] == "lab" and "--ip=127.0.0.1" in sys.argv, sys.argv
token = os.environ["JUPYTER_TOKEN"]
class Asked(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        right = self.path == f"/?token={{token}}"
        self.send_response(200 if right else 403)
        self.end_headers()
        self.wfile.write(os.getcwd().encode() if right else b"no")
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Asked)
print(f"    http://127.0.0.1:{{server.server_address[1]}}/lab?token={{token}}", file=sys.stderr, flush=True)
server.serve_forever()
"""


@dataclass
class Opened:
    """A home whose run has that sshd for its machine."""

    desk: Desk
    sshd: Sshd

    def begin(self, *words: str) -> subprocess.Popen[str]:
        env = {**os.environ, "GPUPLAN_HOME": str(self.desk.home.path), "PYTHONUNBUFFERED": "1"}
        argv = [sys.executable, "-c", "from orchestrator.cli import main; main()", "open", RUN, *words]
        return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def jupyter(self, script: str) -> None:
        program = self.sshd.home / ".gpuplan/venv/bin/jupyter"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(script)
        program.chmod(0o755)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    desk = Desk(tmp_path / "desk", PLAN)
    with private_sshd(tmp_path / "it's here") as sshd:
        address = f"{sshd.address.user}@{sshd.address.host}:{sshd.address.port}"
        world = WorldSpec(provider="ssh-host", ssh_host=address, ssh_key=str(sshd.key_file))
        spec = desk.bench.spec.model_copy(update={"run": RUN, "world": world})
        desk.home.run_folder(RUN).mkdir(parents=True)
        spec.save(desk.home.run_folder(RUN))
        ledger = desk.bench.ledger()
        ledger.runs.put(RunRow(id=RUN, state=RunState.RUNNING, created_at=ledger.now()))
        ledger.machines.put(
            MachineRow(
                name="gpuplan-me", run=RUN, phase="one", request="0", node=0, provider="ssh-host", provider_id="i",
                type_id="t", gpu="", gpus=0, place="", price_hour=Decimal(0), state=MachineState.REACHABLE,
                host=sshd.address.host, port=sshd.address.port, user=sshd.address.user,
            )
        )  # fmt: skip
        key = " ".join((sshd.folder / "host/id_ed25519.pub").read_text().split()[:2])
        ledger.host_keys.put(HostKeyRow(address=f"{sshd.address.host}:{sshd.address.port}", key=key))
        ledger.close()
        yield Opened(desk, sshd)


def first_line(process: subprocess.Popen[str], within_s: float = 100) -> str:
    assert process.stdout
    assert select.select([process.stdout], [], [], within_s)[0], "it said nothing"
    return process.stdout.readline()


def command_lines() -> str:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


def test_jupyter_is_opened_and_ended(opened: Opened):
    """The link lets in, nothing else does; its token is in no process list, file or log; Ctrl-C ends all of it."""
    opened.jupyter(STAND_IN.format(python=sys.executable))
    process = opened.begin("--port", "1")  # which nobody but root may take, and then it is that one
    try:
        line = first_line(process)
        link = re.fullmatch(r"open (http://127\.0\.0\.1:([0-9]+)/\?token=([\w-]{43}))\n", line)
        assert link, line
        url, port, token = link[1], int(link[2]), link[3]
        reply = httpx.get(url, trust_env=False, timeout=20)
        assert (reply.status_code, reply.text) == (200, str(opened.sshd.workspace))
        assert httpx.get(f"http://127.0.0.1:{port}/?token=x", trust_env=False, timeout=20).status_code == 403
        assert token not in command_lines()
        assert "jupyter lab --no-browser" in command_lines()
        kept = [*opened.sshd.home.rglob("*"), *opened.desk.home.path.rglob("*")]
        assert not [file for file in kept if file.is_file() and token.encode() in file.read_bytes()]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors.strip()) == (0, "")
        assert "jupyter lab --no-browser" not in command_lines()
        with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), 2):
            pass
    finally:
        process.kill()
        process.communicate()


def test_where_there_is_no_jupyter_it_is_said_how_it_gets_there(opened: Opened):
    """Exit code 2, with what to add to the plan."""
    if any((Path(folder) / "jupyter").exists() for folder in os.environ["PATH"].split(os.pathsep)):
        pytest.skip("this computer has a Jupyter of its own")
    process = opened.begin()
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 2
    assert "Jupyter is not installed on gpuplan-me" in errors
    assert "setup: pip install jupyterlab" in errors


def test_a_jupyter_that_ends_says_its_last_words(opened: Opened):
    """Exit code 3."""
    opened.jupyter("#!/bin/sh\n[ \"$2\" = --version ] && exit 0\necho 'no room for a runtime folder'\nexit 1\n")
    process = opened.begin()
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 3
    assert "Jupyter on gpuplan-me ended by itself" in errors
    assert "no room for a runtime folder" in errors


@pytest.mark.parametrize(
    ("provider", "page"),
    [
        ("runpod", "https://console.runpod.io/pods?id=i"),
        ("lambda", "https://cloud.lambda.ai/instances"),
        ("ssh-host", ""),
    ],
)
def test_the_providers_page_is_printed(opened: Opened, provider: str, page: str):
    """Nothing is opened for it, and no key is needed; one's own host has none."""
    ledger = opened.desk.bench.ledger()
    ledger.machines.change({"name": "gpuplan-me"}, provider=provider)
    spec = opened.desk.bench.spec.model_copy(update={"run": RUN})
    if page:
        spec.save(opened.desk.home.run_folder(RUN))
        ledger.host_keys.put(HostKeyRow(address="gpuplan-me", key="ssh-ed25519 AAAA"))
    ledger.close()
    said, errors = (process := opened.begin("--console", "--json")).communicate(timeout=60)
    if page:
        assert json.loads(said) == {"run": RUN, "machine": "gpuplan-me", "console": page}
    else:
        assert (process.returncode, said.count("gpuplan-me has no page of a provider")) == (2, 1), errors
