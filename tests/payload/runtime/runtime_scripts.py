"""The payload's scripts, run as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

from tests import forked

PAYLOAD = Path(__file__).resolve().parents[3] / "remote" / "distributed-llama"
MODELS = Path(__file__).resolve().parents[2] / "models"
GOLDEN = Path(__file__).resolve().parents[2] / "golden"
REPOS = {"base": "zai-org/GLM-4.5-Air-Base", "intellect3": "PrimeIntellect/INTELLECT-3"}


def command_of(script: str, *words: str) -> list[str]:
    """The command line that runs one of the payload's scripts with this Python."""
    return [sys.executable, str(PAYLOAD / script), *words]


def environment_of(changes: dict[str, str]) -> dict[str, str]:
    """This process's environment on loopback, without what else gpuplan sets on a machine, with the changes."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GPUPLAN_")}
    return plain | {"GPUPLAN_PRIVATE_IP": "127.0.0.1"} | changes


def try_script(
    script: str, *words: str, text: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run one of the payload's scripts to its end, with `text` on stdin."""
    env = environment_of(environment)
    if not any(name.startswith("PYTHON") for name in environment):  # those are read by a fresh interpreter only
        return forked.script(PAYLOAD / script, *words, env=env, text=text or "")
    return subprocess.run(
        command_of(script, *words), env=env, input=text or "", capture_output=True, text=True, timeout=120, check=False
    )


def run_script(script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of the payload's scripts to its end; a failure shows what it printed."""
    done = try_script(script, *words, **environment)
    assert done.returncode == 0, f"{script} {words}\n{done.stdout}\n{done.stderr}"
    return done
