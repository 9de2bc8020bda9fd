"""What the machine says of itself, whether its GPUs work, and its Python environment."""

from __future__ import annotations

import ast
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.conftest import AGENT, Machine, eventually

sys.path.insert(0, str(AGENT))
from gpuplan_agent import places


def test_hello(machine: Machine):
    """Hello says what the machine has and where the workspace is: the environment's wins over the request's."""
    machine.tool("nvidia-smi", "echo '0, NVIDIA H100 80GB HBM3, 81559'; echo '1, NVIDIA H100 80GB HBM3, 81559'")
    reply = machine.ask("hello")
    assert reply["workspace"] == str(machine.workspace)
    assert reply["gpus"] == [{"index": index, "name": "NVIDIA H100 80GB HBM3", "memory_mib": 81559} for index in (0, 1)]
    assert reply["cores"] >= 1
    assert reply["memory_mib"] > 100
    assert reply["disk_free_mib"] > 0
    del machine.env["WORKSPACE"]
    elsewhere = machine.workspace / "made" / "new"
    assert machine.ask("hello", workspace=str(elsewhere))["workspace"] == str(elsewhere)
    assert elsewhere.is_dir()
    (machine.workspace / "file").write_text("")
    assert machine.ask("hello", workspace=str(machine.workspace / "file" / "x"))["code"] == "no_workspace"


def test_boot_id_tells_restarts_apart(machine: Machine):
    """The boot id stays as long as the machine runs."""
    assert machine.ask("hello")["boot_id"] == machine.ask("hello")["boot_id"] != ""
    machine.env["GPUPLAN_BOOT_ID"] = "again"
    assert machine.ask("hello")["boot_id"] == "again"


def test_a_listed_gpu_that_fails_is_found(machine: Machine):
    """Each GPU asked for must answer a CUDA call, listed or not; missing and faulty are told apart."""
    machine.tool("nvidia-smi", "echo '0, A100, 40960'; echo '1, A100, 40960'")
    machine.tool("cuda-probe", 'echo "$1" >> "$HOME/probed"; [ "$1" = 0 ] || { echo "error 802"; exit 1; }')
    assert machine.ask("probe", gpus=0)["ok"]
    assert machine.ask("probe", gpus=1)["ok"]
    fault = machine.ask("probe", gpus=2)
    assert (fault["code"], fault["message"]) == ("gpu_fault", "GPU 1: error 802")
    assert (machine.home / "probed").read_text().split() == ["0", "0", "1"]
    machine.tool("nvidia-smi", "echo '0, A100, 40960'")
    assert machine.ask("probe", gpus=2)["code"] == "no_gpu"


def test_a_machine_without_driver_has_no_gpu(machine: Machine):
    """Where there is neither a stand-in nor a driver, the real probe says that there is no GPU."""
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    reply = machine.ask("probe", gpus=1)
    assert reply["code"] == "no_gpu"
    assert reply["message"].startswith("GPU 0: no CUDA driver")


def test_a_containers_own_environment_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What only a container's first process has reaches the steps, PATH behind the session's; credentials do not."""
    first = tmp_path / "environ"
    first.write_bytes(b"PATH=/opt/conda/bin:/usr/bin\0CUDA_HOME=/usr/local/cuda\0RUNPOD_API_KEY=k\0HOME=/\0\0=x\0")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    env = places.machine_env(str(first))
    assert (env["PATH"], env["CUDA_HOME"], env["HOME"]) == (
        "/usr/bin:/bin:/opt/conda/bin",
        "/usr/local/cuda",
        str(tmp_path),
    )
    assert "RUNPOD_API_KEY" not in env
    tuned = b"HF_XET_HIGH_PERFORMANCE=1\0HF_HUB_ENABLE_HF_TRANSFER=1\0HF_HOME=/workspace/.cache\0HF_ENDPOINT=https://h"
    first.write_bytes(tuned)
    names = {name for name in places.machine_env(str(first)) if name.startswith("HF_")}
    assert names == {"HF_ENDPOINT"}, "the image's tuning of the hub's client is its own affair"
    assert places.machine_env(str(tmp_path / "none"))["PATH"] == "/usr/bin:/bin"
    (tmp_path / ".gpuplan" / "environ").write_bytes(b"CUDA_HOME=/brought")
    assert places.machine_env(str(first))["CUDA_HOME"] == "/brought"


def venv_python(machine: Machine, code: str, **env: str) -> str:
    python = machine.home / ".gpuplan" / "venv" / "bin" / "python"
    return subprocess.run([python, "-c", code], capture_output=True, check=True, env=machine.env | env).stdout.decode()


def test_bootstrap_makes_the_images_packages_visible(machine: Machine):
    """The venv sees the image's packages, also where its Python is a venv itself; a second run changes nothing."""
    assert machine.ask("bootstrap", requirements=[])["ok"]
    assert venv_python(machine, "import pytest; print(pytest.__file__)").strip() == pytest.__file__
    prefix, base = venv_python(machine, "import sys; print(sys.prefix); print(sys.base_prefix)").splitlines()
    assert prefix == str(machine.home / ".gpuplan" / "venv")
    assert base == sys.base_prefix
    venv = machine.home / ".gpuplan" / "venv"
    (venv / "kept").write_text("")
    assert "as it should be" in "".join(line.get("log", "") for line in machine.lines("bootstrap", requirements=[]))
    assert (venv / "kept").exists()
    (venv / "made-from").write_text("another Python")
    assert machine.ask("bootstrap", requirements=[])["ok"]
    assert not (venv / "kept").exists(), "another Python makes it anew"


