"""Whether machines reach each other: one opens a door at its private address, the others knock at it."""

from __future__ import annotations

import socket
import time
from typing import Any

from gpuplan_agent.wire import AgentError, alive, emit

LONGEST_WORD = 200
STEP_S = 1.0  # of waiting, between two signs of life


def op_door(request: dict[str, Any]) -> dict[str, Any]:
    """Open a port at `address`, say which, and answer everybody who knows `word`, until `guests` have come.

    After `within_s` it closes; `came` is how many were there.
    """
    word, guests = str(request["word"]).encode(), int(request["guests"])
    give_up = time.monotonic() + float(request["within_s"])
    came = 0
    try:
        door = socket.create_server((str(request["address"]), 0))
    except OSError as error:
        raise AgentError("no_door", f"nothing can listen at {request['address']}: {error}") from error
    with door:
        door.settimeout(STEP_S)
        emit({"port": door.getsockname()[1]})
        while came < guests and time.monotonic() < give_up:
            try:
                guest, _ = door.accept()
            except socket.timeout:
                alive()
                continue
            came += _is_known(guest, word)
    return {"came": came}


def _is_known(guest: socket.socket, word: bytes) -> bool:
    """Let somebody in who says the word, and say it back."""
    with guest:
        try:
            guest.settimeout(STEP_S)
            if _heard(guest, len(word)) != word:
                return False
            guest.sendall(word)
        except OSError:
            return False
        return True


def _heard(talker: socket.socket, size: int) -> bytes:
    said = b""
    while len(said) < min(size, LONGEST_WORD):
        more = talker.recv(size - len(said))
        if not more:
            break
        said += more
    return said


def op_knock(request: dict[str, Any]) -> dict[str, Any]:
    """Connect to a door and say its word; `why` says what came of it instead of an answer; "": it was opened."""
    word = str(request["word"]).encode()
    try:
        with socket.create_connection(
            (str(request["address"]), int(request["port"])), timeout=float(request["within_s"])
        ) as door:
            door.sendall(word)
            return {"why": "" if _heard(door, len(word)) == word else "somebody else answers there"}
    except OSError as error:
        return {"why": str(error) or type(error).__name__}
