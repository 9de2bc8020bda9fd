"""The CPU's inner loops, compiled by numba at their first use and cached.

Weights are read where they lie in the mapped file: a byte array, the byte where the matrix begins and the
bytes from one row to the next, so that a rank's column slice needs no copy. Tensors of a `.m` file stand on
odd addresses (blocks are 18 or 34 bytes): words are therefore loaded without an alignment promise.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]
IndexArray = npt.NDArray[np.int64]

F16, Q40, Q80 = 1, 2, 3  # the file format's numbers of its storage types; 0 is float32
HALF_SCALE = np.float32(2.0**112)  # a half's exponent bias is 15, a float's 127
ONE = np.float32(1.0)
ZERO = np.float32(0.0)
FAST = {"reassoc", "contract", "nsz"}  # what vectorised sums need; infinities and NaN keep their meaning


def _unaligned_load(width: int) -> Any:
    """Build the body of an intrinsic that reads `width` bits at a byte offset of a uint8 array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        address = builder.gep(array.data, [args[1]])
        target = ir.FloatType() if width == 32 else ir.IntType(16)
        return builder.load(builder.bitcast(address, target.as_pointer()), align=1)

    return codegen


@intrinsic
def load_float(_typing: Any, raw: Any, at: Any) -> Any:  # noqa: ARG001 - an intrinsic declares its arguments
    """Read the float32 at byte `at` of `raw`."""
    return types.float32(raw, types.intp), _unaligned_load(32)


@intrinsic
def load_half_bits(_typing: Any, raw: Any, at: Any) -> Any:  # noqa: ARG001 - as above
    """Read the 16 bits at byte `at` of `raw`."""
    return types.uint16(raw, types.intp), _unaligned_load(16)


