"""A door and those who knock at it, on one machine: who knows the word is let in, others are not."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from orchestrator.transport.agent import Agent
from orchestrator.transport.refusals import AgentFailed
from tests import counted
from tests.unit.engine.stepbench import Here


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """An agent of this computer."""
    here = Here(tmp_path)
    here._env["PATH"] = counted.first_in(here._env["PATH"], tmp_path / "counted")
    found = Agent(here, workspace=str(tmp_path))
    found.install()
    return found


def opened(agent: Agent, word: str, guests: int, within_s: float) -> tuple[int, threading.Thread, list[int]]:
    """A door's port, the thread that holds it open, and how many will have come."""
    port, came, there = [0], list[int](), threading.Event()

    def tell(found: int) -> None:
        port[0] = found
        there.set()

    thread = threading.Thread(target=lambda: came.append(agent.door("127.0.0.1", guests, word, within_s, tell)))
    thread.start()
    assert there.wait(20)
    return port[0], thread, came


def test_who_knows_the_word_is_let_in(agent: Agent):
    """A stranger comes and goes; with the word one is let in, and the door is closed."""
    port, thread, came = opened(agent, "sesame", 1, 20)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as stranger:
        stranger.sendall(b"simsim")
        assert stranger.recv(10) == b""
    assert agent.knock("127.0.0.1", port, "sesame", 10) == ""
    thread.join(20)
    assert came == [1]
    assert "refused" in agent.knock("127.0.0.1", port, "sesame", 2)


def test_a_door_at_which_nobody_knocks_is_closed(agent: Agent):
    """Its time is bounded."""
    _, thread, came = opened(agent, "sesame", 2, 0.1)
    thread.join(20)
    assert came == [0]


def test_an_address_of_another_machine_is_no_place_for_a_door(agent: Agent):
    """What cannot be listened at is said so."""
    with pytest.raises(AgentFailed, match=r"nothing can listen at 192\.0\.2\.1"):
        agent.door("192.0.2.1", 1, "w", 1, lambda _port: None)
