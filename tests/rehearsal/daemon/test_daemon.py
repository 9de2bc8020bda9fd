"""The rehearsal's daemon as the controller sees it: its start, its end, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.providers import ProviderAccess, open_provider
from orchestrator.rehearsal import client, processes
from orchestrator.rehearsal.client import Rehearsal
from orchestrator.words.errors import GpuplanError, UsageError
from orchestrator.words.provider import MachineSpec
from orchestrator.words.secret import Secret

Begin = Callable[..., Rehearsal]


def wait(condition: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("did not come true in time")
        time.sleep(0.02)


def alive(pid: int) -> bool:
    process = processes.table().get(pid)
    return process is not None and process.state != "Z"


def ports(rehearsal: Rehearsal) -> list[int]:
    facts = rehearsal.facts
    urls = [facts.control, facts.s3.endpoint, facts.gcs, facts.hub]
    return [urllib.parse.urlsplit(url).port or 0 for url in urls]


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def rent(rehearsal: Rehearsal, folder: Path, name: str = "gpuplan-test-1") -> list[str]:
    """Rent a machine as the controller does; return the ssh command for it."""
    folder.mkdir(exist_ok=True)
    key = folder / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    part = rehearsal.facts.clouds["runpod"]
    access = ProviderAccess(api_key=Secret(part.api_key), base_url=part.url, time_scale=0.02)
    provider = open_provider("runpod", access)
    offer = next(o for o in provider.offers(gpus=1, spot=False) if o.gpu == "A100-80GB" and o.available)
    deadline = datetime.now(UTC) + timedelta(hours=1)
    public = key.with_suffix(".pub").read_text()
    machine = provider.create(MachineSpec(name, offer, "runpod/pytorch", 40, ("22/tcp",), public, deadline))
    wait(lambda: (view := provider.machine(machine)) is not None and view.address is not None)
    address = provider.machine(machine).address
    options = ["-F", "none", "-i", str(key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    options += ["-o", "LogLevel=ERROR", "-o", "BatchMode=yes"]
    command = ["ssh", *options, "-p", str(address.port), f"{address.user}@{address.host}"]
    wait(lambda: subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0)
    return command


def test_a_rehearsal_says_where_everything_is(begin: Begin, tmp_path: Path):
    """rehearsal.json is the user's alone, names every address, and each of them answers."""
    rehearsal = begin()
    assert stat.S_IMODE((tmp_path / "rehearsal/rehearsal.json").stat().st_mode) == 0o600
    assert all(is_open(port) for port in ports(rehearsal))
    assert rehearsal.alive() == {"machines": [], "volumes": [], "processes": 0, "breaches": []}
    assert rehearsal.invoice()["total"] == "0"
    assert rehearsal.log() == []
    environment = rehearsal.facts.machine_env
    assert environment["HF_ENDPOINT"] == rehearsal.facts.hub
    assert environment.items() >= rehearsal.facts.git_env.items()


def test_nothing_is_left_after_stop(begin: Begin, tmp_path: Path):
    """After stop there is no process, no port and no rehearsal.json; stopping again is fine."""
    rehearsal = begin()
    ssh = rent(rehearsal, tmp_path)
    job = int(subprocess.check_output([*ssh, "setsid sleep 300 > /dev/null 2>&1 & echo $!"]))
    assert alive(job)
    assert rehearsal.alive()["processes"] >= 1
    rehearsal.stop()
    assert not any(alive(pid) for pid in (job, rehearsal.facts.pid, rehearsal.facts.guard_pid))
    assert not any(is_open(port) for port in [*ports(rehearsal), int(ssh[-2])])
    assert not rehearsal.file.exists()
    assert list((tmp_path / "rehearsal/groups").iterdir()) == []
    rehearsal.stop()


def test_the_guard_ends_everything_when_the_daemon_is_killed(begin: Begin, tmp_path: Path):
    """After kill -9 of the daemon its machines' processes end, detached ones too, and the guard itself."""
    rehearsal = begin()
    ssh = rent(rehearsal, tmp_path)
    script = "(setsid bash -c 'trap \"\" TERM HUP; sleep 300 & wait' > /dev/null 2>&1 & echo $!); sleep 300"
    attached = subprocess.Popen([*ssh, script], stdout=subprocess.PIPE)
    job = int(attached.stdout.readline())
    os.kill(rehearsal.facts.pid, signal.SIGKILL)
    wait(lambda: not alive(job) and not alive(rehearsal.facts.guard_pid))
    assert attached.wait(10) == 255
    attached.stdout.close()
    assert processes.members(processes.marked(tmp_path / "rehearsal/cloud/hosts")) == set()
    assert not any(is_open(port) for port in ports(rehearsal))
    with pytest.raises(GpuplanError, match="does not answer"):
        rehearsal.alive()


