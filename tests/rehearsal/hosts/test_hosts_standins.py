"""The programs that stand in for a rented machine's own, called over SSH as steps call them."""

from __future__ import annotations

import re
from decimal import Decimal
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from orchestrator.rehearsal.faults import Switchboard
from orchestrator.rehearsal.hosts import Host
from orchestrator.rehearsal.standins import CudaFault, armed_cuda_fault, pip
from tests.rehearsal.hosts.ssh_machines import Cloud

PROJECT = Path(__file__).parents[3]


def smi(cloud: Cloud, host: Host, arguments: str) -> list[list[str]]:
    done = cloud.ssh(host, f"nvidia-smi {arguments}")
    assert done.returncode == 0, done.stderr
    return [line.split(", ") for line in done.stdout.decode().splitlines()]


def test_nvidia_smi_lists_the_gpus_that_were_rented(cloud: Cloud):
    """The agent's query gives a line a GPU, with and without units and heading; the table says that it is rehearsed."""
    host = cloud.boot()
    rows = smi(
        cloud, host, "--query-gpu=index,name,memory.total,memory.used,utilization.gpu --format=csv,noheader,nounits"
    )
    assert [row[:3] for row in rows] == [[str(i), "NVIDIA H100 80GB HBM3", "81559"] for i in range(2)]
    assert all(int(row[3]) < 81559 and 0 <= int(row[4]) <= 100 for row in rows)
    assert smi(cloud, host, "--query-gpu=index,memory.total --format=csv -i 1") == [
        ["index", "memory.total [MiB]"],
        ["1", "81559 MiB"],
    ]
    table = cloud.ssh(host, "nvidia-smi").stdout.decode()
    assert "rehearsal" in table
    assert table.count("NVIDIA H100 80GB HBM3") == 2
    assert len({len(line) for line in table.splitlines()}) == 1
    assert "rehearsal" in cloud.ssh(host, "nvidia-smi -L").stdout.decode()


def test_df_shows_the_size_that_was_seen(cloud: Cloud):
    """Of a disk that is to show 10 GB that, in blocks of 1 KiB; of any other this computer's own."""
    shown = [
        cloud.ssh(host, "df -kP $WORKSPACE").stdout.decode().splitlines()[-1].split()
        for host in (cloud.boot(disk_gb=Decimal(10)), cloud.boot("m2"))
    ]
    assert shown[0][1] == str(10**10 // 1024)
    assert shown[1][0] != shown[0][0]
    assert int(shown[1][1]) > 0


def test_memory_used_is_that_of_the_machines_own_processes(cloud: Cloud):
    """300 MB held by a program on GPU 1 show there, and not on GPU 0 nor on another machine."""
    host, other = cloud.boot(), cloud.boot("m2")
    hold = "CUDA_VISIBLE_DEVICES=1 python -c 'x = bytearray(300 << 20); print(len(x), flush=True); input()'"
    script = f"mkfifo hold; exec 3<>hold; {hold} < hold > out & until [ -s out ]; do sleep 0.01; done; nvidia-smi"
    query = "--query-gpu=memory.used --format=csv,noheader,nounits"
    used = [int(line) for line in cloud.ssh(host, f"{script} {query}; echo >&3; wait").stdout.split()]
    assert used[1] >= 300
    assert used[0] < 200
    assert int(smi(cloud, other, query)[1][0]) < 200


def test_an_image_may_bring_an_older_torch(cloud: Cloud):
    """It is what every Python there sees; pip installs this computer's in its place, unless a pin forbids it."""
    cloud.hosts.gpu_fault = lambda name: name == "image-old-torch"
    host = cloud.boot()
    asks = "python3 -c 'from importlib.metadata import version as v; print(v(\"torch\"))'"
    shows = 'import sys; print(*(p for p in sys.path if p.endswith("site-packages")), sep="\\n")'
    made = f"python3 -m venv --without-pip v; python3 -c '{shows}' > $(echo v/lib/python3*/site-packages)/image.pth"
    pins = "echo 'constraint = file://'$PWD/pins > v/pip.conf; echo torch==2.4.1 > pins"
    install = "v/bin/python -m pip install 'torch>=2.6' 2>&1"
    said = cloud.ssh(host, f"{asks}; {made}; {pins}; {install}; rm v/pip.conf; {install}; {asks}").stdout.decode()
    first, refused, installed, last = filter(None, said.splitlines())
    assert (first, last) == ("2.4.1", metadata.version("torch"))
    assert "ResolutionImpossible" in refused
    assert installed.startswith("Successfully installed torch-2")


def test_a_machine_without_gpus_has_no_devices(cloud: Cloud):
    """nvidia-smi ends with its own exit code 9 there; an unknown field is refused by name."""
    host = cloud.boot(gpus=0, gpu="")
    assert cloud.ssh(host, "nvidia-smi").returncode == 9
    wrong = cloud.ssh(cloud.boot("m2"), "nvidia-smi --query-gpu=colour --format=csv")
    assert wrong.returncode != 0
    assert b'"colour" is not a valid field' in wrong.stderr


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        (None, [0, 0, 1]),
        (CudaFault(), [1, 1, 1]),
        (CudaFault(gpus=(1,)), [0, 1, 1]),
        (CudaFault(lasts_s=0.0), [0, 0, 1]),
        (CudaFault(lasts_s=60.0), [1, 1, 1]),
    ],
)
def test_cuda_probe_tells_whether_a_gpu_works(cloud: Cloud, fault: CudaFault | None, codes: list[int]):
    """Exit code 0 for each rented GPU unless a fault says otherwise; error 802 is named."""
    cloud.hosts.cuda_fault = lambda: fault
    host = cloud.boot()
    done = [cloud.ssh(host, f"cuda-probe {index}") for index in range(3)]
    assert [probe.returncode for probe in done] == codes
    assert b"error 101" in done[2].stderr
    if codes[1] == 1:
        assert b"error 802" in done[1].stderr
    assert all(b"rehearsal" in probe.stdout + probe.stderr for probe in done)
    assert cloud.ssh(host, "nvidia-smi -L").stdout.count(b"GPU ") == 2


