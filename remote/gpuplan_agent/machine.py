"""What the machine is, whether its GPUs work, and making it ready."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from typing import Any

from gpuplan_agent import locks
from gpuplan_agent.places import home, machine_env, search_path, workspace
from gpuplan_agent.processes import boot_id, role_command
from gpuplan_agent.requirements import asks_for
from gpuplan_agent.sampling import disk_free_mib
from gpuplan_agent.wire import AgentError, alive, emit

QUERY_S = 30.0
PROBE_S = 90.0  # the first CUDA call after a boot can take half a minute
BOOTSTRAP_S = 900.0
NO_GPU = 3  # exit code of a probe that finds no such device; any other: it is there and fails


def op_hello(request: dict[str, Any]) -> dict[str, Any]:
    """Say what this machine is."""
    import getpass

    folder = workspace(request)
    return {
        "agent": os.path.basename(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
        "workspace": folder,
        "python": ".".join(map(str, sys.version_info[:3])),
        "boot_id": boot_id(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_mib": _memory_mib(),
        "disk_free_mib": disk_free_mib(folder),
        "gpus": _gpus(),
        "user": getpass.getuser(),
        "time": time.time(),
    }


def _memory_mib() -> int:
    """The memory that we may use: the machine's, or less where a container is limited to less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as file:
                total = min(total, int(file.read()))
        except (OSError, ValueError):  # no control group, or "max"
            continue
    return total >> 20


def _gpus() -> list[dict[str, Any]]:
    query = ["--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits"]
    tool = shutil.which("nvidia-smi", path=search_path())
    if tool is None:
        return []
    try:
        listing = subprocess.run([tool, *query], stdout=subprocess.PIPE, timeout=QUERY_S, check=True).stdout.decode()
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in listing.splitlines()]
    good = [row for row in rows if len(row) == 3 and row[0].isdigit() and row[2].isdigit()]
    return [{"index": int(index), "name": name, "memory_mib": int(memory)} for index, name, memory in good]


def op_probe(request: dict[str, Any]) -> dict[str, Any]:
    """Make a real CUDA call on each of the first `gpus` GPUs. That the driver lists them says little."""
    tool = shutil.which("cuda-probe", path=search_path())
    for index in range(int(request["gpus"])):
        alive()
        try:
            done = subprocess.run(
                [*([tool] if tool else role_command("cuda")), str(index)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=PROBE_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise AgentError("gpu_fault", f"GPU {index}: no CUDA call returned in {PROBE_S:.0f} s") from error
        if done.returncode:
            said = done.stdout.decode("utf-8", "replace").strip() or f"the probe ended with {done.returncode}"
            missing = done.returncode == NO_GPU or index >= len(_gpus())
            raise AgentError("no_gpu" if missing else "gpu_fault", f"GPU {index}: {said}")
    return {"gpus": int(request["gpus"])}


def op_bootstrap(request: dict[str, Any]) -> dict[str, Any]:
    """Run bootstrap.sh, which makes ~/.gpuplan/venv with the given requirements; what it prints is streamed.

    Where they name torch, it is then tried on the first `gpus` cards: refused as `torch` where it does not compute.
    """
    with locks.locked(os.path.join(home(), "bootstrap.lock")):
        _bootstrap(request)
        if request.get("gpus") and asks_for("torch", request["requirements"]):
            _try_torch(int(request["gpus"]))
    return {"venv": os.path.join(home(), "venv")}


def _bootstrap(request: dict[str, Any]) -> None:
    script = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bootstrap.sh")
    env = {**machine_env(), "WORKSPACE": workspace(request)}
    run = subprocess.Popen(
        ["bash", script, *request["requirements"]],
        env=env,
        cwd=home(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    killer = threading.Timer(BOOTSTRAP_S, run.kill)
    killer.start()
    last = ""
    assert run.stdout is not None
    for line in run.stdout:
        last = line.decode("utf-8", "replace")
        emit({"log": last})
    code = run.wait()
    killer.cancel()
    if code:
        raise AgentError("bootstrap", f"bootstrap.sh ended with {code}: {last.strip()}")


def _try_torch(gpus: int) -> None:
    """Compute on each card with the torch that steps will see: what it costs to find out later is the downloads."""
    tool = shutil.which("torch-probe", path=search_path())
    python = os.path.join(home(), "venv", "bin", "python")
    own = [python, os.path.join(os.path.dirname(os.path.abspath(__file__)), "torchcheck.py")]
    run = subprocess.Popen(
        [*([tool] if tool else own), str(gpus)],
        env=machine_env(),
        cwd=home(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    killer = threading.Timer(PROBE_S * (gpus + 1), run.kill)
    killer.start()
    last = ""
    assert run.stdout is not None
    for line in run.stdout:
        last = line.decode("utf-8", "replace").strip() or last
        emit({"log": last + "\n"})
    code = run.wait()
    killer.cancel()
    if code:
        raise AgentError("torch", last or f"trying torch on the cards ended with {code}")
