"""How long a machine may take for an answer, and how long its answer may be: nothing waits for it without an end."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.transport.refusals import AgentFailed
from orchestrator.words.errors import ConnectionLost

TALKS_S = 5.0  # what was heard of so recently is not lost: it does not come to its end
LONGEST_LINE = 4 << 20  # bytes: a list of some 20,000 files; read, copied and parsed it is some 40 MiB at once
SHORT_ANSWER = 1 << 20  # bytes of an answer that tells how something went
LONGEST_REPLY = 64 << 20  # bytes of one answer, progress included; a step's log is bounded where it is kept


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, each from the request to the end of the answer, however much is said meanwhile; but for `silence_s`."""

    silence_s: float = 20.0  # without a word: the agent says something every 5 s while it works
    request_s: float = 120.0  # for what is answered at once
    stopping_s: float = 15.0  # the same while the run is stopping
    probe_s: float = 120.0  # for each GPU
    bootstrap_s: float = 960.0  # the agent itself gives up after 900
    stop_s: float = 40.0  # beyond the grace that the job has: the agent allows the kernel 30
    put_silence_s: float = 120.0  # a store may take a minute for one part
    work_s: float = 6 * 3600.0  # for what reads or sends whole files


def require(*, quiet_s: float, silence_s: float, late: bool, flooded: bool) -> None:
    """Raise what is wrong with an answer: ConnectionLost when nothing is heard, AgentFailed when it has no end."""
    if quiet_s > silence_s or (late and quiet_s >= min(silence_s, TALKS_S)):
        raise ConnectionLost(f"no answer from the machine within {min(silence_s, quiet_s):.0f} s")
    if late:
        raise AgentFailed("late", "the machine talks on, but does not answer in the time that it has")
    if flooded:
        raise AgentFailed("flood", "the machine's answer is longer than any that makes sense")
