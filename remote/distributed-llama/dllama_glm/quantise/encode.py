"""Encoding a run of checkpoint values, of any length that the target type allows."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dllama_glm.formats.float_types import BLOCK_VALUES, FloatType, decode
from dllama_glm.quantise.cache import loops_cache

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
        with loops_cache():
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
        words = _words(source)
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


class ErrorMeter:
    """What storing values in one type costs; making one imports the compiler."""

    def __init__(self, float_type: FloatType) -> None:
        with loops_cache():
            from dllama_glm.quantise import errors

        self._loop = {
            FloatType.F16: errors.errors_f16,
            FloatType.Q40: errors.errors_q40,
            FloatType.Q80: errors.errors_q80,
        }.get(float_type)
        self._float_type = float_type

    def warm_up(self) -> None:
        """Load the compiled loop, or compile it now."""
        self.measure(
            np.zeros(2 * BLOCK_VALUES, np.uint8), "BF16", np.zeros(self._float_type.nbytes(BLOCK_VALUES), np.uint8)
        )

    def measure(self, source: Bytes, dtype: str, stored: Bytes) -> tuple[float, float]:
        """(largest difference, sum of squares) between values and what `stored` gives back; F32 loses nothing."""
        if self._loop is None:
            return 0.0, 0.0
        words = _words(source)
        whole = len(source) // ITEM_BYTES[dtype] // BLOCK_VALUES * BLOCK_VALUES
        largest, total = self._loop(words, _KINDS[dtype], stored[: self._float_type.nbytes(whole)])
        if whole * ITEM_BYTES[dtype] < len(source):
            rest = stored[self._float_type.nbytes(whole) :]
            tail = widen(source[whole * ITEM_BYTES[dtype] :], dtype) - decode(rest, self._float_type)
            largest = max(largest, float(np.abs(tail).max()))
            total += float((tail.astype(np.float64) ** 2).sum())
        return float(largest), float(total)


def _words(source: Bytes) -> Words:
    """The same bytes as 16-bit words; copied only if they lie at an odd address."""
    words = (source.copy() if source.ctypes.data % 2 else source).view(np.uint16)
    words.flags.writeable = False
    return words
