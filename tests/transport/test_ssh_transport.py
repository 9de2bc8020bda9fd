"""The transport against a real OpenSSH server."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import paramiko
import pytest

from orchestrator.transport import keys
from orchestrator.transport.ssh import SshTransport
from orchestrator.words.errors import ConnectionLost, HostKeyChanged, NobodyListens
from orchestrator.words.provider import Address
from orchestrator.words.transport import CommandResult
from tests.transport.sshd import Known, Sshd, private_sshd


@pytest.mark.parametrize(
    ("command", "stdin", "result"),
    [
        ("echo out; echo err >&2; exit 3", b"", CommandResult(3, b"out\n", b"err\n")),
        ("cat", b"\x00\xff\r\n" * 1000, CommandResult(0, b"\x00\xff\r\n" * 1000, b"")),
        ("kill -9 $$", b"", CommandResult(-1, b"", b"")),
        ('cat >/dev/null; printf %s "it\'s \\$HOME"', b"", CommandResult(0, b"it's $HOME", b"")),
    ],
)
def test_run(transport: SshTransport, command: str, stdin: bytes, result: CommandResult):
    """A command's exit code (-1: a signal), both outputs and its input come through byte for byte."""
    assert transport.run(command, stdin=stdin) == result


def test_large_output_and_input(transport: SshTransport):
    """Megabytes in both directions at the same time neither block nor lose anything."""
    body = os.urandom(2_000_000)
    assert transport.run("tee /dev/stderr", stdin=body) == CommandResult(0, body, body)


def test_time_out(transport: SshTransport):
    """A command that takes longer than it may is ConnectionLost, soon, and the connection stays of use."""
    began = time.monotonic()
    with pytest.raises(ConnectionLost, match="no answer"):
        transport.run("echo begun; sleep 30", timeout_s=0.5)
    assert time.monotonic() - began < 25
    assert transport.run("echo on").stdout == b"on\n"


def test_stream(transport: SshTransport):
    """Lines come one by one while the command runs, stderr's too, the last one without newline as well."""
    lines: list[tuple[bytes, float]] = []
    command = "read name; echo a $name; sleep 0.5; echo b >&2; printf c; exit 5"
    code = transport.stream(command, lambda line: lines.append((line, time.monotonic())), stdin=b"x\n")
    assert code == 5
    assert [line for line, _ in lines] == [b"a x", b"b", b"c"]
    assert lines[1][1] - lines[0][1] > 0.3


def test_stream_is_stopped_on_request(transport: SshTransport):
    """When it is told to, a stream returns -1 at once and its channel is closed."""
    stop = threading.Event()
    lines: list[bytes] = []

    def take(line: bytes) -> None:
        lines.append(line)
        stop.set()

    began = time.monotonic()
    assert transport.stream("echo x; sleep 30", take, stop=stop.is_set) == -1
    assert time.monotonic() - began < 25
    assert lines == [b"x"]


def test_silence_ends_a_stream(transport: SshTransport):
    """A stream that says nothing for longer than it may is ConnectionLost."""
    began = time.monotonic()
    with pytest.raises(ConnectionLost, match="no answer"):
        transport.stream("echo x; sleep 30", lambda _: None, silence_s=0.5)
    assert time.monotonic() - began < 25


def test_send(transport: SshTransport, server: Sshd):
    """Chunks become a command's standard input; a command that ends early is not waited for; errors keep their type."""
    target = server.home / "f"
    chunks = [os.urandom(100_000) for _ in range(50)]
    assert transport.send(f"cat > {target}", chunks).exit == 0
    assert target.read_bytes() == b"".join(chunks)

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 100_000

    early = transport.send("head -c 10 >/dev/null; echo full >&2; exit 4", endless())
    assert early == CommandResult(4, b"", b"full\n")

    def broken() -> Iterator[bytes]:
        yield b"x"
        raise ValueError("the source is broken")

    with pytest.raises(ValueError, match="the source is broken"):
        transport.send("cat >/dev/null", broken())


def test_fetch(transport: SshTransport, server: Sshd):
    """A file's bytes come from any offset on; what is no file is FileNotFoundError; awkward names are names."""
    body = os.urandom(3_000_000)
    path = server.home / "it's a $HOME/-rf"
    path.parent.mkdir()
    path.write_bytes(body)
    assert b"".join(transport.fetch(str(path))) == body
    assert b"".join(transport.fetch(str(path), 2_999_990)) == body[-10:]
    assert b"".join(transport.fetch(str(path), 3_000_000)) == b""
    with pytest.raises(FileNotFoundError):
        next(transport.fetch(str(path) + "x"))
    with pytest.raises(FileNotFoundError):
        next(transport.fetch(str(path.parent)))
    half = transport.fetch(str(path))
    next(half)
    assert isinstance(half, Generator)
    half.close()
    assert transport.run("echo on").stdout == b"on\n"


