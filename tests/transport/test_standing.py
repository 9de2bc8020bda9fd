"""The standing agent: many requests over one channel, on a real sshd."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.transport.agent import Agent
from orchestrator.transport.job import Job
from orchestrator.transport.ssh import SshTransport
from orchestrator.transport.standing import WINDOW
from orchestrator.words.errors import ConnectionLost
from tests.transport.sshd import Sshd

SHORT_LINES = """
import sys
def op_lease(request):
    sys.stdout.write("".join('{"n": %d}\\n' % n for n in range(30000)))
    sys.stdout.flush()
    return {}
"""


@pytest.fixture
def agent(server: Sshd, transport: SshTransport) -> Agent:
    """The agent of the server, greeted."""
    made = Agent(transport, workspace="/nowhere")
    made.hello()
    return made


def eventually(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def standing(server: Sshd) -> list[bytes]:
    """The command lines of the agents that stand; the forks that carry out requests have the same."""
    return [line for line in server.command_lines() if line.endswith(b"\0standing\0")]


def job(server: Sshd, name: str, command: str, clears: str = "") -> Job:
    return Job(id=name, command=command, cwd=str(server.workspace), timeout_s=60, clears=clears)


def test_a_hundred_requests_at_the_same_time_need_one_channel(server: Sshd, agent: Agent, transport: SshTransport):
    """Requests of many threads are all answered, each with its own answer, and one channel is open meanwhile."""
    for number in range(100):
        agent.write(f".gpuplan/{number}", str(number))
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(lambda n: agent.read(f".gpuplan/{n}"), range(100))) == [str(n) for n in range(100)]
    assert [link.in_use for link in transport._links] == [1]
    assert len(standing(server)) == 1


def test_a_slow_listener_holds_up_nobody(server: Sshd, agent: Agent):
    """While one request's answer is not taken, others are answered; what comes late is whole."""
    taking, heard = threading.Event(), list[str]()

    def slow(text: str, _offset: int) -> None:
        assert taking.wait(30)
        heard.append(text)

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(agent.run, job(server, "talks", "seq 1 300000"), 0, slow)
        eventually(lambda: any(info.state == "ended" for info in agent.jobs()))
        assert [info.job for info in agent.jobs()] == ["talks"]
        taking.set()
        end = following.result(60)
    assert end is not None
    assert "".join(heard) == "".join(f"{n}\n" for n in range(1, 300_001))


def test_nobody_is_told_more_than_they_may_be(server: Sshd, agent: Agent):
    """A request that answers in short lines, all at once, says none beyond the window, and the rest when it may."""
    (place,) = (server.home / ".gpuplan").glob("agent-*/gpuplan_agent/leases.py")
    place.write_text(SHORT_LINES)
    program, lines = place.parents[1], [b'{"n": %d}' % n for n in range(30_000)]
    with subprocess.Popen(
        [sys.executable, program, "standing"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"HOME": str(server.home), "WORKSPACE": str(server.workspace)},
    ) as process:
        assert process.stdin
        assert process.stdout

        def say(words: bytes) -> None:
            process.stdin.write(words)
            process.stdin.flush()

        say(b'{"id": 1, "request": {"op": "lease"}}\n')
        heard, owed = list[bytes](), 0
        for line in process.stdout:
            if line == b'{"id": 1, "exit": 0}\n':
                break
            heard.append(line.removeprefix(b'{"id": 1, "line": ').removesuffix(b"}\n"))
            owed += len(line)
            assert owed < WINDOW + 100
            if owed >= WINDOW:
                say(b'{"id": 2, "request": {"op": "jobs"}}\n')  # whoever is told nothing now holds up nobody
                others = list(itertools.takewhile(lambda other: other != b'{"id": 2, "exit": 0}\n', process.stdout))
                assert [other for other in others if not other.startswith(b'{"id": 2')] == []
                say(b'{"id": 1, "taken": %d}\n' % owed)
                owed = 0
        assert heard == [*lines, b'{"ok": true}']


def test_a_step_is_one_request(server: Sshd, agent: Agent, transport: SshTransport):
    """Clearing, starting and following a job is one request, and asked again it attaches to the same job."""
    agent.write(".gpuplan/done/x.json", "{}")
    started = list[bool]()
    log = list[str]()
    begun = job(server, "j", "echo once >> runs; echo said; exit 3", clears=".gpuplan/done/x.json")
    for _ in range(2):
        end = agent.run(begun, 0, lambda text, _: log.append(text), on_start=lambda: started.append(True))
        assert end is not None
        assert end.exit == 3
    assert (server.workspace / "runs").read_text() == "once\n"
    assert (log, started) == (["said\n"] * 2, [True] * 2)
    assert agent.read(".gpuplan/done/x.json") is None
    assert sum(link.in_use for link in transport._links) == 1


def test_it_ends_with_its_connection(server: Sshd, agent: Agent):
    """A cut ends the agent that stood, and what follows a job gets ConnectionLost; the next request has a new one."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(agent.run, job(server, "j", "while [ ! -e go ]; do sleep 0.05; done"), 0, print)
        eventually(lambda: bool(list(server.home.glob(".gpuplan/jobs/j/pid"))))
        server.cut()
        with pytest.raises(ConnectionLost):
            following.result(30)
    eventually(lambda: len(standing(server)) == 1)  # the job's supervisor
    (server.workspace / "go").touch()
    assert [info.job for info in agent.jobs()] == ["j"]
    agent.transport.close()
    eventually(lambda: not standing(server))


def test_a_request_that_is_given_up_is_ended(server: Sshd, agent: Agent):
    """Who stops listening ends the request's own process, and the standing agent answers on."""
    listening = threading.Event()
    begun = job(server, "j", "while [ ! -e go ]; do echo x; sleep 0.02; done")
    assert agent.run(begun, 0, lambda *_: listening.set(), stop=listening.is_set) is None
    eventually(lambda: len(standing(server)) == 2)  # the one that stands, and the job's supervisor
    (server.workspace / "go").touch()
    eventually(lambda: len(standing(server)) == 1)
    assert agent.jobs()[0].state == "ended"


def test_an_agent_that_does_not_stand_answers_single_calls(server: Sshd, transport: SshTransport):
    """Where the standing agent ends without a word, each request has a process of its own, and the answer is right."""
    Agent(transport, workspace="/nowhere").install()
    (place,) = (server.home / ".gpuplan").glob("agent-*/gpuplan_agent/standing.py")
    place.write_text("raise SystemExit(9)")
    agent = Agent(transport, workspace="/nowhere")
    assert agent.hello().workspace == str(server.workspace)
    agent.write(".gpuplan/x", "1")
    end = agent.run(job(server, "j", "true", clears=".gpuplan/x"), 0, print)
    assert end is not None
    assert end.exit == 0
    assert agent.read(".gpuplan/x") is None
    assert standing(server) == []


def test_the_answer_to_a_broken_operation_says_why(server: Sshd, agent: Agent, tmp_path: Path):
    """An operation that breaks is AgentFailed with the interpreter's last words, and nobody else is harmed."""
    (place,) = (server.home / ".gpuplan").glob("agent-*/gpuplan_agent/leases.py")
    place.write_text("def op_lease(request): raise RuntimeError('no more room in the inn')")
    with pytest.raises(Exception, match="no more room in the inn"):
        agent.lease("v", "r", 1)
    assert agent.jobs() == []
