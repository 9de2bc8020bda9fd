"""The arrays that a pass on the CPU works in, and the structures by which the kernels know them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dllama_glm.kernels.jobs import JOB_BYTES
from dllama_glm.kernels.structures import ROOM

LINE = 64  # rows begin at a multiple of the cache line


def up_to(value: int, unit: int) -> int:
    """The next multiple of the unit."""
    return -(-value // unit) * unit


@dataclass(frozen=True)
class Sizes:
    """What decides how much room a token needs; see `structures.MODEL`."""

    dim: int
    heads: int
    kv_heads: int
    head_dim: int
    padded: int
    pairs: int
    experts: int
    slots: int
    slot_width: int


class Room:
    """Arrays for a pass over `tokens` tokens. `record` is the structure `ROOM` with their addresses."""

    def __init__(self, sizes: Sizes, tokens: int) -> None:
        self.tokens = tokens
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        row = up_to(max(sizes.dim, sizes.heads * sizes.head_dim), LINE)
        slot_row = up_to(max(sizes.slot_width, 1), LINE)
        slots = tokens * sizes.slots
        self.record = np.zeros(1, ROOM)
        self.record["tokens"], self.record["row"], self.record["slot_row"] = tokens, row, slot_row
        heads = sizes.heads + 2 * sizes.kv_heads
        floats: dict[str, tuple[int, ...]] = {
            "x": (tokens, sizes.dim), "partial": (tokens, sizes.dim), "normed": (tokens, row),
            "qkv": (tokens, heads * sizes.head_dim), "q": (tokens, sizes.heads * sizes.padded),
            "mixed": (tokens, sizes.heads * sizes.head_dim), "gated": (slots, 2 * slot_row), "y": (slots, sizes.dim),
            "logits": (tokens, sizes.experts), "score": (tokens, 3 * sizes.experts), "shares": (tokens, sizes.slots),
            "cos": (tokens, sizes.pairs), "sin": (tokens, sizes.pairs),
            "scales": (tokens, row // 16), "slot_scales": (slots, slot_row // 16),
        }  # fmt: skip
        for name, shape in floats.items():
            self._take(name, shape, np.float32)
        self._take("codes", (tokens, row), np.int8)
        self._take("slot_codes", (slots, slot_row), np.int8)
        for name in ("chosen", "place", "token"):
            self._take(name, (slots,), np.int64)
        self._take("start", (sizes.experts + 2,), np.int64)
        self._take("jobs", (2 * (sizes.experts + 1) + 3, JOB_BYTES), np.uint8)
        self.address = self.record.ctypes.data

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """One of the arrays."""
        return self._arrays[name]

    def _take(self, name: str, shape: tuple[int, ...], kind: Any) -> None:
        array = aligned(shape, kind)
        self._arrays[name] = array
        self.record[name] = array.ctypes.data


def aligned(shape: tuple[int, ...], kind: Any) -> npt.NDArray[Any]:
    """An array of zeros that begins on a cache line."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    raw = np.zeros(size + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + size].view(kind).reshape(shape)