def test_twenty_commands_at_once_keep_within_the_servers_limit(transport: SshTransport, server: Sshd):
    """Twenty commands at the same time run at the same time, on several connections of at most eight channels."""
    results: list[int] = []
    began = time.monotonic()
    wait = f"while [ ! -e {server.home}/go ]; do sleep 0.1; done"
    threads = [threading.Thread(target=lambda: results.append(transport.run(wait).exit)) for _ in range(20)]
    for thread in threads:
        thread.start()
    while sum(b"go ]" in line for line in server.command_lines()) < 20 and time.monotonic() - began < 30:
        time.sleep(0.05)
    assert len(server.sessions()) == 3
    (server.home / "go").touch()
    for thread in threads:
        thread.join()
    assert results == [0] * 20


def test_a_server_that_allows_fewer_channels(tmp_path: Path):
    """Where the server refuses a channel, another connection is made, and what runs on the first goes on."""
    with private_sshd(tmp_path, options=["MaxSessions 2"]) as server:
        transport = SshTransport(server.address, server.key_file, Known())
        results: list[int] = []
        wait = f"while [ ! -e {server.home}/go ]; do sleep 0.1; done"
        threads = [threading.Thread(target=lambda: results.append(transport.run(wait).exit)) for _ in range(5)]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        while sum(b"go ]" in line for line in server.command_lines()) < 5 and time.monotonic() - began < 30:
            time.sleep(0.05)
        (server.home / "go").touch()
        for thread in threads:
            thread.join()
        assert results == [0] * 5
        transport.close()


def test_a_cut_is_noticed_and_the_next_call_reconnects(transport: SshTransport, server: Sshd):
    """A cut ends what runs with ConnectionLost; the next call connects again, as fast as before."""
    assert transport.run("true").exit == 0
    errors: list[Exception] = []

    def wait() -> None:
        try:
            transport.run("sleep 30")
        except ConnectionLost as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.3)
    server.cut()
    thread.join(10)
    assert len(errors) == 1
    assert transport.run("echo on").stdout == b"on\n"
    (link,) = transport._links
    assert link.transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_channel_that_cannot_be_closed_hides_nothing(transport: SshTransport, monkeypatch: pytest.MonkeyPatch):
    """A connection that is gone when its channel is to be closed: what went wrong before is what is said."""

    def gone(_channel: paramiko.Channel) -> None:
        raise EOFError

    with monkeypatch.context() as patched:
        patched.setattr(paramiko.Channel, "close", gone)
        with pytest.raises(ConnectionLost, match="no answer from the machine"):
            transport.run("sleep 5", timeout_s=0.2)


def test_a_connection_that_died_unnoticed_is_replaced(transport: SshTransport, server: Sshd):
    """A cut between two calls costs nothing but the time to connect again."""
    for _ in range(3):
        assert transport.run("echo on").stdout == b"on\n"
        server.cut()


@pytest.mark.parametrize("silent", [True, False], ids=["silent", "sending"])
def test_a_frozen_machine_is_noticed(server: Sshd, *, silent: bool):
    """A peer that freezes with its connection open is ConnectionLost within the limit; the next call connects anew."""
    transport = SshTransport(server.address, server.key_file, Known(), ping_every_s=0.2, ping_limit_s=1.0)
    assert transport.run("true").exit == 0
    frozen = server.sessions()

    def freeze() -> Iterator[bytes]:
        yield b"x"
        time.sleep(0.3)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        yield from (b"x" * 100_000 for _ in range(0 if silent else 1000))

    began = time.monotonic()
    try:
        with pytest.raises(ConnectionLost):
            transport.send("cat >/dev/null; sleep 30", freeze(), timeout_s=60)
        assert time.monotonic() - began < 25
        assert transport.run("echo on").stdout == b"on\n"
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        transport.close()


def test_the_address_is_read_again_before_every_connection(tmp_path: Path):
    """A machine that is somewhere else after a restart is found there, with the same pinned key under its own name."""
    places: list[Address] = []
    asked: list[Address] = []

    def address() -> Address:
        asked.append(places[-1])
        return places[-1]

    with private_sshd(tmp_path / "first") as first:
        places.append(first.address)
        transport = SshTransport(address, first.key_file, Known())
        assert transport.run("echo 1").stdout == b"1\n"
        assert transport.run("echo 1").stdout == b"1\n"
        assert len(asked) == 1
    with private_sshd(tmp_path / "second") as second:
        authorized = second.folder / "authorized_keys"
        authorized.write_text((first.folder / "authorized_keys").read_text())
        places.append(second.address)
        assert transport.run("echo 2").stdout == b"2\n"
        assert asked == [first.address, second.address]
        transport.close()


