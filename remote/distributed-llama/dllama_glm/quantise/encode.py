"""Encoding a run of checkpoint values, of any length that the target type allows."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dllama_glm.formats.float_types import BLOCK_VALUES, FloatType
from dllama_glm.quantise.cache import prepare_cache

Bytes: TypeAlias = npt.NDArray[np.uint8]
Words: TypeAlias = npt.NDArray[np.uint16]
Loop: TypeAlias = Callable[[Words, int, Bytes], int]

ITEM_BYTES = {"BF16": 2, "F16": 2, "F32": 4}
_KINDS = {"BF16": 0, "F16": 1, "F32": 2}


class NotStorable(Exception):
    """Values that the target type cannot hold: `first` is the number of the first one's group of 32."""

    def __init__(self, first: int) -> None:
        super().__init__(f"group {first}")
        self.first = first


class Encoder:
    """The compiled loop for one target type; making one imports the compiler, a first call compiles unless cached."""

    def __init__(self, float_type: FloatType) -> None:
        prepare_cache()
        from dllama_glm.quantise import kernels

        loops: dict[FloatType, Loop] = {
            FloatType.F32: kernels.to_f32,
            FloatType.F16: kernels.to_f16,
            FloatType.Q40: kernels.to_q40,
            FloatType.Q80: kernels.to_q80,
        }
        self.float_type = float_type
        self._loop = loops[float_type]

    def warm_up(self) -> None:
        """Load the compiled loop, or compile it now."""
        self.encode(
            np.zeros(2 * BLOCK_VALUES, np.uint8), "BF16", np.empty(self.float_type.nbytes(BLOCK_VALUES), np.uint8)
        )

    def encode(self, source: Bytes, dtype: str, out: Bytes) -> None:
        """Encode all values in `source` (little-endian bytes) into `out`, which has exactly the room for them.

        Raises NotStorable for a value that is not finite or a number too large for a half.
        """
        if source.ctypes.data % 2:
            source = source.copy()
        words = source.view(np.uint16)
        words.flags.writeable = False
        size = ITEM_BYTES[dtype] // 2
        count = len(words) // size
        whole = count // BLOCK_VALUES * BLOCK_VALUES
        place = self.float_type.nbytes(whole)
        self._run(words[: whole * size], dtype, out[:place], 0)
        if whole < count:
            tail = np.zeros(BLOCK_VALUES * size, np.uint16)
            tail[: (count - whole) * size] = words[whole * size :]
            tail.flags.writeable = False
            room = np.empty(self.float_type.nbytes(BLOCK_VALUES), np.uint8)
            self._run(tail, dtype, room, whole // BLOCK_VALUES)
            out[place:] = room[: len(out) - place]

    def _run(self, words: Words, dtype: str, out: Bytes, before: int) -> None:
        bad = self._loop(words, _KINDS[dtype], out)
        if bad >= 0:
            raise NotStorable(before + bad)


def widen(source: Bytes, dtype: str) -> npt.NDArray[np.float32]:
    """The values of `source` as float32, in plain numpy (for small runs)."""
    raw = source.tobytes()
    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.frombuffer(raw, "<f2" if dtype == "F16" else "<f4").astype(np.float32)