@intrinsic
def bits_as_float(_typing: Any, bits: Any) -> Any:  # noqa: ARG001 - as above
    """Take 32 bits as a float32."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), codegen


@numba.njit(inline="always")
def half_at(raw: ByteArray, at: int) -> Any:
    """Read the half at byte `at` as float32: finite values exactly, which is all that a weight can be."""
    bits = np.uint32(load_half_bits(raw, at))
    magnitude = bits_as_float((bits & np.uint32(0x7FFF)) << np.uint32(13)) * HALF_SCALE
    return -magnitude if bits & np.uint32(0x8000) else magnitude


@numba.njit(inline="always")
def read_f32(raw: ByteArray, at: int, row: FloatArray) -> None:
    """Copy a row of float32."""
    for i in range(row.size):
        row[i] = load_float(raw, at + 4 * i)


@numba.njit(inline="always")
def read_f16(raw: ByteArray, at: int, row: FloatArray) -> None:
    """Widen a row of halves."""
    for i in range(row.size):
        row[i] = half_at(raw, at + 2 * i)


@numba.njit(inline="always")
def read_q40(raw: ByteArray, at: int, row: FloatArray) -> None:
    """Expand a row of 18-byte blocks: half scale, then 16 bytes whose nibbles are values j and j + 16."""
    for block in range(row.size // 32):
        start = at + 18 * block
        scale = half_at(raw, start)
        for j in range(16):
            pair = raw[start + 2 + j]
            row[32 * block + j] = np.float32(np.int32(pair & 15) - 8) * scale
            row[32 * block + 16 + j] = np.float32(np.int32(pair >> 4) - 8) * scale


@numba.njit(inline="always")
def read_q80(raw: ByteArray, at: int, row: FloatArray) -> None:
    """Expand a row of 34-byte blocks: half scale, then 32 signed bytes."""
    for block in range(row.size // 32):
        start = at + 34 * block
        scale = half_at(raw, start)
        for j in range(32):
            row[32 * block + j] = np.float32(np.int8(raw[start + 2 + j])) * scale


@numba.njit(parallel=True, cache=True, error_model="numpy", fastmath=FAST)
def product(kind: int, raw: ByteArray, base: int, stride: int, x: FloatArray, out: FloatArray, chunk: int) -> None:
    """Compute out = x @ W.T for x [tokens, columns] and W [rows, columns] of the storage type `kind`.

    A row is expanded once into scratch and then serves all tokens; threads take `chunk` rows at a time.
    """
    rows = out.shape[1]
    for part in numba.prange((rows + chunk - 1) // chunk):
        scratch = np.empty(x.shape[1], np.float32)
        for r in range(part * chunk, min(rows, (part + 1) * chunk)):
            at = base + r * stride
            if kind == Q40:
                read_q40(raw, at, scratch)
            elif kind == Q80:
                read_q80(raw, at, scratch)
            elif kind == F16:
                read_f16(raw, at, scratch)
            else:
                read_f32(raw, at, scratch)
            for t in range(x.shape[0]):
                total = ZERO
                for i in range(scratch.size):
                    total += scratch[i] * x[t, i]
                out[t, r] = total


@numba.njit(cache=True, error_model="numpy", fastmath=FAST)
def rms_norm(x: FloatArray, weight: FloatArray, eps: float, out: FloatArray) -> None:
    """Norm each row of x [n, width] by its root mean square, then scale by the weight [width]."""
    for n in range(x.shape[0]):
        total = ZERO
        for i in range(x.shape[1]):
            total += x[n, i] * x[n, i]
        factor = ONE / np.sqrt(total / np.float32(x.shape[1]) + np.float32(eps))
        for i in range(x.shape[1]):
            out[n, i] = x[n, i] * factor * weight[i]


@numba.njit(cache=True, error_model="numpy")
def rotate(x: FloatArray, cos: FloatArray, sin: FloatArray, step: int, partner: int) -> None:
    """Turn, in place, the pairs (j * step, j * step + partner) of every head of x [tokens, heads, head_dim]."""
    for t in range(x.shape[0]):
        for h in range(x.shape[1]):
            for j in range(cos.shape[1]):
                first, second = x[t, h, j * step], x[t, h, j * step + partner]
                x[t, h, j * step] = first * cos[t, j] - second * sin[t, j]
                x[t, h, j * step + partner] = second * cos[t, j] + first * sin[t, j]


@numba.njit(cache=True, error_model="numpy", fastmath=FAST)
def gate_silu(gate: FloatArray, up: FloatArray) -> None:
    """Replace gate by silu(gate) * up."""
    for t in range(gate.shape[0]):
        for i in range(gate.shape[1]):
            gate[t, i] = gate[t, i] / (ONE + np.exp(-gate[t, i])) * up[t, i]


@numba.njit(parallel=True, cache=True, error_model="numpy", fastmath=FAST)
def attend(
    q: FloatArray, keys: FloatArray, values: FloatArray, kv_of_head: IndexArray, position: int, out: FloatArray
) -> None:
    """Causal attention of q [tokens, heads, head_dim] over keys and values [kv_heads, room, head_dim].

    The cache holds the tokens' own keys and values already; token t sees positions 0 to position + t.
    """
    tokens, heads, width = q.shape
    scale = ONE / np.sqrt(np.float32(width))
    for h in numba.prange(heads):
        weights = np.empty(position + tokens, np.float32)
        kv = kv_of_head[h]
        for t in range(tokens):
            seen = position + t + 1
            highest = np.float32(-np.inf)
            for p in range(seen):
                score = ZERO
                for i in range(width):
                    score += q[t, h, i] * keys[kv, p, i]
                weights[p] = score * scale
                highest = max(highest, weights[p])
            total = ZERO
            for p in range(seen):
                weights[p] = np.exp(weights[p] - highest)
                total += weights[p]
            for i in range(width):
                out[t, h, i] = ZERO
            for p in range(seen):
                share = weights[p] / total
                for i in range(width):
                    out[t, h, i] += share * values[kv, p, i]
