"""The lines between agent and controller, and the one error that becomes a reply."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

_lock = threading.Lock()


class AgentError(Exception):
    """Why a request is not carried out: `code` is for the program, `message` for people, `facts` for the reply."""

    def __init__(self, code: str, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.facts = facts


def emit(line: dict[str, Any]) -> None:
    """Send one line now. BrokenPipeError: the controller has hung up."""
    data = json.dumps(line).encode() + b"\n"
    with _lock:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def alive() -> None:
    """Say that work goes on: a controller that hears nothing takes the connection for lost."""
    emit({})
