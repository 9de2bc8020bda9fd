"""The agent's refusals and its nonsense, as errors; every answer comes through here on its way to its type."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from orchestrator.transport.shapes import Moment, Text, json_in, shaped
from orchestrator.words.errors import StepFailed
from orchestrator.words.outside import quoted

T = TypeVar("T")
EPOCH = datetime.fromtimestamp(0, UTC)
NOISE = 1000  # bytes that are kept of what is no answer


class AgentFailed(StepFailed):
    """The agent was reached and did not do it. `code` is one of its words."""

    def __init__(self, code: str, message: str, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.code = code


class GpuFailed(AgentFailed):
    """A GPU is missing (no_gpu) or fails a CUDA call (gpu_fault)."""


class TorchFailed(AgentFailed):
    """The torch that steps would see does not compute on the machine's cards."""


class DeadmanExpired(AgentFailed):
    """No heartbeat came for too long: the machine starts nothing more and ends its bill."""


class LeaseHeld(AgentFailed):
    """Somebody else has the lease: `holder`, until `expires` by the machine's clock."""

    holder = ""
    expires = EPOCH


CLASSES: dict[str, type[AgentFailed]] = {
    "no_gpu": GpuFailed,
    "gpu_fault": GpuFailed,
    "torch": TorchFailed,
    "deadman": DeadmanExpired,
    "held": LeaseHeld,
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """The last line of an answer that is a no."""

    code: Text = "broken"
    message: Text = ""
    holder: Text = ""  # of a lease
    expires: Moment = EPOCH


def failure(op: str, reply: object) -> AgentFailed:
    """The error that a refusal stands for."""
    try:
        said = shaped(Refusal, reply)
    except ValueError as error:
        return senseless(op, str(error))
    code = quoted(said.code, 40)
    found = CLASSES.get(code, AgentFailed)(code, f"{op}: {quoted(said.message, NOISE) or code}")
    if isinstance(found, LeaseHeld):
        found.holder, found.expires = quoted(said.holder), said.expires
    return found


def senseless(op: str, why: str) -> AgentFailed:
    """The error for an answer that is not of its type."""
    return AgentFailed("broken", f"{op}: what the machine answers makes no sense: {quoted(why)}")


def object_in(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line; None: it is none."""
    try:
        found = json_in(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def accept(op: str, kind: type[T], reply: dict[str, Any]) -> T:
    """The last line of an answer. AgentFailed: it is a refusal, or not of its type."""
    if reply.get("ok") is not True:
        raise failure(op, reply)
    return read(op, kind, reply)


def read(op: str, kind: type[T], found: object) -> T:
    """One line as the type that it is to have. AgentFailed: it has another."""
    try:
        return shaped(kind, found)
    except ValueError as error:
        raise senseless(op, str(error)) from error


def broken(op: str, code: int, said: bytes) -> AgentFailed:
    """The error for an agent that ended with `code` and said that instead of an answer."""
    text = said[-NOISE:].decode("utf-8", "replace").strip().splitlines()
    last = quoted(text[-1]) if text else "it said nothing"
    return AgentFailed("broken", f"the agent ended with {code} in {op}: {last}")