def test_a_fault_of_cuda_concerns_one_machine(cloud: Cloud):
    """Only the next GPU machine has the fault, and not after it is booted again; a CPU machine does not use it up."""
    faults = Switchboard()
    faults.arm("cuda-never")
    cloud.hosts.cuda_fault = lambda: armed_cuda_fault(faults, time_scale=1.0)
    for host_id, gpus, code in (("cpu", 0, 1), ("m1", 1, 1), ("m2", 1, 0), ("m1", 1, 0)):
        if host_id in cloud.hosts.running:
            cloud.run(cloud.hosts.end(host_id, keep_disk=True))
        assert cloud.ssh(cloud.boot(host_id, gpus=gpus), "cuda-probe 0").returncode == code, host_id


def test_every_python_of_a_machine_has_the_stand_in(cloud: Cloud):
    """`python -m pip` of a venv without a pip of its own is the stand-in; the image says so in ~/.gpuplan/environ."""
    host = cloud.boot()
    done = cloud.ssh(host, "python3 -m venv --without-pip v && v/bin/python -m pip --version")
    assert b"stand-in" in done.stdout, done.stderr
    assert "HF_ENDPOINT=http://127.0.0.1:1" in (host.home / ".gpuplan/environ").read_text().split("\0")


def test_pip_is_content_with_what_is_installed(cloud: Cloud):
    """Names, versions, extras, markers and requirement files that hold are satisfied, in pip's words."""
    host = cloud.boot()
    files = "mkdir -p r; echo 'aiohttp>=3 # server' > r/a.txt; printf -- '-r a.txt\\nyarl\\n' > r/b.txt"
    asked = "-q --no-cache-dir 'moto[s3]>=5' 'pytest!=0.1' 'nothing; sys_platform == \"other\"' -r r/b.txt"
    done = cloud.ssh(host, f"{files}; pip install {asked}")
    assert done.returncode == 0, done.stderr
    words = done.stdout.decode()
    assert len(re.findall("Requirement already satisfied: .*rehearsal", words)) == 4
    assert "Ignoring nothing" in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("install no-such-package aiohttp", "No matching distribution found for no-such-package"),
        ("install 'aiohttp<1'", f"aiohttp {metadata.version('aiohttp')} is installed"),
        ("install ./folder", "installs from no file and no address"),
        ("install 'x @ https://example.org/x.whl'", "fetches nothing"),
        ("install -r none.txt", "Could not open requirements file none.txt"),
        ("install", "at least one requirement"),
        ("uninstall aiohttp", "pip uninstall is not rehearsed"),
    ],
)
def test_pip_says_what_is_missing_and_changes_nothing(cloud: Cloud, arguments: str, words: str):
    """What is not installed, too old, or would have to be fetched ends with an error that names it."""
    done = cloud.ssh(cloud.boot(), f"pip {arguments}")
    assert done.returncode in {1, 2}
    assert words in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_pip_lists_what_is_there(cloud: Cloud):
    """`pip list`, `pip freeze` and `pip --version` answer from the running interpreter; python is the controller's."""
    host = cloud.boot()
    version = metadata.version("aiohttp")
    assert re.search(rf"^aiohttp +{re.escape(version)}$", cloud.ssh(host, "pip list").stdout.decode(), re.MULTILINE)
    assert f"aiohttp=={version}\n" in cloud.ssh(host, "pip freeze").stdout.decode()
    assert b"rehearsal" in cloud.ssh(host, "pip3 --version").stdout
    found = cloud.ssh(host, "python -c 'import importlib.metadata as m; print(m.version(\"aiohttp\"))'")
    assert found.stdout.decode().strip() == version


def test_stand_ins_work_only_on_emulated_machines(cloud: Cloud):
    """Called elsewhere they say so instead of guessing."""
    import subprocess

    done = subprocess.run([cloud.hosts.folder / "bin/nvidia-smi"], capture_output=True, check=False, env={})
    assert done.returncode == 1
    assert b"runs only on a rehearsal" in done.stderr


def test_a_requirement_keeps_its_marker_and_loses_its_comment(tmp_path: Path):
    """A line of requirements.txt is read as pip reads it: quotes of a marker stay, hashes and comments go."""
    file = tmp_path / "requirements.txt"
    file.write_text('# why\nnumpy>=1 # here\ntbb; platform_machine == "none"\nyaml --hash=sha256:00\n--no-index\n')
    assert list(pip.requirements(file)) == ["numpy>=1", 'tbb; platform_machine == "none"', "yaml"]


def test_every_line_of_the_shipped_lock_is_understood():
    """A locked version gives way to what is installed; a marker that compares as well stays whole."""
    locked = [Requirement(line) for line in pip.requirements(PROJECT / "remote/distributed-llama/requirements.txt")]
    assert {str(one.specifier) for one in locked} == {""}
    assert any(one.marker and "platform_machine ==" in str(one.marker) for one in locked)
