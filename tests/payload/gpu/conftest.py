"""Puts the payload and the runtime's test files on the path; without `make gpu` kernels are interpreted."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "remote" / "distributed-llama"))
sys.path.append(str(HERE.parent / "runtime"))
os.environ.setdefault("OMP_NUM_THREADS", "1")

if find_spec("triton") is None:
    collect_ignore_glob = ["test_*.py"]
elif os.environ.get("DLLAMA_TEST_DEVICE") != "cuda":
    import tests.payload.gpu.interpreting  # noqa: F401 - before any kernel


def pytest_report_header() -> str | None:
    """Say why these tests are missing where triton is: it comes for Linux only."""
    return "no triton here: the kernels of a card are not tested" if find_spec("triton") is None else None
