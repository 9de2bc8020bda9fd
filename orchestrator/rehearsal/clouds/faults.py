"""The switchboard: disasters that are armed by name and happen once each, or as often as they were armed.

An argument is STEP, COUNT or STEP:COUNT: `preempt` with `convert-intellect3`, `create-refused-capacity` with `3`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

AT_A_STEP = {
    "preempt": "the machine that runs the step is taken away a second after the step began",
    "ssh-cut": "every SSH connection of the step's machine is cut once; what runs goes on",
}
AT_A_CREATE = {
    "create-reply-lost": "the next create makes the machine, then the connection drops without a reply",
    "create-reply-cut": "the next create makes the machine, then half of the reply's body comes",
    "create-500": "the next create makes the machine, then answers 500",
    "create-refused-capacity": "the next create is refused for want of machines",
    "create-refused-payment": "the next create is refused: 402 on RunPod, account-inactive on Lambda",
    "create-refused-pool": "the next create is refused: 403 on RunPod, quota-exceeded on Lambda",
    "volume-reply-lost": "the next create of a volume makes it, then the connection drops without a reply",
}
AT_A_BOOT = {
    "list-lag": "the next new machine is missing from list and GET for a minute",
    "boot-never": "the next new machine goes on booting for ever",
    "boot-error": "the next new machine ends its boot as ERROR or unhealthy",
    "boot-no-address": "the next new machine runs and never gets an address",
    "boot-no-gpu": "the next machine that boots has no GPU, though it was rented with some",
}
AT_A_DELETE = {
    "delete-still-listed": "the next delete is accepted, but the machine stays listed for a while and bills on",
    "delete-500": "the next delete ends the machine, then answers 500",
    "delete-404": "the next delete answers 404 while the machine goes on",
    "delete-refused": "the next delete is refused with 503 and does nothing",
}
AT_ANY_CALL = {
    "rate-limited": "the next request is answered with 429",
    "front-door": "RunPod's next request meets a 403 in HTML, as a client without User-Agent does",
    "unavailable": "the next request is answered with 503 and does nothing",
    "status-unknown": "the next reply that shows a machine has a status that no document knows",
    "graphql-gone": "RunPod's next GraphQL request is answered with 410",
    "graphql-null": "RunPod's next GraphQL create answers null without an error and makes nothing",
}
KNOWN = {**AT_A_STEP, **AT_A_CREATE, **AT_A_BOOT, **AT_A_DELETE, **AT_ANY_CALL}


@dataclass
class Fault:
    """One kind of disaster, at one step or anywhere (""): how often it will still happen, and has."""

    name: str
    step: str
    armed: int = 0
    fired: int = 0


@dataclass
class Faults:
    """What is armed."""

    _faults: dict[tuple[str, str], Fault] = field(default_factory=dict)
    on_fire: Callable[[Fault], None] = lambda _fault: None

    def arm(self, name: str, arg: str | None = None) -> None:
        """Arm a fault. ValueError says what is wrong with the name or the argument."""
        if name not in KNOWN:
            raise ValueError(f"there is no fault {name!r}; known are {', '.join(sorted(KNOWN))}")
        step, count = _argument(arg or "")
        if name in AT_A_STEP and not step:
            raise ValueError(f"{name} happens at a step: say which ({name}@STEP)")
        fault = self._faults.setdefault((name, step), Fault(name, step))
        fault.armed += count

    def take(self, name: str, step: str = "") -> bool:
        """Whether this fault is to happen now; each call that says yes uses it up once."""
        fault = self._faults.get((name, step))
        if fault is None or fault.armed < 1:
            return False
        fault.armed -= 1
        fault.fired += 1
        self.on_fire(fault)
        return True

    def listing(self) -> list[dict[str, str | int | None]]:
        """Every fault that was ever armed here: `left` is how often it will still happen, `arg` its step or None."""
        return [
            {"name": f.name, "arg": f.step or None, "left": f.armed, "fired": f.fired} for f in self._faults.values()
        ]


def _argument(text: str) -> tuple[str, int]:
    step, _, count = text.rpartition(":")
    if not step and text.isdigit():
        step, count = "", text
    elif not step:
        step, count = text, "1"
    if not count.isdigit() or int(count) < 1:
        raise ValueError(f"{text!r} is not STEP, COUNT or STEP:COUNT with a count of 1 or more")
    return step, int(count)
