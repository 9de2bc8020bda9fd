"""The clouds and the emulated SSH machines together: what is rented can be logged into, and is dead when it is gone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import paramiko
import pytest

from orchestrator.rehearsal.clouds.clock import CloudClock
from orchestrator.rehearsal.hosts import Hosts
from tests.rehearsal.clouds.clouds_support import Server

SCALE = 0.004


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path, Hosts(tmp_path), CloudClock(SCALE))
    server.start()
    assert server.ready.wait(10)
    yield server
    server.stop()
    assert server.state.breaches() == []


@pytest.fixture
def key(tmp_path: Path) -> tuple[str, Path]:
    made = asyncssh.generate_private_key("ssh-ed25519")
    path = tmp_path / "key"
    made.write_private_key(path)
    return made.export_public_key().decode().strip(), path


def client(server: Server, vendor: str, base: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {server.state.api_keys()[vendor]}"}
    return httpx.Client(base_url=f"http://127.0.0.1:{server.port}{base}", headers=headers, timeout=30, verify=False)


def wait(ask: Callable[[], Any]) -> Any:
    for _ in range(400):
        if found := ask():
            return found
        time.sleep(0.02)
    raise AssertionError("it never came true")


def direct_way(api: httpx.Client, path: str) -> Any:
    """How a pod is reached by SSH on its own port; None: not yet."""
    return (api.get(path).json().get("ssh") or {}).get("direct")


def run(user: str, host: str, port: int, key: Path, command: str) -> str:
    with paramiko.SSHClient() as ssh:
        ssh.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        ssh.connect(host, port, user, key_filename=str(key), look_for_keys=False, allow_agent=False, timeout=10)
        return ssh.exec_command(command)[1].read().decode().strip()


def test_a_pod_is_a_machine_until_it_is_deleted(server: Server, key: tuple[str, Path]) -> None:
    """What is written to the volume on one pod is there on the next; a deleted pod's port is closed."""
    api = client(server, "runpod", "/v2")
    volume = api.post("/network-volumes", json={"name": "glm", "size": 10, "dataCenter": "EU-RO-1"}).json()["id"]
    body = {
        "name": "gpuplan-a",
        "image": "i",
        "gpu": {"id": "NVIDIA A100 80GB PCIe", "count": 2},
        "ports": ["22/tcp"],
        "env": {"PUBLIC_KEY": key[0]},
        "mounts": {"network": [{"volumeId": volume, "path": "/workspace"}]},
    }
    for command, answer in (("echo kept > $WORKSPACE/f; nvidia-smi -L | wc -l", "2"), ("cat $WORKSPACE/f", "kept")):
        pod_id = api.post("/pods", json=body).json()["id"]
        path = f"/pods/{pod_id}"
        direct = wait(partial(direct_way, api, path))
        assert run(direct["username"], direct["host"], direct["port"], key[1], command) == answer
        assert api.delete(path).status_code == 204
        with pytest.raises(paramiko.ssh_exception.NoValidConnectionsError):
            run("root", direct["host"], direct["port"], key[1], "true")
    assert api.delete(f"/network-volumes/{volume}").status_code == 204
    assert not list((server.folder / "volumes").iterdir())
    assert not list((server.folder / "hosts").iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="loopback has one address only")
def test_lambda_instances_are_told_apart_by_address(server: Server, key: tuple[str, Path]) -> None:
    """Two instances answer at one port and two addresses, as ubuntu."""
    api = client(server, "lambda", "/api/v1")
    pause = 2 * SCALE

    def ask(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        time.sleep(13 * SCALE if path.endswith("launch") else pause)
        reply = api.request(method, path, json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()["data"]

    ask("POST", "/ssh-keys", {"name": "k", "public_key": key[0]})
    launch = {"region_name": "us-east-1", "instance_type_name": "gpu_1x_a10", "ssh_key_names": ["k"]}
    ids = [ask("POST", "/instance-operations/launch", launch)["instance_ids"][0] for _ in range(2)]
    wait(lambda: all(instance["status"] == "active" for instance in ask("GET", "/instances")))
    addresses = [instance["ip"] for instance in ask("GET", "/instances")]
    port = server.state.ssh_port
    assert [run("ubuntu", ip, port, key[1], "whoami >/dev/null; echo $USER") for ip in addresses] == ["ubuntu"] * 2
    ask("POST", "/instance-operations/terminate", {"instance_ids": ids})
    wait(lambda: ask("GET", "/instances") == [])
    with pytest.raises(paramiko.ssh_exception.NoValidConnectionsError):
        run("ubuntu", addresses[0], port, key[1], "true")
