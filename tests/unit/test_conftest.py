"""The suite's own fences."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest


def test_no_test_speaks_to_the_network():
    """A connection to anywhere but loopback fails before a byte is sent."""
    with socket.socket() as line, pytest.raises(AssertionError, match=r"192\.0\.2\.1"):
        line.connect(("192.0.2.1", 80))


def test_home_and_accounts_are_not_the_users(tmp_path_factory: pytest.TempPathFactory):
    """HOME is a folder of the session's, and no account of the user's is in the environment."""
    assert Path.home() == Path(os.environ["HOME"]) == tmp_path_factory.getbasetemp() / "home"
    code = "import os; print([n for n in os.environ if n.startswith(('RUNPOD_API', 'LAMBDA_', 'HF_'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
