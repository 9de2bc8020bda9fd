"""The wheel on its own: built from the checkout, installed in a fresh environment outside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.tool import PROJECT

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]  # a whole environment is installed


def test_the_wheel_stands_alone(tmp_path: Path):
    """Installed with its rehearsal extra, the wheel passes validate, plan and `run day1 --dry-run --yes`."""
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", str(tmp_path)]
    subprocess.run([*build, str(PROJECT)], check=True, timeout=120)
    (wheel,) = tmp_path.glob("gpuplan-*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, timeout=120)
    scripts = tmp_path / "venv" / "bin"
    subprocess.run(
        [scripts / "python", "-m", "pip", "install", "--quiet", f"{wheel}[rehearsal]"], check=True, timeout=500
    )
    outside = tmp_path / "outside"
    outside.mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("GPUPLAN", "PYTHON"))}
    env |= {"GPUPLAN_HOME": str(tmp_path / "home"), "PATH": f"{scripts}:{os.environ['PATH']}"}

    def gpuplan(*args: str) -> str:
        done = subprocess.run(
            [scripts / "gpuplan", *args], cwd=outside, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    shipped = ("--plan", "shipped")
    valid = "valid: plan shipped, which comes with gpuplan: day1, day2-3, day4-5, day6-7\n"
    assert gpuplan("validate", *shipped) == valid
    assert "220.9 GB" in gpuplan("plan", "--notes", *shipped).replace("\n", " ")
    assert "5 hold, 1 needs a real GPU" in gpuplan("run", "day1", "--dry-run", "--yes")
    assert list(outside.iterdir()) == [], "a rehearsal leaves no file outside its run folder"
