"""An agent that was replaced by something else: every operation comes to an end, in its time and within its bytes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.transport.agent import Agent
from orchestrator.transport.job import Job
from orchestrator.transport.limits import Limits
from orchestrator.transport.replies import AgentFailed
from orchestrator.transport.ssh import SshTransport
from orchestrator.words.errors import ConnectionLost
from orchestrator.words.ports import Part, SignedPart, Transport
from tests.transport.sshd import Sshd

SHORT = Limits(
    silence_s=0.3,
    request_s=0.4,
    stopping_s=0.4,
    probe_s=0.3,
    bootstrap_s=0.4,
    stop_s=0.4,
    put_silence_s=0.3,
    work_s=0.4,
)
PATIENT = Limits(silence_s=300, request_s=300, work_s=300)
ASKED = """import json, sys
def say(kind, value, number=None):
    print('{"id": %d, "%s": %s}' % (number or asked['id'], kind, value), flush=True)
for asked in map(json.loads, sys.stdin)"""
PROGRAMS = {
    "nothing": "import time; time.sleep(600)",
    "empty": "import time\nwhile True: print('{}', flush=True); time.sleep(0.025)",
    "half a line": "import time; print('{\"ok\": tr', end='', flush=True); time.sleep(600)",
    "half a line and the end": "print('{\"ok\": tr', end='')",
    "a flood of lines": "while True: print('{\"log\": 1}')",
    "a line without an end": "while True: print('x' * 65536, end='')",
    "no object": "print('[1]')",
    "a pit": "print('[' * 100000)",
    # and what only speaks the standing agent's own words
    "an answer to all": f"{ASKED}: say('line', '{{\"log\": 1}}')",
    "a flood for each": f"{ASKED}:\n while True: say('line', '{{\"log\": 1, \"offset\": 1}}')",
    "a flood for nobody": f"{ASKED}:\n while True: say('line', '1', 10**9)",
    "an end at once": f"{ASKED}: say('exit', '0')",
    "an end that is no number": f"{ASKED}: say('exit', '9' * 10000)",
}
PART = SignedPart(Part(1, 0, 1, ""), "http://127.0.0.1:9/", {}, (200,))
OPERATIONS: dict[str, Callable[[Agent], object]] = {
    "hello": Agent.hello,
    "probe": lambda agent: agent.probe(1),
    "bootstrap": Agent.bootstrap,
    "code": lambda agent: agent.code("0" * 32, kept=False),
    "view": Agent.view,
    "heartbeat": lambda agent: agent.heartbeat(60, ""),
    "start": lambda agent: agent.start(Job(id="j", command="true", cwd="/", timeout_s=1)),
    "follow": lambda agent: agent.follow("j", 0, lambda _text, _offset: None, timeout_s=0.4),
    "stdout": lambda agent: agent.stdout("j", lambda _text: None, timeout_s=0.4),
    "stop": lambda agent: agent.stop("j", grace_s=0),
    "jobs": Agent.jobs,
    "files": lambda agent: agent.files("/", ["*"]),
    "read": lambda agent: agent.read("x"),
    "write": lambda agent: agent.write("x", ""),
    "names": lambda agent: agent.names("x"),
    "remove": lambda agent: agent.remove("x"),
    "clean_incomplete": lambda agent: agent.clean_incomplete("x"),
    "lease": lambda agent: agent.lease("v", "r", 1),
    "checksums": lambda agent: agent.checksums("/x", 1),
    "put": lambda agent: agent.put("/x", [PART]),
}


class SingleCalls:
    """A transport that can do no more than ports.Transport asks for."""

    def __init__(self, transport: SshTransport) -> None:
        self.run, self.stream, self.send = transport.run, transport.stream, transport.send
        self.fetch, self.close = transport.fetch, transport.close


@pytest.fixture(params=["standing", "single"])
def way(request: pytest.FixtureRequest, transport: SshTransport) -> Transport:
    """How requests reach the agent: over one that stands, or each by a call of its own."""
    return transport if request.param == "standing" else SingleCalls(transport)


def turned(server: Sshd, transport: Transport, program: str, limits: Limits) -> Agent:
    """The controller's side of a machine whose agent was replaced by `program`."""
    agent = Agent(transport, workspace="/nowhere", limits=limits)
    Agent(transport, workspace="/nowhere").install()
    (place,) = (server.home / ".gpuplan").glob("agent-*/__main__.py")
    place.write_text(program)
    return agent


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_every_operation_comes_to_an_end(server: Sshd, way: Transport, program: str):
    """Whatever the machine says or does not say, each call ends by its own deadline in an error of ours."""
    agent = turned(server, way, program, SHORT)

    def ends(name: str) -> type[Exception] | None:
        try:
            OPERATIONS[name](agent)
        except (AgentFailed, ConnectionLost) as error:
            return type(error)
        return None

    with ThreadPoolExecutor(6) as pool:
        found = dict(zip(OPERATIONS, pool.map(ends, OPERATIONS), strict=True))
    assert [name for name, error in found.items() if error is None] == []


@pytest.mark.parametrize("operation", ["hello", "files", "follow"])
def test_a_gigabyte_is_not_taken_in(server: Sshd, way: Transport, operation: str):
    """A line without an end is AgentFailed long before it fills the memory, however much time there is."""
    agent = turned(server, way, "for _ in range(1 << 14): print('x' * 65536, end='')", PATIENT)
    tracemalloc.start()
    with pytest.raises(AgentFailed) as failed:
        OPERATIONS[operation](agent) if operation != "follow" else agent.follow("j", 0, lambda _text, _offset: None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert failed.value.code == "flood"
    assert peak < 64 << 20
