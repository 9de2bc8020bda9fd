"""A PostgreSQL server of the tests' own, on loopback, begun once a process that needs it and ended with it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.ledger import open_ledger

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
BEGINS_S = 60.0
# It ends when its standard input does: however the process that began it ends.
GUARD = '"$@" & pid=$!; read -r _; kill -QUIT $pid; wait $pid'
TEMPLATE = "tables"  # a database with all tables in it, of which each test's is a copy

DATABASES = [  # for a fixture's `params`: whether it is a server's
    pytest.param(False, id="sqlite"),
    pytest.param(True, id="postgres", marks=pytest.mark.xdist_group("postgres")),
]


@dataclass
class Server:
    """`url(name)`: the address of one of its databases."""

    port: int
    begin: Callable[[], subprocess.Popen[bytes]]  # its process, on the same data each time
    process: subprocess.Popen[bytes]
    made: int = 0

    def url(self, name: str) -> str:
        """As GPUPLAN_DATABASE_URL has it."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def new(self, template: str = TEMPLATE) -> str:
        """The address of a new database."""
        self.made += 1
        name = f"test{self.made}"
        self.do(f'CREATE DATABASE {name} TEMPLATE "{template}"')
        return self.url(name)

    def do(self, statement: str) -> None:
        """Run a statement as the server's owner."""
        with psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres", autocommit=True) as one:
            one.execute(statement.encode())

    def end(self) -> None:
        """End it as a crash does: nobody is told, and no transaction is waited for."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(30)

    def restart(self) -> None:
        """End it, and have it back with all that was committed."""
        self.end()
        self.process = self.begin()
        await_server(self)


def programs() -> Path | None:
    """Where initdb and postgres lie; None: nowhere."""
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += [place for pattern in PLACES for place in sorted(Path("/").glob(pattern[1:]), reverse=True)]
    return next((place for place in found if (place / "initdb").exists() and (place / "postgres").exists()), None)


@contextlib.contextmanager
def begun() -> Iterator[Server]:
    """The server. It is skipped where there is none, or nobody whom it may run as."""
    if (bin_ := programs()) is None:
        pytest.skip("no PostgreSQL is installed (apt install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="gpuplan-postgres-"))
    try:
        whose = _owner(folder)
        words = [
            str(bin_ / "initdb"),
            "-D",
            str(folder / "data"),
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        subprocess.run(words, **whose, cwd=folder, check=True, capture_output=True, timeout=120)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = [
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={folder}",
            "fsync=off",
            "max_connections=200",
        ]
        words = [str(bin_ / "postgres"), "-D", str(folder / "data"), "-p", str(port)]
        words += [word for setting in settings for word in ("-c", setting)]

        def begin() -> subprocess.Popen[bytes]:
            guarded, pipe = ["sh", "-c", GUARD, "sh", *words], subprocess.PIPE
            with (folder / "log").open("ab") as log:
                return subprocess.Popen(guarded, **whose, cwd=folder, stdin=pipe, stdout=log, stderr=log)

        server = Server(port, begin, begin())
        try:
            await_server(server)
            server.do(f"CREATE DATABASE {TEMPLATE}")
            open_ledger(folder, server.url(TEMPLATE)).close()
            yield server
        finally:
            server.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _owner(folder: Path) -> dict[str, Any]:
    """Who it runs as: not root, whom it refuses; the folder becomes theirs."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            who = pwd.getpwnam(name)
            os.chown(folder, who.pw_uid, who.pw_gid)
            return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL does not run as root, and there is nobody else")


def await_server(server: Server) -> None:
    """Wait until it answers."""
    give_up = time.monotonic() + BEGINS_S
    while True:
        try:
            server.do("SELECT 1")
            return
        except psycopg.OperationalError:
            assert time.monotonic() < give_up, "PostgreSQL does not begin"
            time.sleep(0.05)
