"""The operations on the CPU, through numba: quantised weights are used as they lie in the file."""

import numba
import numpy as np
import numpy.typing as npt

from dllama_glm.runtime import kernels_cpu as kernels
from dllama_glm.runtime.matrix import Matrix
from dllama_glm.runtime.ops_numpy import NumpyCache, NumpyOperations

FloatArray = npt.NDArray[np.float32]

SMALL = 1 << 18  # multiplications below which waking a second thread costs more than it saves
CHUNKS_PER_THREAD = 4  # so that a thread that was held up does not hold up the others for long


class CpuOperations(NumpyOperations):
    """Implements `ops.Operations` with `threads` threads; what is not hot stays as the reference has it."""

    def __init__(self, threads: int) -> None:
        self.threads = max(1, min(threads, numba.config.NUMBA_NUM_THREADS))

    def product(self, x: FloatArray, matrix: Matrix, bias: FloatArray | None = None) -> FloatArray:
        """Return x @ matrix.T + bias, reading the stored blocks."""
        y = np.empty((len(x), matrix.rows), np.float32)
        threads = self._use_threads(matrix.rows * matrix.columns * len(x))
        chunk = max(1, -(-matrix.rows // (threads * CHUNKS_PER_THREAD if threads > 1 else 1)))
        x = np.ascontiguousarray(x)
        kernels.product(matrix.kind, matrix.raw, matrix.offset, matrix.stride, x, y, chunk)
        if bias is not None:
            y += bias
        return y

    def norm(self, x: FloatArray, weight: FloatArray, eps: float) -> FloatArray:
        """Root-mean-square norm over the last axis."""
        x = np.ascontiguousarray(x)
        y = np.empty_like(x)
        width = x.shape[-1]
        kernels.rms_norm(x.reshape(-1, width), weight, eps, y.reshape(-1, width))
        return y

    def rotate(self, heads: FloatArray, cos: FloatArray, sin: FloatArray, *, interleaved: bool) -> FloatArray:
        """Turn the pairs of each head, in place."""
        step, partner = (2, 1) if interleaved else (1, cos.shape[1])
        kernels.rotate(heads, cos, sin, step, partner)
        return heads

    def attention(
        self, q: FloatArray, k: FloatArray, v: FloatArray, cache: NumpyCache, kv_of_head: list[int], position: int
    ) -> FloatArray:
        """Causal attention over the cache, one head at a time."""
        cache.put(k, v, position)
        self._use_threads(2 * q.size * (position + len(q)))
        y = np.empty_like(q)
        kernels.attend(q, cache.keys, cache.values, np.array(kv_of_head), position, y)
        return y.reshape(len(q), -1)

    def gated(self, gate: FloatArray, up: FloatArray) -> FloatArray:
        """Return silu(gate) * up, in gate's place."""
        kernels.gate_silu(gate, up)
        return gate

    def add(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return x + y, in y's place."""
        y += x
        return y

    def _use_threads(self, multiplications: int) -> int:
        threads = self.threads if multiplications > SMALL else 1
        numba.set_num_threads(threads)
        return threads
