"""How weights are encoded in a `.m` file, and how to read them back with plain numpy.

Q40 and Q80 cut a tensor, flattened row by row, into groups of 32 values; each group is one block: the float16 scale,
then 16 bytes of nibbles (Q40: byte j holds value j low and value j + 16 high, offset by 8) or 32 signed bytes (Q80).
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

BLOCK_VALUES = 32
Q40_BLOCK_BYTES = 2 + BLOCK_VALUES // 2
Q80_BLOCK_BYTES = 2 + BLOCK_VALUES


class FloatType(IntEnum):
    """The ids of header key 13."""

    F32 = 0
    F16 = 1
    Q40 = 2
    Q80 = 3

    @property
    def blocked(self) -> bool:
        """Whether values are stored in blocks of 32."""
        return self in {FloatType.Q40, FloatType.Q80}

    def nbytes(self, values: int) -> int:
        """Bytes that `values` values take; for a blocked type `values` must be a multiple of 32."""
        if self.blocked and values % BLOCK_VALUES:
            raise ValueError(f"{values} values cannot be cut into blocks of {BLOCK_VALUES}")
        unit, size = _UNITS[self]
        return values // unit * size


_UNITS = {
    FloatType.F32: (1, 4),
    FloatType.F16: (1, 2),
    FloatType.Q40: (BLOCK_VALUES, Q40_BLOCK_BYTES),
    FloatType.Q80: (BLOCK_VALUES, Q80_BLOCK_BYTES),
}


def decode(raw: npt.NDArray[np.uint8], float_type: FloatType) -> npt.NDArray[np.float32]:
    """The values that these bytes (whole blocks) stand for, as a new flat array."""
    if float_type is FloatType.F32:
        return np.frombuffer(raw.tobytes(), dtype="<f4").astype(np.float32)
    if float_type is FloatType.F16:
        return np.frombuffer(raw.tobytes(), dtype="<f2").astype(np.float32)
    block_bytes = _UNITS[float_type][1]
    blocks = raw.reshape(-1, block_bytes)
    scales = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
    if float_type is FloatType.Q80:
        return (np.ascontiguousarray(blocks[:, 2:]).view(np.int8) * scales).reshape(-1)
    nibbles = np.concatenate([blocks[:, 2:] & 0xF, blocks[:, 2:] >> 4], axis=1)
    return ((nibbles.astype(np.float32) - np.float32(8)) * scales).reshape(-1)
