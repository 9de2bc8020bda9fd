"""What the plan's requirements do to a machine's environment: locks to the letter, the image's own left alone."""

from __future__ import annotations

import hashlib
import re
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.agent.conftest import Machine

Wheel = Callable[..., str]


@pytest.fixture
def wheel(machine: Machine) -> Wheel:
    """Make a wheel that pip finds, and nothing else does it find; return its hash as a lock has it."""
    shelf = machine.workspace / "shelf"
    shelf.mkdir()
    machine.env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": shelf.as_uri()}

    def make(name: str, version: str, needs: str = "") -> str:
        path = shelf / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        needed = f"Requires-Dist: {needs}\n" if needs else ""
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(f"{name}/__init__.py", f"version = {version!r}\n")
            file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}")
            file.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            file.writestr(f"{info}/RECORD", "")
        return f"--hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"

    return make


def _asked(machine: Machine, **files: str) -> list[str]:
    for name, text in files.items():
        (machine.workspace / f"{name}.txt").write_text(text)
    return [str(machine.workspace / f"{name}.txt") for name in files if name != "versions"]


def _bootstrap(machine: Machine, files: list[str]) -> tuple[dict[str, Any], str]:
    *lines, end = machine.lines("bootstrap", requirements=files)
    return end, "".join(line.get("log", "") for line in lines)


def _seen(machine: Machine, code: str) -> str:
    python = machine.home / ".gpuplan" / "venv" / "bin" / "python"
    done = subprocess.run([python, "-c", code], capture_output=True, env=machine.env, check=True)
    return done.stdout.decode().strip()


def test_a_lock_is_installed_to_the_letter(machine: Machine, wheel: Wheel):
    """Exactly what it lists, whatever that says it needs; a second time nothing happens."""
    digest = wheel("gpuplan_probe", "1.0", needs="gpuplan_elsewhere")
    files = _asked(machine, lock=f"# a lock\ngpuplan_probe==1.0 \\\n    {digest}\n")
    end, said = _bootstrap(machine, files)
    assert end["ok"], said
    assert _seen(machine, "import gpuplan_probe as p; print(p.__file__)").startswith(f"{machine.home}/.gpuplan/venv")
    (machine.workspace / "shelf").rename(machine.workspace / "gone")
    assert _bootstrap(machine, files)[0]["ok"]


def test_another_file_than_the_locks_is_refused(machine: Machine, wheel: Wheel):
    """What an index serves under a locked version is not installed unless it is the very file."""
    wheel("gpuplan_probe", "1.0")
    end, said = _bootstrap(machine, _asked(machine, lock=f"gpuplan_probe==1.0 --hash=sha256:{'0' * 64}\n"))
    assert end["code"] == "bootstrap"
    assert "HASHES" in said
    assert _seen(machine, "from importlib.util import find_spec; print(find_spec('gpuplan_probe'))") == "None"


@pytest.mark.parametrize("lock", ["gpuplan_probe==1.0\n    {}\n", "gpuplan_probe==1.0 {}\ngpuplan_other==1.0\n"])
def test_what_a_lock_has_no_hash_for_is_refused(machine: Machine, wheel: Wheel, lock: str):
    """A hash on a line of its own, which pip overlooks by itself, and a line without one: nothing is installed."""
    digest = wheel("gpuplan_probe", "1.0")
    wheel("gpuplan_other", "1.0")
    end, said = _bootstrap(machine, _asked(machine, lock=lock.format(digest)))
    assert end["code"] == "bootstrap"
    assert "Hashes are required" in said
    assert _seen(machine, "from importlib.util import find_spec; print(find_spec('gpuplan_probe'))") == "None"


def test_what_the_image_has_in_range_stays(machine: Machine, wheel: Wheel):
    """A newer version within reach, and another one among the versions to install, change nothing."""
    wheel("numpy", "99.0")
    image = _asked(machine, image="-c versions.txt\nnumpy>=1.22\n", versions="numpy==99.0\n")
    end, said = _bootstrap(machine, image)
    assert end["ok"], said
    assert f"numpy=={np.__version__}" in said
    assert _seen(machine, "import numpy; print(numpy.__file__)") == np.__file__


