"""What happens to processes, connections, disks and volumes when machines come and go."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.rehearsal import processes
from tests.rehearsal.hosts.ssh_machines import Cloud


def alive(pid: int) -> bool:
    process = processes.table().get(pid)
    return process is not None and process.state != "Z"


def wait(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("did not come true in time")
        time.sleep(0.01)


STUBBORN = """
setsid bash -c 'trap "" TERM HUP; echo $$ > a; sleep 300 & wait' < /dev/null > /dev/null 2>&1 &
(setsid bash -c 'echo $$ > b; exec sleep 300' < /dev/null > /dev/null 2>&1 &)
env -i setsid sleep 300 < /dev/null > /dev/null 2>&1 & echo $! > c
until [ -s a ] && [ -s b ] && [ -s c ]; do sleep 0.01; done
"""


def test_the_end_of_a_machine_ends_detached_processes(cloud: Cloud):
    """Sessions of their own, double forks, no environment, on a volume that another machine mounts: all are killed."""
    cloud.run(cloud.hosts.create_volume("v"))
    host, other = cloud.boot(volume="v"), cloud.boot("m2", volume="v")
    assert cloud.ssh(host, STUBBORN).returncode == 0
    bystander = subprocess.Popen(cloud.ssh_command(other, "echo up; sleep 30"), stdout=subprocess.PIPE)
    assert bystander.stdout.readline() == b"up\n"
    pids = [int((host.workspace / name).read_text()) for name in "abc"]
    assert all(alive(pid) for pid in pids)
    cloud.run(cloud.hosts.end("m1"))
    assert not any(alive(pid) for pid in pids)
    assert not host.folder.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host.host, host.port), 5)
    assert bystander.poll() is None
    assert cloud.ssh(other, "echo $PPID").returncode == 0
    cloud.run(cloud.hosts.end("m2"))
    assert bystander.wait(10) != 0
    bystander.stdout.close()
    assert list((cloud.hosts.folder / "groups").iterdir()) == []


def test_jobs_of_the_agents_files_end_with_the_machine(cloud: Cloud):
    """A job that only the agent's pid file names is killed; one that has ended, or of an earlier boot, is not."""
    host = cloud.boot()
    jobs = host.home / ".gpuplan/jobs"
    sleepers = [subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(3)]
    for name, process in zip(("runs", "ended", "old"), sleepers, strict=True):
        (jobs / name).mkdir(parents=True)
        (jobs / name / "pid").write_text(f"{process.pid}\n")
    (jobs / "ended/exit.json").write_text("{}")
    os.utime(jobs / "old/pid", (1, 1))
    cloud.run(cloud.hosts.end("m1"))
    assert sleepers[0].wait(10) == -signal.SIGKILL
    assert [process.poll() for process in sleepers[1:]] == [None, None]
    for process in sleepers[1:]:
        process.kill()
        process.wait()


def test_a_cut_ends_connections_and_nothing_else(cloud: Cloud):
    """Connections drop, what was detached runs on, and the next connection works."""
    host = cloud.boot()
    watching = subprocess.Popen(
        cloud.ssh_command(host, "setsid sleep 60 > /dev/null & echo $!; sleep 60"), stdout=subprocess.PIPE
    )
    job = int(watching.stdout.readline())
    cloud.run(cloud.hosts.cut("m1"))
    assert watching.wait(10) == 255
    watching.stdout.close()
    assert alive(job)
    assert cloud.ssh(host, "echo back").stdout == b"back\n"


def test_a_command_whose_client_is_gone_dies_at_its_next_write(cloud: Cloud):
    """As under sshd: writing into a closed channel is SIGPIPE, and its group is forgotten then."""
    host = cloud.boot()
    client = subprocess.Popen(
        cloud.ssh_command(host, "echo $$; while echo x; do sleep 0.02; done"), stdout=subprocess.PIPE
    )
    pid = int(client.stdout.readline())
    assert (cloud.hosts.folder / f"groups/{pid}").exists()
    client.kill()
    client.wait()
    client.stdout.close()
    wait(lambda: not alive(pid))
    wait(lambda: not (cloud.hosts.folder / f"groups/{pid}").exists())


def test_a_stopped_machine_keeps_its_disk_and_comes_back(cloud: Cloud):
    """keep_disk keeps home and workspace for the next boot of the same id; the boot is a new one."""
    host = cloud.boot()
    first = cloud.ssh(host, "echo kept > file; echo $GPUPLAN_BOOT_ID").stdout
    cloud.run(cloud.hosts.end("m1", keep_disk=True))
    assert cloud.hosts.running == {}
    host = cloud.boot()
    second = cloud.ssh(host, "cat file; echo $GPUPLAN_BOOT_ID").stdout.split(b"\n", 1)
    assert second[0] == b"kept"
    assert second[1] != first


