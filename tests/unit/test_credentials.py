"""Secrets from the environment: what is taken, what is refused, and that no text of ours shows one."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from orchestrator.ledger import open_ledger
from orchestrator.ledger.rows import DeliverableRow, MachineRow, PhaseRow
from orchestrator.providers import access_from_env
from orchestrator.providers.http import Api
from orchestrator.providers.runpod_graphql import RunPodGraphQL
from orchestrator.storage import open_store
from orchestrator.words.access import ProviderAccess
from orchestrator.words.credentials import secret_from_env
from orchestrator.words.errors import AccountRefused, ConfigError, StepFailed, UsageError
from orchestrator.words.lifecycle import MachineState, Outcome, PhaseState
from orchestrator.words.secret import Secret, hide
from orchestrator.words.spec import WorldSpec
from orchestrator.world.home import Home
from orchestrator.world.real import real

CANARY = "canary-7f3a"
QUOTED = f"\"{CANARY}\\'"
TAKEN = {"CR LF at its end": f"{CANARY}\r\n", "spaces around it": f" \t{CANARY}  ", "quotes": QUOTED}
REFUSED = {
    "CR LF in it": f"{CANARY}\r\nx",
    "NUL": f"{CANARY}\x7fx",
    "accent": f"{CANARY}é",
    "no-break": f"{CANARY}\u200bx",
}


@pytest.mark.parametrize("text", TAKEN.values(), ids=TAKEN)
def test_what_surrounds_a_secret_is_taken_off(text: str, monkeypatch: pytest.MonkeyPatch):
    """Line ends and spaces at the ends go, quotes are part of it; the same for keys, stores and a plan's secrets."""
    for name in ("RUNPOD_API_KEY", "LAMBDA_API_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN"):
        monkeypatch.setenv(name, text)
    wanted = Secret(text.strip())
    assert access_from_env("runpod").api_key == access_from_env("lambda").api_key == wanted
    assert secret_from_env("HF_TOKEN") == wanted
    open_store("s3://bucket/prefix")
    assert os.environ["AWS_SESSION_TOKEN"] == wanted.reveal()


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_a_secret_that_no_header_takes_is_refused_by_name(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Exit code 2 with the variable's name and nothing of its value, before anything is asked or rented."""
    home, ledger = Home(tmp_path), open_ledger(tmp_path)
    world = real(home, ledger, WorldSpec(provider=""))
    readers = {
        "RUNPOD_API_KEY": lambda: access_from_env("runpod"),
        "LAMBDA_API_KEY": lambda: access_from_env("lambda"),
        "AWS_SECRET_ACCESS_KEY": lambda: open_store("s3://bucket/prefix"),
        "AWS_SESSION_TOKEN": lambda: open_store("s3://bucket/prefix"),
        "HF_TOKEN": lambda: world.require_secrets({"HF_TOKEN"}),
    }
    for name, read in readers.items():
        monkeypatch.setenv(name, text)
        with pytest.raises(UsageError, match=name) as raised:
            read()
        assert "canary" not in str(raised.value)
        assert raised.value.exit_code == 2
        monkeypatch.delenv(name)


@pytest.mark.parametrize("text", [CANARY, QUOTED, f"a/{CANARY} +é"])
def test_no_error_shows_a_secret(text: str):
    """Whatever form a library quotes it in, an error's text, remedy and place say ***."""
    held = Secret(text)
    for said in (text, repr(text), repr(f"Bearer {text}\r\n".encode()), json.dumps({"key": text}), _url(text)):
        error = StepFailed(f"illegal: {said}", remedy=f"not {said}")
        placed = ConfigError(said, where=said)
        for shown in (error.message, error.remedy, str(error), repr(error), str(placed), hide(said)):
            assert "canary" not in shown
            assert "***" in shown
    assert held.reveal() == text


def _url(text: str) -> str:
    return f"https://host/{quote(text)}?token={quote(text, safe='')}"


MACHINE = MachineRow(
    name="m", run="r", phase="p", request="p.1", node=0, provider="runpod", type_id="x", gpu="x", gpus=1, place="y",
    price_hour=Decimal(1), state=MachineState.REQUESTED,
)  # fmt: skip


def test_the_ledger_keeps_no_secret(tmp_path: Path):
    """Words that quote a secret are masked on every way into the tables."""
    held, ledger = Secret(QUOTED), open_ledger(tmp_path)
    said = f"no: {QUOTED}"
    key: dict[str, Any] = {"run": "r", "name": "p"}
    ledger.phases.put(PhaseRow(**key, state=PhaseState.PLANNED, error=said))
    ledger.phases.move(key, PhaseState.TEARING_DOWN, outcome=Outcome.FAILED, error=said)
    ledger.machines.put(MACHINE)
    ledger.machines.change({"name": "m"}, reason=said)
    ledger.gone("m", said, MachineState.DESTROYED)
    ledger.deliverables.put(DeliverableRow(run="r", phase="p", name="d", ok=False, detail=said))
    ledger.event("r", said)
    ledger.close()
    with sqlite3.connect(tmp_path / "gpuplan.db") as database:
        dump = "\n".join(database.iterdump())
    assert "canary" not in dump
    assert dump.count("no: ***") == 4
    assert held


def test_what_was_never_sent_is_a_refusal():
    """A key that no header takes: AccountRefused at every method, REST and GraphQL; the vendor sees no request."""
    key = Secret(f"{CANARY}\r\nX-More: 1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        access = ProviderAccess(api_key=key, graphql_url=url)
        api = Api("Vendor", url, access, str)
        calls = (
            lambda: api.create("pods", {"name": "x"}),
            lambda: api.read("pods"),
            lambda: api.destroy("DELETE", "pods/x"),
            lambda: RunPodGraphQL(access)._ask("query { x }"),
            lambda: RunPodGraphQL(access)._ask("mutation { x }", creates=True),
        )
        for call in calls:
            with pytest.raises(AccountRefused) as raised:
                call()
            assert "canary" not in str(raised.value)
        server.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:  # a connection may have been made; nothing came over it
                connection, _ = server.accept()
                connection.settimeout(0.2)
                assert connection.recv(100) == b""
        api.close()
