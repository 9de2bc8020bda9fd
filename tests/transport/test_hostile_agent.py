"""An agent that was replaced by something else: every operation comes to an end, in its time and within its bytes."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from orchestrator.transport.agent import Agent
from orchestrator.transport.limits import LONGEST_LINE, Limits, require
from orchestrator.transport.refusals import AgentFailed
from orchestrator.transport.ssh import SshTransport
from orchestrator.words.errors import ConnectionLost
from orchestrator.words.transport import Transport
from tests.transport.agent_operations import OPERATIONS
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


class SingleCalls:
    """A transport that can do no more than Transport asks for."""

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


FINE = {"quiet_s": 19.0, "silence_s": 20.0, "late": False, "flooded": False}


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        ({"quiet_s": 0.0, "late": True}, AgentFailed, "in the time that it has"),
        ({"quiet_s": 0.0, "flooded": True}, AgentFailed, "longer than any"),
        ({"quiet_s": 6.0, "late": True}, ConnectionLost, "no answer"),
        ({"quiet_s": 21.0}, ConnectionLost, "no answer"),
    ],
    ids=["talks on", "floods", "late and quiet", "silent"],
)
def test_an_answer_has_a_time_and_a_size(answer: dict[str, Any], error: type[Exception], said: str):
    """Talking does not prolong a call, and there is no answer without an end."""
    limits: dict[str, Any] = FINE | answer
    with pytest.raises(error, match=said):
        require(**limits)


GREEDY = {  # Python text of what one line holds
    "a line without an end": """'"' + 'x' * (1 << 25)""",
    "the longest line": """'"' + 'x' * SIZE + '"'""",
    "four bytes a letter": r"""'"\ud83d\ude00' + 'x' * SIZE + '"'""",
    "small values": """'[' + '[],' * (SIZE // 3) + '0]'""",
    "small objects": """'[' + '{"":0},' * (SIZE // 7) + '0]'""",
    "a pit": "'[' * SIZE",
}
GREEDY_AGENT = """import json, sys
SIZE, standing = {size}, len(sys.argv) > 1
for asked in map(json.loads, sys.stdin):
    if 'request' not in asked and standing:
        continue
    for before, after in [('{{"log": ', ', "offset": 1}}'), ('{{"ok": true, "x": ', '}}')]:
        if standing:
            before, after = '{{"id": %d, "line": ' % asked['id'] + before, after + '}}'
        print(before + {value} + after, flush=True)
    if not standing:
        break
    print('{{"id": %d, "exit": 0}}' % asked['id'], flush=True)
"""


@pytest.mark.parametrize("value", GREEDY.values(), ids=GREEDY)
def test_no_answer_takes_the_memory(server: Sshd, way: Transport, value: str):
    """Whatever a line holds, and whatever is asked at the same time, at most 64 MiB are held for it at once."""
    program = GREEDY_AGENT.format(size=LONGEST_LINE - 100, value=value)
    agent = turned(server, way, program, PATIENT)

    def ask(operation: str) -> type[Exception] | None:
        try:
            OPERATIONS[operation](agent)
        except (AgentFailed, ConnectionLost) as error:
            return type(error)
        return None

    tracemalloc.start()
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ask, ["hello", "files", "follow", "read", "put", "stop"]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert None not in found
    assert peak < 64 << 20
