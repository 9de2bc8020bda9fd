"""What only a card can show; without one these tests are skipped, and their cases run under triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dllama_glm.runtime.machine import has_nvidia_gpu

from tests.payload.gpu.gpu_models import ON_CARD


@pytest.mark.gpu
@pytest.mark.skipif(not has_nvidia_gpu(), reason="no NVIDIA card here: the cases ran under triton's interpreter only")
@pytest.mark.skipif(ON_CARD, reason="this is the run on the card")
def test_the_same_cases_pass_on_the_card():
    """Every test of this folder once more, in a process that compiles the kernels for the card, captured graphs too."""
    words = [sys.executable, "-m", "pytest", str(Path(__file__).parent), "-q", "-p", "no:cacheprovider"]
    plain = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment = plain | {"DLLAMA_TEST_DEVICE": "cuda"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