def test_host_keys_are_pinned_at_first_contact(tmp_path: Path, server: Sshd):
    """The first key seen at an address is kept; the same is accepted later, another one never."""
    known = Known()
    for _ in range(2):
        transport = SshTransport(server.address, server.key_file, known)
        assert transport.run("true").exit == 0
        transport.close()
    host_port = f"{server.address.host}:{server.address.port}"
    public = (server.folder / "host" / "id_ed25519.pub").read_text().split()
    assert known.keys == {host_port: " ".join(public[:2])}
    other = keys.ensure_key_pair(tmp_path / "other")
    known.keys[host_port] = " ".join(other.split()[:2])
    changed = SshTransport(server.address, server.key_file, known)
    with pytest.raises(HostKeyChanged, match=str(server.address.port)):
        changed.run("touch was-here")
    assert not (server.home / "was-here").exists()
    changed.close()


def test_what_cannot_be_reached_is_connection_lost(tmp_path: Path, server: Sshd):
    """A closed port, a key that is not accepted and a server of another kind are ConnectionLost, in their words."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        closed = SshTransport(Address("127.0.0.1", sock.getsockname()[1], "x"), server.key_file, Known())
        with pytest.raises(NobodyListens, match="cannot connect"):
            closed.run("true")
    keys.ensure_key_pair(tmp_path / "other")
    stranger = SshTransport(server.address, keys.key_file(tmp_path / "other"), Known())
    with pytest.raises(ConnectionLost, match="does not accept the key"):
        stranger.run("true")
    with socket.create_server(("127.0.0.1", 0)) as plain:
        threading.Thread(target=_say, args=(plain, b"HTTP/1.1 400 Bad Request\r\n\r\n"), daemon=True).start()
        other = SshTransport(Address("127.0.0.1", plain.getsockname()[1], "x"), server.key_file, Known())
        with pytest.raises(ConnectionLost, match="cannot connect") as raised:
            other.run("true")
    assert not isinstance(raised.value, NobodyListens)


def _say(listener: socket.socket, text: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(text)


def test_nothing_is_printed(server: Sshd):
    """Whatever happens to connections, nothing but the program's own words reaches the terminal."""
    script = f"""
import os, signal, subprocess
from pathlib import Path
from orchestrator.words.errors import ConnectionLost
from orchestrator.words.provider import Address
from orchestrator.transport.ssh import SshTransport
from tests.transport.sshd import Known
for port in (9, {server.address.port}):
    address = Address("127.0.0.1", port, "{server.address.user}")
    transport = SshTransport(address, Path({str(server.key_file)!r}), Known())
    try:
        transport.run("kill -9 $PPID; sleep 5")
    except ConnectionLost as error:
        print("lost")
    transport.close()
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=root, check=False)
    assert (done.stdout, done.stderr) == (b"lost\nlost\n", b"")


def test_close_is_final_and_wakes_who_waits(transport: SshTransport):
    """Close can be called twice, ends what runs, and lets nothing new begin."""
    errors: list[Exception] = []

    def wait() -> None:
        try:
            transport.run("sleep 30")
        except ConnectionLost as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.5)
    transport.close()
    transport.close()
    thread.join(10)
    assert len(errors) == 1
    with pytest.raises(ConnectionLost, match="closed"):
        transport.run("true")


def test_latency(transport: SshTransport, server: Sshd, capsys: pytest.CaptureFixture[str]):
    """Shows what one command on an open connection costs beside OpenSSH's own multiplexing (printed, not judged)."""
    transport.run("true")
    ours = []
    for _ in range(30):
        began = time.perf_counter()
        assert transport.run("true").exit == 0
        ours.append(time.perf_counter() - began)
    control = server.folder / "control"
    ssh = ["ssh", "-F", "none", "-i", str(server.key_file), "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"]
    ssh += ["-o", "UserKnownHostsFile=/dev/null", "-o", f"ControlPath={control}", "-p", str(server.address.port)]
    target = f"{server.address.user}@127.0.0.1"
    subprocess.run([*ssh, "-o", "ControlMaster=yes", "-N", "-f", target], check=True, stderr=subprocess.DEVNULL)
    theirs = []
    for _ in range(10):
        began = time.perf_counter()
        subprocess.run([*ssh, target, "true"], check=True)
        theirs.append(time.perf_counter() - began)
    subprocess.run([*ssh, "-O", "exit", target], check=True, stderr=subprocess.DEVNULL)
    with capsys.disabled():
        medians = [1000 * statistics.median(times) for times in (ours, theirs)]
        print(f"\none command: {medians[0]:.1f} ms; ssh with ControlMaster: {medians[1]:.1f} ms")  # noqa: T201 - a figure for whoever looks at the run
