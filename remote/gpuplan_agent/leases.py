"""Leases on the volume: one holder at a time, on network file systems too.

A lease is a row of files NAME.1, NAME.2, ... of which the highest number counts. A new number is made by link(2), which
fails if the name is there, on NFS as well; so of many who find a lease expired, one gets the next number. The holder
renews by renaming over its own number; whoever finds a higher one has lost the lease.

No two machines' clocks are compared. A lease is free when it was released; whoever wants one that was not looks at it
for a whole time to live, by a clock of its own that is never set: a holder that lives has renewed it by then. The
`expires` in it is for people, and for older versions.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from gpuplan_agent.places import file_name, workspace, write_atomic
from gpuplan_agent.wire import AgentError, alive

TRIES = 50
LONGEST_LOOK_S = 1.0  # between two looks at a lease that somebody else has


def op_lease(request: dict[str, Any]) -> dict[str, Any]:
    """Acquire, renew, release or await a lease. `held`: somebody else has it; the reply names the holder.

    acquire takes one that is free; await takes one that nobody renews for `ttl_s` too, and is held when somebody does.
    """
    folder = os.path.join(workspace(request), ".gpuplan", "leases")
    os.makedirs(folder, exist_ok=True)
    lease = Lease(os.path.join(folder, file_name(request["name"])), request["holder"])
    if request["action"] == "release":
        lease.release()
        return {"expires": 0.0}
    if request["action"] not in ("acquire", "renew", "await"):
        raise AgentError("bad_request", f"a lease cannot be {request['action']!r}")
    ttl_s = float(request["ttl_s"])
    abandoned = lease.abandoned(ttl_s) if request["action"] == "await" else 0
    for _ in range(TRIES):
        expires = time.time() + ttl_s
        if lease.take(expires, renew=request["action"] == "renew", abandoned=abandoned):
            return {"expires": expires}
    raise AgentError("busy", f"too many are after the lease {request['name']!r}")


class Lease:
    """One lease, as seen by one holder."""

    def __init__(self, base: str, holder: str) -> None:
        self.base, self.holder = base, holder

    def numbers(self) -> list[int]:
        """The numbers that are there, rising."""
        folder, name = os.path.split(self.base)
        ends = [entry[len(name) + 1 :] for entry in os.listdir(folder) if entry.startswith(name + ".")]
        return sorted(int(end) for end in ends if end.isdigit())

    def take(self, expires: float, *, renew: bool, abandoned: int = 0) -> bool:
        """Take or keep the lease; False: somebody was quicker, look again. AgentError held: it is not to be had.

        `abandoned`: a number that counts as free, whoever has it.
        """
        newest = (self.numbers() or [0])[-1]
        entry = self._read(newest)
        if entry is None:
            return False
        free = not entry["expires"] or (newest == abandoned and newest != 0)
        if entry["holder"] == self.holder and not free:
            self._write(newest, expires)
            return self.numbers()[-1] == newest
        if renew or not free:
            raise _held(entry)
        return self._next(newest, expires)

    def abandoned(self, ttl_s: float) -> int:
        """The number that nobody renewed while we looked at it for `ttl_s`; 0: it is free, or ours, without a wait.

        AgentError held: it was renewed meanwhile.
        """
        newest, first = self._look()
        until = time.monotonic() + ttl_s
        while first["expires"] and first["holder"] != self.holder:
            if time.monotonic() >= until:
                return newest
            alive()
            time.sleep(min(LONGEST_LOOK_S, ttl_s / 10))
            now, entry = self._look()
            if (now, entry) != (newest, first) and entry["expires"]:
                raise _held(entry)
            newest, first = now, entry
        return 0

    def _look(self) -> tuple[int, dict[str, Any]]:
        """The newest number, and what it says."""
        while True:
            newest = (self.numbers() or [0])[-1]
            entry = self._read(newest)
            if entry is not None:
                return newest, entry

    def _next(self, newest: int, expires: float) -> bool:
        """Make the next number, if nobody else does and none higher is there already."""
        temporary = f"{self.base}.{os.getpid()}.{os.urandom(4).hex()}.new"
        write_atomic(temporary, self._text(self.holder, expires))
        try:
            os.link(temporary, self._path(newest + 1))
        except FileExistsError:
            return False
        finally:
            os.unlink(temporary)
        numbers = self.numbers()
        if numbers[-1] != newest + 1:  # we looked long ago: the number was removed meanwhile, and is ours in vain
            self._remove(newest + 1)
            return False
        for number in numbers[:-1]:
            self._remove(number)
        return True

    def release(self) -> None:
        """Let the lease go if we have it."""
        newest = (self.numbers() or [0])[-1]
        entry = self._read(newest)
        if newest and entry and entry["holder"] == self.holder:
            self._write(newest, 0.0)

    def _read(self, number: int) -> dict[str, Any] | None:
        """What a number says; None: it was removed just now."""
        if number == 0:
            return {"holder": "", "expires": 0.0}
        try:
            with open(self._path(number), encoding="utf-8") as file:
                return dict(json.load(file))
        except FileNotFoundError:
            return None

    def _write(self, number: int, expires: float) -> None:
        write_atomic(self._path(number), self._text(self.holder, expires))

    def _path(self, number: int) -> str:
        return f"{self.base}.{number}"

    def _remove(self, number: int) -> None:
        try:
            os.unlink(self._path(number))
        except FileNotFoundError:  # another one tidied up
            return

    @staticmethod
    def _text(holder: str, expires: float) -> bytes:
        # The beat makes every renewal another text, whatever the clock says.
        return json.dumps({"holder": holder, "expires": expires, "beat": os.urandom(4).hex()}).encode()


def _held(entry: dict[str, Any]) -> AgentError:
    return AgentError(
        "held", f"held by {entry['holder'] or 'nobody'}", holder=entry["holder"], expires=entry["expires"]
    )
