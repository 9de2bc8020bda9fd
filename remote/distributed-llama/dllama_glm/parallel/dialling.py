"""Reaching an end that listens, or soon will."""

import socket
import time

from dllama_glm.parallel import patience
from dllama_glm.parallel.addresses import Endpoint
from dllama_glm.parallel.channel import Channel, Unanswered, admit
from dllama_glm.runtime.errors import DllamaError

_CONNECT = 5.0  # seconds for one try
_PAUSE = 0.2


def dial(there: Endpoint, role: str, seconds: float) -> Channel:
    """Connect and prove each other, trying again until `seconds` have passed; `role` is this end's.

    An end that accepts but does not answer gets `patience.UNANSWERED`. What it does answer counts at once: Refused,
    or a HandshakeError where it is no fitting dllama or holds another token.
    """
    other, option = ("worker", "--workers") if role == "root" else ("root", "--root-hostname")
    deadline = time.monotonic() + seconds
    met = False
    while True:
        try:
            connection = socket.create_connection((there.host, there.port), timeout=_CONNECT)
            if connection.getsockname() == connection.getpeername():  # TCP does so where no one listens on a local port
                connection.close()
                raise ConnectionError("it connects to itself")
            if not met:
                met, deadline = True, min(deadline, time.monotonic() + patience.UNANSWERED)
            return admit(connection, role, deadline)
        except (Unanswered, OSError) as error:
            if time.monotonic() > deadline:
                raise DllamaError(
                    f"No {other} answers at {there} ({error}): start it first, or correct {option}."
                ) from error
            time.sleep(_PAUSE)
