"""Puts the payload on the path, as its own scripts do, keeps torch to one thread, and converts the trained models."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "remote" / "distributed-llama"))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tests.payload.runtime.runtime_ranks import Processes
from tests.payload.runtime.runtime_scripts import MODELS, REPOS, run_script


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base.m, base.t, intellect3.m and intellect3.t: the trained models as the plan converts them."""
    folder = tmp_path_factory.mktemp("converted")
    for name, repo in REPOS.items():
        source = str(MODELS / repo)
        run_script("converter/convert-hf.py", source, "q40", name, "--output", str(folder / f"{name}.m"))
        run_script("converter/convert-tokenizer-hf.py", source, name, "--output", str(folder / f"{name}.t"))
    return folder


@pytest.fixture
def start() -> Iterator[Processes]:
    """Starts scripts whose processes are ended with the test."""
    with ExitStack() as stack:
        yield Processes(stack)
