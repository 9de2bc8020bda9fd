"""What holds for every test: no network but loopback, a home and an environment of its own."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.server import Server

OURS = ("GPUPLAN_", "RUNPOD_", "LAMBDA_", "AWS_", "GOOGLE_", "HF_", "HUGGING_FACE_", "GIT_", "SSH_")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

if os.environ.get("DLLAMA_TEST_DEVICE") != "cuda":  # what `make gpu` sets
    os.environ["TRITON_INTERPRET"] = "1"  # known before anything imports triton: see tests/payload/gpu

_connect = socket.socket.connect


def pytest_addoption(parser: pytest.Parser) -> None:
    """--write-effects: see tests/unit/engine/test_stories.py."""
    parser.addoption("--write-effects", action="store_true", help="write the agreed effects anew")


def pytest_configure() -> None:
    """The user's own accounts, proxies and settings are nobody's business here: not of fixtures either."""
    for name in list(os.environ):
        if name.startswith(OURS) or name.lower() in PROXIES or name in {"COLUMNS", "LINES"}:  # a worker's terminal
            del os.environ[name]
    socket.socket.connect = _only_to_loopback  # type: ignore[assignment, method-assign]  # for this process and what it imports


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many deaths of a process the engine's stories have lived through."""
    reports = terminalreporter.getreports("passed")
    deaths = [value for report in reports for name, value in report.user_properties if name == "deaths"]
    if deaths:
        terminalreporter.write_line(f"stories: {len(deaths)}, killed and gone on with {sum(map(int, deaths))} times")


def _only_to_loopback(self: socket.socket, address: Any) -> None:
    sends = self.type != socket.SOCK_DGRAM  # to connect such a one chooses a route, and sends nothing
    if sends and self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(str(address[0])):
        raise AssertionError(f"a test may not speak to {address[0]}")
    _connect(self, address)


def _is_loopback(host: str) -> bool:
    if host in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """HOME is an empty folder of the session's, so that nothing of the user's is read or written."""
    home: Path = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    left_behind = [name for name in os.environ if name.startswith(OURS)]  # by libraries that an earlier test called
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", *left_behind):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL of this process's; its tests are of one xdist_group, "postgres": it is begun once."""
    from tests.server import begun

    with begun() as one:
        yield one


@pytest.fixture
def shared_database(server: Server) -> str:
    """The address of a database of its own on a real PostgreSQL, with the ledger's tables in it."""
    return server.new()
