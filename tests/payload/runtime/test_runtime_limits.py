"""What a container grants decides how many threads run and how much memory is taken."""

import os
from pathlib import Path

import pytest
from dllama_glm.convert.crew import crew_size
from dllama_glm.runtime import limits, machine


def place(monkeypatch: pytest.MonkeyPatch, folder: Path, own: str, files: dict[str, str]) -> None:
    """Let the process stand in the group that `own` tells, with these files of limits."""
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "own").write_text(own)
    monkeypatch.setattr(limits, "CGROUPS", folder / "cgroup")
    monkeypatch.setattr(limits, "OWN", folder / "own")


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "765000 100000\n"}, 7.65),
        ("0::/pod/box\n", {"cpu.max": "max 1000", "pod/cpu.max": "1500 1000", "pod/box/cpu.max": "30 10"}, 1.5),
        ("4:cpu,cpuacct:/box\n", {"cpu/box/cpu.cfs_quota_us": "50000", "cpu/box/cpu.cfs_period_us": "100000"}, 0.5),
        ("4:cpu,cpuacct:/box\n", {"cpu/box/cpu.cfs_quota_us": "-1", "cpu/box/cpu.cfs_period_us": "100000"}, None),
        ("0::/gone\n", {"cpu.max": "200000 100000"}, 2.0),
        ("", {}, None),
    ],
    ids=["v2", "v2 above", "v1", "v1 unlimited", "v2 seen from inside", "no groups"],
)  # fmt: skip
def test_the_quota_of_the_container_is_found(
    own: str, files: dict[str, str], quota: float | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """The tightest limit of the process's groups counts, in either version of cgroups; without one there is none."""
    place(monkeypatch, tmp_path, own, files)
    assert limits.processor_quota() == quota


@pytest.mark.parametrize(
    ("quota", "threads", "crew"), [("765000", 7, 8), ("50000", 1, 2), ("9900000", 96, 17), ("max", 96, 17)]
)
def test_threads_follow_the_quota(quota: str, threads: int, crew: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A pod that sees 96 cores with the time of 7.65 starts 7 threads, and says so; one with more starts 96.

    The converter's workers, one more than threads and 17 at most, follow it too.
    """
    place(monkeypatch, tmp_path, "0::/\n", {"cpu.max": f"{quota} 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(96)))
    assert machine.threads_from(None) == threads
    assert crew_size() == crew
    assert machine.granted() == ("" if quota == "max" else f", a quota of {int(quota) / 100000:g} of its cores")


def test_memory_that_the_container_does_not_grant_is_not_available(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A limit leaves what is not used, or used by files only; without a limit the system's memory counts."""
    files = {"memory.max": "1000000", "memory.current": "900000", "memory.stat": "anon 5\ninactive_file 300000\n"}
    place(monkeypatch, tmp_path, "0::/\n", files)
    assert machine.available_memory() == 400000
    place(monkeypatch, tmp_path, "0::/\n", {"memory.max": "max"})
    assert machine.available_memory() > 1 << 24
