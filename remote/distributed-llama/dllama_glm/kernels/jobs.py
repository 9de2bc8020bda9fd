"""What products are made of: lists of jobs."""

import numpy as np

from dllama_glm.kernels.build import inlined, record
from dllama_glm.kernels.memory import load_i64

# One matrix by `tokens` rows of activations. Addresses and strides are in bytes. `x` are the rows' bytes or floats,
# `scales` and `offsets` what belongs to bytes, both `scale_stride` from row to row. `index` lists the numbers of the
# rows to take (int64), in the results' order; 0: all, as they come.
JOB = np.dtype([
    (name, np.int64) for name in (
        "weights", "stride", "rows", "columns", "tokens", "index", "x", "x_stride",
        "scales", "offsets", "scale_stride", "out", "out_stride",
    )
])  # fmt: skip
JOB_BYTES = JOB.itemsize
job_at = record(JOB)


@inlined
def row_of(index: int, token: int) -> int:
    """Which row of activations is the job's token."""
    return load_i64(index + 8 * token) if index else token