def test_a_volume_is_one_folder_in_all_machines_that_mount_it(cloud: Cloud):
    """What one machine writes the other reads, under the same path; it outlives the machines."""
    cloud.run(cloud.hosts.create_volume("glm"))
    one, two = cloud.boot("m1", volume="glm"), cloud.boot("m2", volume="glm", user="ubuntu")
    cloud.ssh(one, "echo shared > file")
    assert cloud.ssh(two, "cat $WORKSPACE/file").stdout == b"shared\n"
    assert one.workspace == two.workspace
    assert (one.folder / "workspace").resolve() == one.workspace
    with pytest.raises(ValueError, match="mounted by gpuplan-m1, gpuplan-m2"):
        cloud.run(cloud.hosts.destroy_volume("glm"))
    for host_id in ("m1", "m2"):
        cloud.run(cloud.hosts.end(host_id))
    assert (one.workspace / "file").read_text() == "shared\n"
    for _ in range(2):
        cloud.run(cloud.hosts.destroy_volume("glm"))
    assert not one.workspace.exists()


def test_what_cannot_be_is_refused_in_words(cloud: Cloud):
    """A missing volume, a taken name, a name with a slash, a second boot: ValueError that says which."""
    cloud.run(cloud.hosts.create_volume("v"))
    cloud.boot()
    for what, words in (
        (cloud.hosts.boot(cloud.spec()), "m1 is running"),
        (cloud.hosts.boot(cloud.spec("m2", volume="w")), "no volume w"),
        (cloud.hosts.boot(cloud.spec("../m2")), "cannot be the name"),
        (cloud.hosts.create_volume("v"), "a volume v already"),
        (cloud.hosts.create_volume("a/b"), "cannot be the name"),
    ):
        with pytest.raises(ValueError, match=words):
            cloud.run(what)


def test_an_address_can_be_asked_for(cloud: Cloud):
    """A port that is given is the machine's, as for a cloud whose machines all answer on one port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host = cloud.boot(address=f"127.0.0.1:{port}")
    assert (host.host, host.port) == ("127.0.0.1", port)
    assert cloud.ssh(host, "echo here").stdout == b"here\n"


def test_an_address_in_use_is_refused_and_leaves_nothing(cloud: Cloud):
    """A port that somebody else has is a ValueError, and no process is left of the machine."""
    host = cloud.boot()
    before = processes.members(lambda process: process.parent == os.getpid())
    with pytest.raises(ValueError, match="cannot be listened on"):
        cloud.boot("m2", address=f"127.0.0.1:{host.port}")
    assert processes.members(lambda process: process.parent == os.getpid()) == before
    assert list(cloud.hosts.running) == ["m1"]


def test_a_machine_whose_first_process_is_killed_runs_nothing(cloud: Cloud):
    """Its commands are reported as killed, new ones cannot be started, and it can be ended and booted again."""
    host = cloud.boot()
    running = subprocess.Popen(cloud.ssh_command(host, "echo $PPID; sleep 60"), stdout=subprocess.PIPE)
    os.kill(int(running.stdout.readline()), signal.SIGKILL)
    assert running.wait(10) == 255
    running.stdout.close()
    refused = cloud.ssh(host, "true")
    assert refused.returncode != 0
    cloud.run(cloud.hosts.end("m1"))
    assert cloud.ssh(cloud.boot(), "echo up").stdout == b"up\n"


def test_a_bad_key_lets_nobody_in_and_stops_nothing(cloud: Cloud):
    """A line that is no key is passed over; the key on the next line works."""
    host = cloud.boot(public_key="not a key\n" + cloud.spec().public_key)
    assert cloud.ssh(host, "true").returncode == 0


def test_tmux_outlives_its_connection_and_ends_with_the_machine(cloud: Cloud):
    """A tmux session keeps running detached, can be looked at again, and dies with the machine."""
    host = cloud.boot()
    if len(str(host.folder / "tmp/tmux-65534/default")) > 100:
        pytest.skip("the folder's name is too long for a socket")
    started = cloud.ssh(host, "tmux new-session -d -s live 'echo $$ > pid; sleep 300'")
    assert started.returncode == 0, started.stderr
    wait(lambda: Path(host.workspace / "pid").exists() and (host.workspace / "pid").read_text())
    assert b"live" in cloud.ssh(host, "tmux list-sessions").stdout
    pid = int((host.workspace / "pid").read_text())
    cloud.run(cloud.hosts.end("m1"))
    assert not alive(pid)


def test_many_commands_leave_no_open_files(cloud: Cloud):
    """After fifty commands over fifty connections as many files are open as before."""
    host = cloud.boot()

    def open_files() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    cloud.ssh(host, "true")
    wait(lambda: cloud.hosts.connections == 0)
    before = open_files()
    for _ in range(50):
        cloud.ssh(host, "echo out; echo err >&2", input=b"in")
    wait(lambda: cloud.hosts.connections == 0)
    wait(lambda: open_files() <= before)
