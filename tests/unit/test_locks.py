"""The locks: every name with version and hashes, no address, and all that is needed on each Python and processor."""

from __future__ import annotations

import re
import runpy
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
CODE = ROOT / "remote" / "distributed-llama"
MACHINE = CODE / "requirements.txt"
DEVELOPERS = ROOT / "tools" / "locks" / "dev.txt"
UNLOCKED = {"torch", "triton", "numpy", "setuptools", "pip"}  # the image's, by version, or what brings pip itself
ENTRY = re.compile(r"[a-z0-9][a-z0-9.-]*==[0-9][a-z0-9.]*(?: ; [^;\\]+)?(?: --hash=sha256:[0-9a-f]{64})+")
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
PROCESSORS = ("x86_64", "aarch64")


def _entries(lock: Path) -> list[str]:
    lines = lock.read_text().replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+", " ", line).strip() for line in lines if line and not line.startswith("#")]


def _locked(lock: Path) -> dict[str, Requirement]:
    wanted = [Requirement(entry.partition(" --hash")[0]) for entry in _entries(lock)]
    return {canonicalize_name(one.name): one for one in wanted}


@pytest.mark.parametrize("lock", [MACHINE, DEVELOPERS], ids=["machine", "developers"])
def test_a_lock_has_names_versions_and_hashes_and_no_address(lock: Path):
    """No line says where anything comes from, none lacks a hash, and torch's wheels are the machine's matter."""
    for entry in _entries(lock):
        assert ENTRY.fullmatch(entry), entry
    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted-host|@ ", lock.read_text())
    assert not set(_locked(lock)) & UNLOCKED
    assert not [name for name in _locked(lock) if name.startswith("nvidia-")]


def test_machines_have_an_xet_that_hangs_less():
    """What hung, or took half of the memory for each process, is mended from 1.5.2 on."""
    (locked,) = _locked(MACHINE)["hf-xet"].specifier
    assert locked.operator == "=="
    assert Version(locked.version) >= Version("1.5.2")


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("processor", PROCESSORS)
def test_the_machines_lock_lacks_nothing(python: str, processor: str):
    """Whatever is locked finds what it needs on that Python and processor, in the lock or in the image."""
    _lacks_nothing(MACHINE, python, processor)


def _lacks_nothing(lock: Path, python: str, processor: str) -> None:
    where = {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": processor}
    where |= {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "extra": ""}
    where |= {"platform_python_implementation": "CPython", "implementation_name": "cpython"}
    locked = {n: r for n, r in _locked(lock).items() if not r.marker or r.marker.evaluate(where)}
    for name in locked:
        try:
            needs = [Requirement(text) for text in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:  # only other Pythons have it
            continue
        for need in needs:
            if need.marker is None or need.marker.evaluate(where):
                assert canonicalize_name(need.name) in locked.keys() | UNLOCKED, f"{name} needs {need}"


def test_the_locks_hold_what_is_asked_for():
    """Each package that the sources of a lock name is in it; `make lock` was not forgotten."""
    source = (ROOT / "tools" / "locks" / "machine.in").read_text().splitlines()
    asked = {canonicalize_name(Requirement(line).name) for line in source if line and not line.startswith("#")}
    assert asked <= _locked(MACHINE).keys()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(line) for line in (*project["dependencies"], *extras["dev"], *extras["rehearsal"])]
    locked = _locked(DEVELOPERS)
    for one in wanted:
        if canonicalize_name(one.name) not in UNLOCKED | {project["name"]}:
            assert one.specifier.contains(str(locked[canonicalize_name(one.name)].specifier).removeprefix("==")), one


def test_torch_is_one_version_everywhere():
    """What a machine gets where its image's torch is too old is what the rehearsal and the tests run."""
    versions = (CODE / "versions.txt").read_text()
    assert "torch==2.13.0\n" in versions
    assert '"torch==2.13.0"' in (ROOT / "pyproject.toml").read_text()
    ranges = [
        Requirement(line)
        for name in ("requirements-image.txt", "requirements-gpu.txt")
        for line in (CODE / name).read_text().splitlines()
        if line[0] not in "#-"
    ]
    pinned = [Requirement(line) for line in versions.splitlines() if not line.startswith("#")]
    for one in pinned:
        (allowed,) = [r for r in ranges if r.name == one.name]
        assert allowed.specifier.contains(str(one.specifier).removeprefix("=="))


def test_what_is_to_be_locked_names_only_what_an_index_has():
    """No extra of our own is left in it, not one that another extra names either: `make lock` would end there."""
    asked = [Requirement(line).name for line in runpy.run_path(str(ROOT / "tools" / "lock.py"))["developers"]()]
    assert "gpuplan" not in asked
    assert {"pygal", "starlette", "apprise", "pytest", "asyncssh", "typer"} <= set(asked)
