"""The faults of the stores, the hub and the GPUs that a rehearsal can switch on. The clouds have their own."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import Any

FAULTS = {
    "hub-429": "the next N requests (1) to the hub's API answer 429 with Retry-After",
    "hub-503": "the next N downloads (1) answer 503",
    "hub-cut": "the next N bodies (1) of the hub end half-way",
    "hub-corrupt": "the next N bodies (1) of the hub have a wrong byte in their middle",
    "s3-503": "the next N parts (1) are refused by S3 with SlowDown",
    "s3-expired": "the next N parts (1) are refused as signed too long ago",
    "s3-cut": "the next N parts (1) are received, then the connection drops without an answer",
    "gcs-503": "the next N chunks (1) are refused by GCS",
    "gcs-cut": "the connection drops in the middle of the next N chunks (1)",
    "cuda-late": "the next GPU machine's CUDA calls fail for N cloud-seconds (90)",
    "cuda-never": "the next GPU machine's CUDA calls always fail",
    "cuda-missing": "GPU N (0) of the next GPU machine is listed and cannot be used",
}


@dataclass
class Fault:
    """One armed fault: how often it will still happen, and how often it has."""

    name: str
    arg: str | None
    left: int
    fired: int = 0


class Switches:
    """Armed faults, each taken as often as it was armed for. Safe to use from several threads."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def arm(self, name: str, arg: str | None = None) -> Fault:
        """Arm a fault of FAULTS; for those that say so, `arg` is how many times. ValueError: a wrong name or number."""
        if name not in FAULTS:
            raise ValueError(f"there is no fault {name}; known here: {', '.join(FAULTS)}")
        counted = not name.startswith("cuda-")
        least = 1 if counted else 0
        if arg is not None and not (arg.isdigit() and int(arg) >= least):
            raise ValueError(f"{name}@{arg}: a whole number from {least} up goes behind the @")
        fault = Fault(name, arg, int(arg or 1) if counted else 1)
        with self._lock:
            self._faults.append(fault)
        return fault

    def take(self, name: str) -> bool:
        """Whether this fault is to happen now; counts it as happened."""
        with self._lock:
            for fault in self._faults:
                if fault.name == name and fault.left:
                    fault.left -= 1
                    fault.fired += 1
                    return True
        return False

    def listing(self) -> list[dict[str, Any]]:
        """All faults that were ever armed, as the control page shows them."""
        with self._lock:
            return [asdict(fault) for fault in self._faults]
