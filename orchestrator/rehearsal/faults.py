"""The switchboard: disasters that are armed by name, and happen once each or as often as they were armed.

An argument is COUNT; for a fault that happens somewhere it is WHERE or WHERE:COUNT. `create-refused-capacity@3`,
`preempt@convert-intellect3`, `ssh-cut@download:2`, `cuda-missing@0`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

AT_A_STEP = {
    "preempt": "the machine that runs the step is taken away a second after the step began",
    "ssh-cut": "every SSH connection of the step's machine is cut once; what runs goes on",
    "hang": "the step's machine answers nobody any more, though its provider says that it runs; a reboot helps",
    "hang-refused": "the same, and its provider refuses to reboot it (409)",
    "hang-for-good": "the same, and a reboot does not help",
}
AT_A_CREATE = {
    "create-reply-lost": "the next create makes the machine, then the connection drops without a reply",
    "create-reply-cut": "the next create makes the machine, then half of the reply's body comes",
    "create-500": "the next create makes the machine, then answers 500",
    "create-refused-capacity": "the next create is refused for want of machines",
    "create-refused-payment": "the next create is refused: 402 on RunPod, account-inactive on Lambda",
    "create-refused-pool": "the next create is refused: 403 on RunPod, quota-exceeded on Lambda",
    "create-refused-access": "RunPod's next create is refused: the key may not do it (403)",
    "price-higher": "RunPod's next new machine costs a quarter more than its catalogue says",
    "spot-gone": "the next N creates (1) of interruptible machines at RunPod are refused for want of machines",
    "volume-dear": "RunPod's next new volume is of the dearer tier, whatever was asked for",
    "volume-reply-lost": "the next create of a volume makes it, then the connection drops without a reply",
}
AT_A_BOOT = {
    "list-lag": "the next new machine is missing from list and GET for a minute",
    "boot-never": "the next new machine goes on booting for ever",
    "boot-old-driver": "RunPod's next new machine has a driver that is too old for images with CUDA 12.8",
    "boot-error": "the next new machine ends its boot as ERROR or unhealthy",
    "boot-no-address": "the next new machine runs and never gets an address",
    "private-address-never": "the next machine that is up never gets an address in the private network",
    "image-old-torch": "the image of the next GPU machine brings torch 2.4.1, whatever its name says",
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
AT_THE_ACCOUNT = {
    "credit-low": "RunPod's account has CENTS (50) left from now on; without any, every machine is stopped",
}
AT_A_STORE = {
    "hub-moved": "the next N questions (1) for a branch find it at another commit than those before",
    "hub-429": "the next N requests (1) to the hub's API answer 429 with Retry-After",
    "hub-503": "the next N downloads (1) answer 503",
    "hub-cut": "the next N bodies (1) of the hub end half-way",
    "hub-stall": "the next N bodies (1) of the hub stop half-way, and their connections stay open",
    "hub-corrupt": "the next N bodies (1) of the hub have a wrong byte in their middle",
    "s3-503": "the next N parts (1) are refused by S3 with SlowDown",
    "s3-busy": "the next N requests (1) of any kind are refused by S3 with SlowDown",
    "s3-expired": "the next N parts (1) are refused as signed too long ago",
    "s3-cut": "the next N parts (1) are received, then the connection drops without an answer",
    "gcs-503": "the next N chunks (1) are refused by GCS",
    "gcs-cut": "the connection drops in the middle of the next N chunks (1)",
}
AT_A_GPU = {
    "cuda-late": "the next GPU machine's CUDA calls fail for N cloud-seconds (90)",
    "cuda-never": "the next GPU machine's CUDA calls always fail",
    "cuda-missing": "GPU N (0) of the next GPU machine is listed and cannot be used",
    "torch-no-kernel": "the torch of the next GPU machine has no kernel for its cards",
}
CLOUD = {**AT_A_STEP, **AT_A_CREATE, **AT_A_BOOT, **AT_A_DELETE, **AT_ANY_CALL, **AT_THE_ACCOUNT}
KNOWN = {**CLOUD, **AT_A_STORE, **AT_A_GPU}

# What WHERE is, and what it is when nothing is said; None: it must be said. The other faults have none.
WHERE = {
    **dict.fromkeys(AT_A_STEP, ("STEP", None)),
    "credit-low": ("CENTS", "50"),
    "cuda-late": ("SECONDS", "90"),
    "cuda-missing": ("GPU", "0"),
}


@dataclass
class Fault:
    """One kind of disaster, at one place or anywhere (""): how often it will still happen, and has."""

    name: str
    where: str
    left: int = 0
    fired: int = 0


class Switchboard:
    """What is armed. Safe to use from several threads; `on_fire` is called in the thread in which a fault happens."""

    def __init__(self) -> None:
        self.on_fire: Callable[[Fault], None] = lambda _fault: None
        self._faults: dict[tuple[str, str], Fault] = {}
        self._lock = threading.Lock()

    def arm(self, name: str, arg: str | None = None) -> Fault:
        """Arm a fault, once more if it is armed already. ValueError: what is wrong with the name or the argument."""
        _, where, count = parse(f"{name}@{arg or ''}")
        with self._lock:
            fault = self._faults.setdefault((name, where), Fault(name, where))
            fault.left += count
        return fault

    def take(self, name: str, where: str = "") -> bool:
        """Whether this fault is to happen now; each call that says yes uses it up once."""
        with self._lock:
            fault = self._faults.get((name, where))
            if fault is None or fault.left < 1:
                return False
            fault.left -= 1
            fault.fired += 1
        self.on_fire(fault)
        return True

    def take_anywhere(self, name: str) -> str | None:
        """Like `take`, at whatever place it is armed for: that place, or None when it is not to happen."""
        with self._lock:
            armed = [f.where for f in self._faults.values() if f.name == name and f.left]
        return next((where for where in armed if self.take(name, where)), None)

    def listing(self) -> list[dict[str, str | int | None]]:
        """Every fault that was ever armed here: `left` is how often it will still happen, `arg` its WHERE or None."""
        with self._lock:
            return [
                {"name": f.name, "arg": f.where or None, "left": f.left, "fired": f.fired}
                for f in self._faults.values()
            ]


def parse(fault: str) -> tuple[str, str, int]:
    """Name, place ("": anywhere) and count of NAME@ARG. ValueError: what is wrong with it."""
    name, _, arg = fault.partition("@")
    if name not in KNOWN:
        raise ValueError(f"there is no fault {name}; known are {', '.join(sorted(KNOWN))}")
    return name, *_argument(name, arg)


def _argument(name: str, text: str) -> tuple[str, int]:
    what, default = WHERE.get(name, ("", ""))
    if not what:
        return "", _count(name, "COUNT", text or "1")
    where, colon, count = text.partition(":")
    where = where or default or ""
    if not where:
        raise ValueError(f"{name} happens at a {what.lower()}: say which ({name}@{what})")
    if name in {**AT_A_GPU, **AT_THE_ACCOUNT} and not where.isdigit():
        raise ValueError(f"{name}@{text}: {what} is a whole number")
    return where, _count(name, f"{what} or {what}:COUNT", count if colon else "1")


def _count(name: str, form: str, text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{name}@{text}: behind the @ comes {form}, with a count of 1 or more")
    return int(text)
