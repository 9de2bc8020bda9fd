"""Many requests at the same time to one standing agent (remote/gpuplan_agent/standing.py says what goes to and fro)."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable

from orchestrator.transport.conversation import Conversation
from orchestrator.transport.limits import LONGEST_LINE, require
from orchestrator.transport.refusals import AgentFailed
from orchestrator.words.errors import ConnectionLost

WINDOW = 1 << 18  # bytes that the agent says to a request before it waits for us
MOST_WAITING = LONGEST_LINE + (4 << 20)  # bytes that were said to all requests together and not yet dealt with
STOP_LOOK_S = 0.1  # how often a request to which something is said asks whether it is to stop
QUIET_LOOK_S = 0.25  # and one to which nothing is
MOST_NOISE = 1 << 20  # bytes that belong to no request
SIGNALLED = -1
NEVER = float("-inf")
_FRAME = re.compile(rb'\{"id": (\d{1,15}), "(line|said|exit)": ')


class NeverAnswered(Exception):
    """The standing agent ended, with `code`, without ever having said a word that is to be understood."""

    def __init__(self, code: int) -> None:
        super().__init__(f"it ended with {code}")
        self.code = code


class _Asked:
    """One request under way: what was said to it and not yet taken."""

    def __init__(self, lock: threading.Lock) -> None:
        self.changed = threading.Condition(lock)
        self.lines: deque[bytes] = deque()
        self.waiting = 0  # bytes in `lines`
        self.heard = time.monotonic()
        self.exit: int | None = None
        self.error: Exception | None = None


class Standing:
    """The controller's side of one standing agent. Thread-safe. It ends with its conversation, for good."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._lock = threading.Lock()  # guards all that follows
        self._asked: dict[int, _Asked] = {}
        self._left: dict[int, int] = {}  # requests that nobody waits for any more, and what came for them since
        self._number = 0
        self._end: Exception | None = None  # why nothing comes any more
        self._heard, self._noise = NEVER, 0
        threading.Thread(target=self._read, name="agent", daemon=True).start()

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return self._end is None

    def close(self) -> None:
        """End it; whoever waits for an answer gets ConnectionLost."""
        self._fail(ConnectionLost("the connection was closed"))
        self._conversation.close()

    def stream(
        self,
        request: bytes,
        on_line: Callable[[bytes], None],
        *,
        silence_s: float,
        timeout_s: float,
        most_bytes: float,
        stop: Callable[[], bool],
    ) -> int:
        """What Transport.stream does with a command of its own. NeverAnswered: it is to be tried that way."""
        began = time.monotonic()
        number, asked = self._begin(request)
        try:
            return self._follow(number, asked, on_line, silence_s, began + timeout_s, most_bytes, stop)
        except ConnectionLost:
            if self._heard < began:  # not that request alone: nothing is heard at all
                self.close()
            raise
        finally:
            self._leave(number, asked)

    def _begin(self, request: bytes) -> tuple[int, _Asked]:
        with self._lock:
            if self._end:
                raise self._end
            self._number += 1
            asked = self._asked[self._number] = _Asked(self._lock)
            self._conversation.say(b'{"id": %d, "request": %s}\n' % (self._number, request))
            return self._number, asked

    def _follow(
        self,
        number: int,
        asked: _Asked,
        on_line: Callable[[bytes], None],
        silence_s: float,
        deadline: float,
        most_bytes: float,
        stop: Callable[[], bool],
    ) -> int:
        looked = NEVER
        while True:
            with self._lock:
                lines, size = list(asked.lines), asked.waiting
                asked.lines.clear()
                asked.waiting = 0
                ended, error = asked.exit, asked.error
            for line in lines:
                on_line(line)
            most_bytes -= size
            now = time.monotonic()
            if size:
                asked.heard = now  # we may have taken our time, and it waited for us
                self._conversation.say(b'{"id": %d, "taken": %d}\n' % (number, size))
            if error:
                raise error
            if ended is not None and most_bytes >= 0:
                return ended
            require(quiet_s=now - asked.heard, silence_s=silence_s, late=now > deadline, flooded=most_bytes < 0)
            if now - looked >= STOP_LOOK_S:
                looked = now
                if stop():
                    return SIGNALLED
            with self._lock:
                pause = max(0.0, min(QUIET_LOOK_S, asked.heard + silence_s - now, deadline - now))
                asked.changed.wait_for(lambda: asked.lines or asked.exit is not None or asked.error, pause)

    def _leave(self, number: int, asked: _Asked) -> None:
        with self._lock:
            del self._asked[number]
            if asked.exit is None and not self._end:
                self._left[number] = asked.waiting
                self._conversation.say(b'{"id": %d, "cancel": true}\n' % number)

    # --- the thread that reads ---

    def _read(self) -> None:
        try:
            for line in self._conversation.lines():
                self._hear(line)
            if not self._end:
                self._ended(self._conversation.exit())
        except (ConnectionLost, AgentFailed) as error:
            self._fail(error)
        finally:
            self._conversation.close()

    def _hear(self, line: bytes) -> None:
        """Give a line to the request that it is for. AgentFailed: it says more than it may."""
        frame = _FRAME.match(line)
        number, size = (int(frame[1]) if frame else 0), len(line) + 1
        with self._lock:
            if frame is None or not (number in self._asked or number in self._left):
                self._noise += size
                if self._noise > MOST_NOISE:
                    raise AgentFailed("flood", "the machine says what nobody has asked for")
                return
            self._heard = time.monotonic()
            kind, value = frame[2], line[frame.end() : -1]
            if number in self._left:
                self._ignore(number, kind, size)
                return
            asked = self._asked[number]
            if asked.error or asked.exit is not None:
                return
            asked.heard = self._heard
            if kind == b"exit":
                asked.exit = int(value) if value.isdigit() and len(value) < len("1000") else SIGNALLED
            elif asked.waiting > WINDOW or self._all_waiting() + size > MOST_WAITING:  # it was to wait for us
                asked.error = AgentFailed("flood", "the machine says more than it was asked for")
            else:
                asked.lines.append(value)
                asked.waiting += size
            asked.changed.notify_all()

    def _all_waiting(self) -> int:
        return sum(asked.waiting for asked in self._asked.values())

    def _ignore(self, number: int, kind: bytes, size: int) -> None:
        self._left[number] += size
        if kind == b"exit":
            del self._left[number]
        elif self._left[number] > WINDOW + LONGEST_LINE:
            raise AgentFailed("flood", "the machine goes on with what nobody listens to")

    def _ended(self, code: int) -> None:
        """The agent has ended by itself."""
        if self._heard == NEVER:
            self._fail(NeverAnswered(code))
        else:
            self._fail(ConnectionLost(f"the agent on the machine ended with {code}"))

    def _fail(self, error: Exception) -> None:
        """Nothing comes any more."""
        with self._lock:
            self._end = self._end or error
            for asked in self._asked.values():
                asked.error = asked.error or self._end
                asked.changed.notify_all()