def test_a_new_daemon_sweeps_what_an_earlier_one_left(begin: Begin, tmp_path: Path):
    """When daemon, guard and a machine's first process are all killed, the next start in the folder ends the rest."""
    rehearsal = begin()
    ssh = rent(rehearsal, tmp_path)
    job = int(subprocess.check_output([*ssh, "setsid sleep 300 > /dev/null 2>&1 & echo $!"]))
    daemon = rehearsal.facts.pid
    children = [process.pid for process in processes.table().values() if process.parent == daemon]
    assert rehearsal.facts.guard_pid in children
    assert len(children) == 2
    for pid in children:
        os.kill(pid, signal.SIGSTOP)  # each of them would end the job when it sees the daemon die
    for pid in (daemon, *children):
        os.kill(pid, signal.SIGKILL)
    wait(lambda: not alive(rehearsal.facts.guard_pid) and not alive(rehearsal.facts.pid))
    assert alive(job)
    again = begin()
    assert again.facts.pid != rehearsal.facts.pid
    assert not alive(job)


def test_a_guard_that_is_killed_is_replaced(begin: Begin):
    """The daemon starts another guard and says so in its file."""
    rehearsal = begin()
    os.kill(rehearsal.facts.guard_pid, signal.SIGKILL)
    wait(lambda: json.loads(rehearsal.file.read_text())["guard_pid"] != rehearsal.facts.guard_pid)
    attached = client.attach(rehearsal.file)
    assert alive(attached.facts.guard_pid)
    attached.stop()
    assert not alive(attached.facts.guard_pid)


def test_the_daemon_survives_its_controller(tmp_path: Path, begin: Begin):
    """A controller that is killed with its whole group leaves the rehearsal running, and another attaches to it."""
    folder = tmp_path / "rehearsal"
    code = (
        f"import time; from pathlib import Path; from orchestrator.rehearsal import client; "
        f"client.start(Path({str(folder)!r})); print('up', flush=True); time.sleep(60)"
    )
    controller = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True, cwd=Path.cwd()
    )
    assert controller.stdout.readline() == b"up\n"
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()
    controller.stdout.close()
    attached = client.attach(folder / "rehearsal.json")
    assert attached.alive()["machines"] == []
    assert begin().facts.pid == attached.facts.pid


def test_two_starts_at_once_give_one_daemon(tmp_path: Path, begin: Begin):
    """Whoever comes second finds the first one's rehearsal."""
    code = (
        f"from pathlib import Path; from orchestrator.rehearsal import client; "
        f"print(client.start(Path({str(tmp_path / 'rehearsal')!r})).facts.pid)"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    pids = {process.communicate(timeout=60)[0] for process in both}
    assert pids == {f"{begin().facts.pid}\n".encode()}


def test_an_idle_rehearsal_ends_by_itself(begin: Begin):
    """After the idle minutes without a request the daemon and its guard are gone."""
    rehearsal = begin(idle_minutes=0.02)
    wait(lambda: not alive(rehearsal.facts.pid) and not alive(rehearsal.facts.guard_pid))
    with pytest.raises(UsageError, match="no rehearsal is running"):
        client.attach(rehearsal.file)


def test_a_running_job_keeps_a_rehearsal_alive(begin: Begin, tmp_path: Path):
    """A machine with a running job is not idle; when the job has ended it is."""
    rehearsal = begin(idle_minutes=0.03)
    ssh = rent(rehearsal, tmp_path)
    subprocess.run([*ssh, "setsid sleep 5 > /dev/null 2>&1 &"], check=True)
    time.sleep(3.5)
    assert alive(rehearsal.facts.pid)
    wait(lambda: not alive(rehearsal.facts.pid))


def test_faults_are_armed_by_name_and_argument(begin: Begin):
    """NAME and NAME@ARG reach the switchboard; a wrong one is refused and nothing starts."""
    rehearsal = begin(faults=["create-reply-lost", "preempt@convert-intellect3", "hub-429@2"])
    armed = {(fault["name"], fault["arg"]): fault["left"] for fault in rehearsal.faults()}
    assert armed == {("create-reply-lost", None): 1, ("preempt", "convert-intellect3"): 1, ("hub-429", None): 2}
    with pytest.raises(UsageError, match="there is no fault flood"):
        rehearsal.arm("flood")
    with pytest.raises(UsageError, match="preempt@STEP"):
        begin("other", faults=["preempt"])
    assert not (rehearsal.file.parent.parent / "other/rehearsal.json").exists()


def test_the_control_page_asks_for_its_key(begin: Begin):
    """Without the key nothing is shown and nothing ends."""
    rehearsal = begin()
    for answer in (
        httpx.get(f"{rehearsal.facts.control}/alive"),
        httpx.post(f"{rehearsal.facts.control}/stop", json={}, headers={"X-Rehearsal-Key": "other"}),
    ):
        assert answer.status_code == 403
    assert rehearsal.alive()["machines"] == []


def test_no_web_page_is_served(begin: Begin):
    """A page in the user's browser, which says where it comes from, gets nothing of hub, store or control."""
    facts = begin().facts
    for place in (facts.gcs, facts.hub, facts.control):
        assert httpx.get(f"{place}/storage/v1/b/x", headers={"Origin": "https://elsewhere"}).status_code == 403
    assert httpx.get(f"{facts.gcs}/storage/v1/b/x").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("step", {"step": "s", "state": "over", "machine": "m"}, "started or ended"),
        ("step", {"state": "started"}, "lacks 'step'"),
        ("fault", {}, "lacks 'name'"),
    ],
)
def test_wrong_bodies_are_refused_in_words(begin: Begin, path: str, body: dict[str, Any], words: str):
    """A body that lacks something or says something unknown is 400 with the reason."""
    rehearsal = begin()
    headers = {"X-Rehearsal-Key": rehearsal.facts.control_key}
    answer = httpx.post(f"{rehearsal.facts.control}/{path}", json=body, headers=headers)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_a_daemon_that_cannot_start_says_why(tmp_path: Path):
    """A folder that cannot be written to is an error that names the log."""
    (tmp_path / "daemon.lock").mkdir()
    with pytest.raises(GpuplanError, match=r"did not start.*daemon\.lock"):
        client.start(tmp_path)


