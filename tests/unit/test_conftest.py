"""The suite's own fences."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest


def test_no_test_speaks_to_the_network():
    """A connection to anywhere but loopback fails before a byte is sent."""
    with socket.socket() as line, pytest.raises(AssertionError, match=r"192\.0\.2\.1"):
        line.connect(("192.0.2.1", 80))


def test_home_and_accounts_are_not_the_users():
    """HOME is a folder of the session's, and no account of the user's is in the environment."""
    assert "pytest" in os.environ["HOME"]
    assert Path.home() == Path(os.environ["HOME"])
    assert not [name for name in os.environ if name.startswith(("RUNPOD_", "LAMBDA_", "AWS_", "HF_"))]