def test_what_the_image_has_too_old_is_installed_beside_it_by_version(machine: Machine, wheel: Wheel):
    """The version that is named comes into the venv, not the newest one; it is pinned there; the image's stays."""
    wheel("numpy", "99.0")
    wheel("numpy", "100.0")
    image = _asked(machine, image="# image\n-c versions.txt\nnumpy>=50\npytest>=1\n", versions="numpy==99.0\n")
    end, said = _bootstrap(machine, image)
    assert end["ok"], said
    assert "not of the image: numpy>=50" in said
    assert _seen(machine, "import numpy; print(numpy.version)") == "99.0"
    assert "numpy==99.0" in (machine.home / ".gpuplan" / "venv" / "constraints.txt").read_text()
    assert Path(np.__file__).exists()


def test_plain_requirements_leave_the_images_numpy_alone(machine: Machine, wheel: Wheel):
    """A file without hashes is pip's matter, but it cannot change what the image has compiled for its driver."""
    wheel("numpy", "99.0")
    wheel("gpuplan_probe", "1.0", needs="numpy>=99")
    end, said = _bootstrap(machine, _asked(machine, plain="gpuplan_probe\n"))
    assert end["code"] == "bootstrap"
    assert "conflicting dependencies" in said
    assert _seen(machine, "import numpy; print(numpy.__file__)") == np.__file__


def test_plain_requirements_that_ask_for_a_newer_one_get_it(machine: Machine, wheel: Wheel):
    """An image older than its name says: what the file itself asks for is installed beside it, which is said."""
    wheel("numpy", "99.0")
    end, said = _bootstrap(machine, _asked(machine, plain="numpy>=50\n"))
    assert end["ok"], said
    assert "not of the image: numpy>=50" in said
    assert _seen(machine, "import numpy; print(numpy.version)") == "99.0"
    assert "numpy==99.0" in (machine.home / ".gpuplan" / "venv" / "constraints.txt").read_text()


def test_a_torch_that_is_replaced_takes_its_companions_along(machine: Machine, wheel: Wheel):
    """An image's torchvision is built for its torch: it is pinned no more where the file asks for another torch."""
    image = machine.home / "image" / "site-packages"
    for name, needs in (("torch", ""), ("torchvision", "Requires-Dist: torch==2.4.1\n")):
        info = image / f"{name}-2.4.1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.4.1\n{needs}")
    machine.env["PYTHONPATH"] = str(image)
    wheel("torch", "99.0")
    wheel("torchvision", "99.0", needs="torch==99.0")
    end, said = _bootstrap(machine, _asked(machine, plain="torch>=50\ntorchvision\n"))
    assert end["ok"], said
    assert "not of the image: torch>=50" in said
    venv = machine.home / ".gpuplan" / "venv"
    assert {path.name for path in venv.rglob("torch*.dist-info")} == {
        "torch-99.0.dist-info",
        "torchvision-99.0.dist-info",
    }


def test_torch_is_tried_on_the_cards_where_it_is_asked_for(machine: Machine):
    """After the venv was made, by its Python: one that does not compute is refused in its own words."""
    named = _asked(machine, plain="torch>=2\n")
    *_, end = machine.lines("bootstrap", requirements=named, gpus=1)
    assert end["code"] == "torch"
    assert re.match(r"torch [0-9.]+\S* \(CUDA \S+\) does not compute on GPU 0: .*CUDA", end["message"]), end
    *_, end = machine.lines("bootstrap", requirements=_asked(machine, other="numpy>=1.22\n"), gpus=1)
    assert end["ok"]
    machine.tool("torch-probe", "echo torch 9 computes on $1 cards")
    *lines, end = machine.lines("bootstrap", requirements=named, gpus=2)
    assert end["ok"]
    assert {"log": "torch 9 computes on 2 cards\n"} in lines


def test_a_file_that_nobody_named_is_not_installed(machine: Machine, wheel: Wheel):
    """Requirements that lie on the volume, in the code's folder or beside the named ones are nobody's request."""
    digest = wheel("gpuplan_probe", "1.0")
    wheel("gpuplan_planted", "1.0")
    code = machine.home / ".gpuplan" / "code" / "0"
    for folder in (code, code / "tool", machine.workspace, machine.workspace / "tool", machine.workspace / ".gpuplan"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "requirements.txt").write_text("gpuplan_planted\n")
    (code / "lock.txt").write_text(f"gpuplan_probe==1.0 {digest}\n")
    files: list[list[str]] = [[], [str(code / "lock.txt")]]
    for named in files:
        end, said = _bootstrap(machine, named)
        assert end["ok"], said
        assert _seen(machine, "from importlib.util import find_spec; print(find_spec('gpuplan_planted'))") == "None"
    assert _seen(machine, "import gpuplan_probe; print(gpuplan_probe.version)") == "1.0"