def test_machines_have_hub_git_gpus_and_pip(begin: Begin, tmp_path: Path):
    """On a rented machine the plan's clone, download, pip and nvidia-smi work as written, with nothing installed."""
    rehearsal = begin("it's a folder")
    ssh = rent(rehearsal, tmp_path)
    script = """
        git clone -q https://github.com/b4rtaz/distributed-llama.git && ls distributed-llama/converter
        pip install safetensors huggingface_hub
        hf download zai-org/GLM-4.5-Air-Base --local-dir GLM-4.5-Air-Base > /dev/null
        ls GLM-4.5-Air-Base/*.safetensors | wc -l
        nvidia-smi --query-gpu=name --format=csv,noheader
        python -c 'import aiohttp, os; print(os.path.expanduser("~") == os.environ["HOME"])'
    """
    done = subprocess.run([*ssh, f"set -e; {script}"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "README.md" in lines
    assert sum("Requirement already satisfied" in line for line in lines) == 2
    assert lines[-3:] == ["4", "NVIDIA A100 80GB PCIe", "True"]


def test_machines_share_what_they_compile(begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine finds a copy of the user's compiled code and what one before it compiled; the user's stays as it is."""
    users = tmp_path / "users"
    users.mkdir()
    (users / "before").write_text("compiled at home")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(users))
    rehearsal = begin()
    for number, script in enumerate(('cat "$NUMBA_CACHE_DIR/before"; echo new > "$NUMBA_CACHE_DIR/after"', "true")):
        ssh = rent(rehearsal, tmp_path / str(number), f"gpuplan-test-{number}")
        subprocess.run([*ssh, f"set -e; {script}"], check=True, capture_output=True)
    assert subprocess.run([*ssh, 'cat "$NUMBA_CACHE_DIR/after"'], check=True, capture_output=True).stdout == b"new\n"
    assert [file.name for file in users.iterdir()] == ["before"]


@pytest.mark.parametrize(
    ("fault", "works"), [("cuda-never", [1, 0]), ("cuda-missing@0", [1, 0]), ("cuda-late@1", [0, 0])]
)
def test_faults_of_cuda_reach_the_next_machine(begin: Begin, tmp_path: Path, fault: str, works: list[int]):
    """The next GPU machine fails its CUDA calls for ever or for some cloud-seconds; the one after it is well."""
    rehearsal = begin(faults=[fault])
    for number, code in enumerate(works):
        ssh = rent(rehearsal, tmp_path / str(number), f"gpuplan-test-{number}")
        time.sleep(0.05)  # a cloud-second is 20 ms here
        assert subprocess.run([*ssh, "cuda-probe 0"], check=False, capture_output=True).returncode == code
        assert subprocess.run([*ssh, "nvidia-smi -L"], check=True, capture_output=True).stdout.count(b"GPU 0") == 1
    assert [(armed["left"], armed["fired"]) for armed in rehearsal.faults()] == [(0, 1)]


def test_a_stopped_rehearsal_keeps_its_stores(begin: Begin, tmp_path: Path):
    """Objects of the S3 are there again when the same folder is rehearsed in once more."""
    import boto3
    from botocore.config import Config

    for body in (b"first", None):
        s3 = begin().facts.s3
        store = boto3.client(
            "s3", endpoint_url=s3.endpoint, aws_access_key_id=s3.access_key,
            aws_secret_access_key=s3.secret_key, region_name=s3.region,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )  # fmt: skip
        if body:
            store.put_object(Bucket=s3.bucket, Key="run/a b.m", Body=body, Metadata={"sha256": "x"})
            client.attach(tmp_path / "rehearsal/rehearsal.json").stop()
    found = store.get_object(Bucket=s3.bucket, Key="run/a b.m", ChecksumMode="ENABLED")
    assert (found["Body"].read(), found["Metadata"]) == (b"first", {"sha256": "x"})
