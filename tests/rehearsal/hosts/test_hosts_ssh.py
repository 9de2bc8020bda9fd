"""Emulated machines against the OpenSSH client, scp, rsync, tmux and paramiko."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from pathlib import Path

import paramiko
import pytest

from orchestrator.rehearsal.hosts import Host
from tests.rehearsal.hosts.ssh_machines import Cloud


def connect(cloud: Cloud, host: Host) -> paramiko.SSHClient:
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(
        host.host, host.port, host.spec.user, key_filename=str(cloud.key), look_for_keys=False, allow_agent=False,
        timeout=10, banner_timeout=10,
    )  # fmt: skip
    return client


def test_a_command_has_its_own_output_error_input_and_exit_code(cloud: Cloud):
    """stdout, stderr, stdin and the exit code all arrive as the command made them."""
    host = cloud.boot()
    done = cloud.ssh(host, "cat; echo wrong >&2; exit 7", input=b"given\n")
    assert (done.stdout, done.stderr, done.returncode) == (b"given\n", b"wrong\n", 7)


def test_nothing_of_the_users_environment_reaches_a_machine(cloud: Cloud):
    """HOME, WORKSPACE and PATH are the machine's; credentials of the user are not there."""
    host = cloud.boot(env={"RUNPOD_POD_ID": "m1"})
    lines = cloud.ssh(host, "env; pwd").stdout.decode().splitlines()
    env = dict(line.split("=", 1) for line in lines if "=" in line)
    assert env["HOME"] == str(host.home)
    assert env["WORKSPACE"] == lines[-1] == str(host.workspace)
    assert env["RUNPOD_POD_ID"] == "m1"
    assert env["HF_ENDPOINT"] == "http://127.0.0.1:1"
    assert not {"AWS_SECRET_ACCESS_KEY", "HF_TOKEN"} & set(env)
    assert "of the user" not in "".join(lines)


@pytest.mark.parametrize("how", ["user", "key", "password"])
def test_only_the_machines_user_with_the_machines_key_gets_in(cloud: Cloud, tmp_path: Path, how: str):
    """Another user name, another key, and a password are refused."""
    host = cloud.boot(user="ubuntu")
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    command = cloud.ssh_command(host, "true", user="root" if how == "user" else "ubuntu")
    if how == "key":
        command[command.index("-i") + 1] = str(other)
    if how == "password":
        command[1:1] = ["-o", "PreferredAuthentications=password,keyboard-interactive"]
    refused = subprocess.run(command, capture_output=True, check=False, timeout=30)
    assert refused.returncode == 255
    assert b"Permission denied" in refused.stderr
    assert cloud.ssh(host, "true").returncode == 0