def test_pip_installs_into_the_venv_and_leaves_numpy_alone(machine: Machine):
    """`pip` in a step installs into the venv, not into the image; another numpy than the image's is refused."""
    wheel = _wheel(machine.workspace, "gpuplan_probe", "1.0")
    newer = _wheel(machine.workspace, "numpy", "99.0")
    assert machine.ask("bootstrap", requirements=[])["ok"]
    seen = 'python -c "import gpuplan_probe as p; print(p.__file__)"'
    log, end = machine.run("install", f"pip install --no-index {shlex.quote(str(wheel))}; {seen}")
    assert end["exit"] == 0, log
    assert log.splitlines()[-1].startswith(str(machine.home / ".gpuplan" / "venv"))
    log, end = machine.run("numpy", f"pip install --no-index {shlex.quote(str(newer))}")
    assert end["exit"] != 0
    assert "numpy" in log


def test_the_images_own_pip_is_what_the_steps_find(machine: Machine):
    """Where the image's Python has a pip, `pip` of a step is that one, run by the venv; the environment brings it."""
    package = machine.workspace / "image" / "pip"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("import sys; print(sys.prefix, *sys.argv[1:])")
    machine.environ.write_text(f"PYTHONPATH={package.parent}")
    assert machine.ask("bootstrap", requirements=[])["ok"]
    assert machine.run("job", "pip install x")[0] == f"{machine.home}/.gpuplan/venv install x\n"


def test_bootstrap_without_a_fitting_python_says_so(machine: Machine):
    """A machine whose every Python is too old is an error that says so."""
    for name in ["python", "python3", *(f"python3.{minor}" for minor in range(10, 15))]:
        machine.tool(name, 'echo "Python 3.9.2"; exit 1')
    reply = machine.ask("bootstrap", requirements=[])
    assert reply["code"] == "bootstrap"
    assert "no Python of at least 3.10" in reply["message"]


def _wheel(folder: Path, name: str, version: str) -> Path:
    """A wheel with one module in it."""
    import zipfile

    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def test_the_live_view_for_people(machine: Machine):
    """Where there is tmux, a session shows the logs of running jobs, and asking twice makes one."""
    if shutil.which("tmux") is None:
        pytest.skip("there is no tmux on this machine")
    machine.start("job", "echo hello-from-the-job; sleep 600")
    attach = machine.ask("view")["attach"]
    assert machine.ask("view")["attach"] == attach
    socket = str(machine.home / ".gpuplan" / "tmux")
    tmux = ["tmux", "-S", socket]
    assert shlex.split(attach) == [*tmux, "attach", "-t", "gpuplan"]

    def shown() -> bytes:
        return subprocess.run([*tmux, "capture-pane", "-p", "-t", "gpuplan"], capture_output=True, check=False).stdout

    eventually(lambda: b"hello-from-the-job" in shown())
    assert b"==> job <==" in shown()
    sessions = subprocess.run([*tmux, "list-sessions"], capture_output=True, check=True).stdout
    assert len(sessions.splitlines()) == 1
    subprocess.run([*tmux, "kill-server"], check=True)


def test_the_agent_is_written_for_python_3_8():
    """The agent's sources parse with Python 3.8's grammar and import nothing outside its standard library."""
    allowed = set(sys.stdlib_module_names) | {"gpuplan_agent"}
    newer = {"tomllib", "zoneinfo", "graphlib"}
    for path in [AGENT / "agent.py", *(AGENT / "gpuplan_agent").glob("*.py")]:
        tree = ast.parse(path.read_text(), feature_version=(3, 8))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            roots = {name.partition(".")[0] for name in names}
            assert roots <= allowed - newer, (path, roots)
        assert "from __future__ import annotations" in path.read_text() or path.name == "__init__.py", path


def test_starting_up_loads_little():
    """A request loads only what it needs: neither HTTP nor hashing nor subprocesses for a look at the jobs."""
    code = "import agent, sys, json; agent.answer({'op': 'jobs'}); print(json.dumps(sorted(sys.modules)))"
    env = {"HOME": os.devnull, "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=AGENT, capture_output=True, check=True, env=env)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {
        "argparse",
        "urllib.parse",
        "http.client",
        "hashlib",
        "subprocess",
        "pathlib",
        "typing_extensions",
    }
