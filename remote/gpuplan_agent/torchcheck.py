"""Whether the torch of this Python computes on each of the first N cards: `python torchcheck.py N`.

A package that was built for another driver, or without kernels for the card's architecture, is found out by nothing
less than a product of matrices. Run by the Python of the steps, which sees the torch that they will see.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

SIDE = 64


def main(arguments: list[str]) -> int:
    """Exit code 0: it does; 1: what is wrong is the last line."""
    try:
        torch: Any = importlib.import_module("torch")
    except Exception as error:  # noqa: BLE001  whatever a broken package raises
        return _failed("torch cannot be imported", error)
    built = f"torch {torch.__version__} (CUDA {torch.version.cuda})"
    for index in range(int(arguments[0])):
        where = f"GPU {index}"
        try:
            major, minor = torch.cuda.get_device_capability(index)
            where = f"{torch.cuda.get_device_name(index)} (sm_{major}{minor})"
            ones = torch.ones((SIDE, SIDE), device=f"cuda:{index}")
            total = float((ones @ ones).sum().item())
        except Exception as error:  # noqa: BLE001  likewise
            return _failed(f"{built} does not compute on {where}", error)
        if total != SIDE**3:
            return _failed(f"{built} computes wrongly on {where}", f"{total:g} in place of {SIDE**3}")
        print(f"{built} computes on {where}")
    return 0


def _failed(what: str, why: object) -> int:
    first = (str(why).strip() or type(why).__name__).splitlines()[0]
    print(f"{what}: {first}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