def test_large_output_arrives_whole(cloud: Cloud):
    """40 MB through a channel arrive byte for byte, six at the same time."""
    host = cloud.boot()
    command = "head -c 40000000 /dev/zero | tr '\\0' x; echo end >&2; exit 3"
    running = [
        subprocess.Popen(cloud.ssh_command(host, command), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in running:
        out, err = process.communicate(timeout=60)
        assert (len(out), set(out), err, process.returncode) == (40_000_000, {ord("x")}, b"end\n", 3)


def test_input_arrives_whole_whatever_its_pieces_are(cloud: Cloud):
    """The end of a command's input is never lost, though it comes while earlier pieces are still being read."""
    client = connect(cloud, cloud.boot())
    for _ in range(30):
        channel = client.get_transport().open_session()
        channel.exec_command("wc -c")
        channel.sendall(b"x" * 700_000)
        channel.shutdown_write()
        assert int(channel.makefile("rb").read()) == 700_000
        channel.close()


def test_a_command_killed_by_a_signal_is_reported_as_such(cloud: Cloud):
    """The client learns that a signal ended the command (ssh then says 255)."""
    host = cloud.boot()
    client = connect(cloud, host)
    channel = client.get_transport().open_session()
    channel.exec_command("kill -9 $$")
    assert channel.recv_exit_status() == -1
    client.close()


def test_ten_sessions_run_at_once_and_the_eleventh_is_refused(cloud: Cloud):
    """A connection carries sshd's ten sessions; closing one makes room."""
    host = cloud.boot()
    client = connect(cloud, host)
    transport = client.get_transport()
    channels = [transport.open_session(timeout=10) for _ in range(10)]
    with pytest.raises(paramiko.ChannelException):
        transport.open_session(timeout=10)
    channels[0].exec_command("exit 4")
    assert channels[0].recv_exit_status() == 4
    channels[0].close()
    for _ in range(100):
        try:
            transport.open_session(timeout=10)
            break
        except paramiko.ChannelException:
            time.sleep(0.02)
    else:
        pytest.fail("no session after one was closed")
    client.close()


def test_port_forwarding_is_refused(cloud: Cloud):
    """A direct channel to another port is refused: a machine is no way into this computer."""
    host = cloud.boot()
    client = connect(cloud, host)
    with pytest.raises(paramiko.ChannelException):
        client.get_transport().open_channel("direct-tcpip", ("127.0.0.1", host.port), ("127.0.0.1", 0), timeout=10)
    client.close()


def test_control_master_shares_one_connection(cloud: Cloud, tmp_path: Path):
    """OpenSSH with ControlMaster runs commands over one connection."""
    host = cloud.boot()
    master = ["-o", "ControlMaster=auto", "-o", f"ControlPath={tmp_path}/c", "-o", "ControlPersist=20"]
    assert cloud.ssh(host, "echo 1", *master).stdout == b"1\n"
    assert cloud.ssh(host, "echo 2", *master).stdout == b"2\n"
    assert cloud.hosts.connections == 1
    cloud.ssh(host, "true", *master, "-O", "exit")


def test_scp_and_sftp_mean_the_workspace(cloud: Cloud, tmp_path: Path):
    """Relative paths and /workspace are the machine's workspace, and scp ends with exit code 0."""
    host = cloud.boot()
    source = tmp_path / "model.m"
    source.write_bytes(os.urandom(3_000_000))
    target = f"root@{host.host}:"
    copy = ["scp", *cloud.options(), "-P", str(host.port)]
    for path in ("relative.m", "/workspace/mounted.m", str(host.workspace / "absolute.m")):
        subprocess.run([*copy, source, target + path], check=True, timeout=30)
    digests = {hashlib.sha256(file.read_bytes()).hexdigest() for file in host.workspace.glob("*.m")}
    assert {file.name for file in host.workspace.iterdir()} == {"relative.m", "mounted.m", "absolute.m"}
    assert digests == {hashlib.sha256(source.read_bytes()).hexdigest()}
    client = connect(cloud, host)
    sftp = client.open_sftp()
    assert sorted(sftp.listdir("/workspace")) == sorted(sftp.listdir("."))
    sftp.close()
    client.close()


def test_rsync_copies_there_and_back(cloud: Cloud, tmp_path: Path):
    """A tree goes with rsync over ssh, there and back."""
    host = cloud.boot()
    (tmp_path / "tree/a b").mkdir(parents=True)
    (tmp_path / "tree/a b/c'd").write_text("x" * 100_000)
    shell = " ".join(["ssh", *cloud.options(), "-p", str(host.port)])
    push = ["rsync", "-a", "-e", shell, f"{tmp_path}/tree/", f"root@{host.host}:there/"]
    pull = ["rsync", "-a", "-e", shell, f"root@{host.host}:there/", f"{tmp_path}/back/"]
    for command in (push, pull):
        subprocess.run(command, check=True, timeout=30)
    assert (tmp_path / "back/a b/c'd").read_text() == "x" * 100_000


def test_a_terminal_has_size_job_control_and_hangs_up(cloud: Cloud):
    """A command on a PTY sees the client's window, and SIGHUP when the client goes."""
    host = cloud.boot()
    client = connect(cloud, host)
    channel = client.get_transport().open_session()
    channel.get_pty("xterm-256color", 132, 43)
    channel.exec_command(
        "trap 'echo hung > up; exit' HUP; trap 'stty size' WINCH; tty; echo $TERM; stty size; "
        "echo end; while :; do sleep 0.05; done"
    )
    text = b""
    while b"end" not in text:
        text += channel.recv(1000)
    assert text.split()[1:] == [b"xterm-256color", b"43", b"132", b"end"]
    assert text.startswith((b"/dev/pts/", b"/dev/tty"))
    channel.resize_pty(80, 24)
    text = b""
    while b"\n" not in text:
        text += channel.recv(1000)
    assert text.split() == [b"24", b"80"]
    client.close()
    deadline = time.monotonic() + 10
    while not (host.workspace / "up").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (host.workspace / "up").read_text() == "hung\n"


def test_ctrl_c_reaches_a_program_on_a_terminal(cloud: Cloud):
    """What is typed reaches the program, Ctrl-C as SIGINT, and the exit code comes back."""
    host = cloud.boot()
    client = connect(cloud, host)
    channel = client.get_transport().open_session()
    channel.get_pty()
    channel.exec_command("trap 'exit 42' INT; read line; echo got $line; while :; do sleep 0.05; done")
    channel.send(b"hello\n")
    text = b""
    while b"got hello" not in text:
        text += channel.recv(1000)
    channel.send(b"\x03")
    assert channel.recv_exit_status() == 42
    client.close()


def test_an_interactive_login_finds_the_stand_ins(cloud: Cloud):
    """A login shell, which reads the system's profile, still has the stand-ins first in its PATH."""
    host = cloud.boot()
    client = connect(cloud, host)
    channel = client.get_transport().open_session()
    channel.get_pty()
    channel.invoke_shell()
    channel.send(b"command -v nvidia-smi; exit 5\n")
    text = b""
    while chunk := channel.recv(1000):
        text += chunk
    assert str(cloud.hosts.folder / "bin/nvidia-smi").encode() in text
    assert channel.recv_exit_status() == 5
    client.close()


def test_each_boot_has_a_host_key_of_its_own(cloud: Cloud):
    """Two machines, and one machine before and after a restart, never share a host key."""
    keys = set()
    for host_id in ("m1", "m2", "m1"):
        if host_id in cloud.hosts.running:
            cloud.run(cloud.hosts.end(host_id, keep_disk=True))
        client = connect(cloud, cloud.boot(host_id))
        keys.add(client.get_transport().get_remote_server_key().get_base64())
        client.close()
    assert len(keys) == 3


def test_commands_are_quick_on_an_open_connection(cloud: Cloud):
    """A short command on an open connection need not take the 40 milliseconds that a Nagle delay always costs."""
    host = cloud.boot()
    client = connect(cloud, host)
    transport = client.get_transport()
    transport.sock.setsockopt(6, 1, 1)
    quickest = float("inf")
    for _ in range(500):  # a busy computer delays many, and not each
        began = time.perf_counter()
        channel = transport.open_session()
        channel.exec_command("true")
        assert channel.recv_exit_status() == 0
        quickest = min(quickest, time.perf_counter() - began)
        if quickest < 0.035:
            break
    client.close()
    assert quickest < 0.035
