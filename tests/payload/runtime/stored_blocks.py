"""Stores values as a `.m` file does, in the most direct way; good to what the format can hold."""

import numpy as np

F32, F16, Q40, Q80 = range(4)


def row_bytes(columns: int, kind: int) -> int:
    """Bytes that a row takes."""
    unit, size = {F32: (1, 4), F16: (1, 2), Q40: (32, 18), Q80: (32, 34)}[kind]
    return columns // unit * size


def encode(values: np.ndarray, kind: int) -> bytes:
    """The bytes of the values, row by row."""
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    if kind == F32:
        return flat.tobytes()
    if kind == F16:
        return flat.astype("<f2").tobytes()
    blocks = flat.reshape(-1, 32)
    if kind == Q80:
        scale = np.abs(blocks).max(axis=1, keepdims=True) / 127
        codes = np.round(blocks / np.where(scale == 0, 1, scale)).astype(np.int8).view(np.uint8)
    else:
        extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)
        scale = extreme / -8
        nibbles = np.clip(blocks / np.where(scale == 0, 1, scale) + 8.5, 0, 15).astype(np.uint8)
        codes = nibbles[:, :16] | nibbles[:, 16:] << np.uint8(4)
    return np.concatenate([scale.astype("<f2").view(np.uint8), codes], axis=1).tobytes()
