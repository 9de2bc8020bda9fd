"""A matrix where it lies in the mapped model file, and the slices of it that a rank keeps."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

F32, F16, Q40, Q80 = 0, 1, 2, 3
BLOCK_VALUES = {F32: 1, F16: 1, Q40: 32, Q80: 32}
BLOCK_BYTES = {F32: 4, F16: 2, Q40: 18, Q80: 34}


@dataclass(frozen=True)
class Matrix:
    """`rows` x `columns` values of storage type `kind`, still in the file's own bytes.

    `raw` is the mapped file (uint8); a row begins `stride` bytes after the one before, the first at `offset`.
    """

    raw: npt.NDArray[np.uint8]
    kind: int
    rows: int
    columns: int
    offset: int
    stride: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row's values."""
        return self.columns // BLOCK_VALUES[self.kind] * BLOCK_BYTES[self.kind]

    @property
    def address(self) -> int:
        """Where the first row begins in memory; whoever uses it must keep the matrix."""
        return int(self.raw.ctypes.data) + self.offset

    @property
    def nbytes(self) -> int:
        """Bytes of all values, without what the stride skips."""
        return self.rows * self.row_bytes

    def take_rows(self, rows: range) -> "Matrix":
        """Return the matrix of these rows."""
        return replace(self, rows=len(rows), offset=self.offset + rows.start * self.stride)

    def take_columns(self, columns: range) -> "Matrix":
        """Return the matrix of these columns; both ends must lie between blocks."""
        block = BLOCK_VALUES[self.kind]
        assert all(end % block == 0 for end in (columns.start, columns.stop)), "columns are cut between blocks only"
        offset = self.offset + columns.start // block * BLOCK_BYTES[self.kind]
        return replace(self, columns=len(columns), offset=offset)

    def to_float(self) -> npt.NDArray[np.float32]:
        """Expand to float32 [rows, columns], in plain numpy: a copy, meant for references and single rows."""
        if not self.rows or not self.columns:  # what a rank keeps where there are fewer blocks than ranks
            return np.zeros((self.rows, self.columns), np.float32)
        starts = np.arange(self.rows)[:, None] * self.stride + self.offset
        data = self.raw[starts + np.arange(self.row_bytes)[None, :]]
        if self.kind == F32:
            return data.view("<f4").astype(np.float32)
        if self.kind == F16:
            return data.view("<f2").astype(np.float32)
        blocks = data.reshape(self.rows, -1, BLOCK_BYTES[self.kind])
        scales = np.ascontiguousarray(blocks[:, :, :2]).view("<f2").astype(np.float32)
        codes = blocks[:, :, 2:]
        if self.kind == Q40:
            values = np.concatenate([codes & 15, codes >> 4], axis=2).astype(np.float32) - np.float32(8)
        else:
            values = codes.view(np.int8).astype(np.float32)
        return (values * scales).reshape(self.rows, self.columns)
