"""Rows of a panel by four tokens at a time, the last of them again where there are fewer."""

from typing import Any

import numpy as np

from dllama_glm.kernels.arithmetic import fill_16, fill_lanes, fma, multiply, to_float
from dllama_glm.kernels.build import inlined, kernel
from dllama_glm.kernels.dot import q40_products, q80_products
from dllama_glm.kernels.jobs import job_at, row_of
from dllama_glm.kernels.memory import load_f32, load_f32x16, load_lanes, store
from dllama_glm.kernels.panels import BLOCK, SCALES

TOKENS = 4


@inlined
def _q40_step(panel: int, lower: int, upper: int, rows: Any, scale: int, offset: int, sums: Any) -> Any:
    products = to_float(q40_products(panel, lower, upper))
    return fma(rows, fma(products, fill_lanes(load_f32(scale)), fill_lanes(load_f32(offset))), sums)


@inlined
def _q80_step(panel: int, x: int, rows: Any, scale: int, sums: Any) -> Any:
    return fma(to_float(q80_products(panel, x)), multiply(rows, fill_lanes(load_f32(scale))), sums)


@kernel("void(int64, int64, int64, int64)")
def q40_tile(panel: int, job_address: int, row: int, token: int) -> None:
    """LANES rows, from `row` on, by bytes for Q40."""
    job = job_at(job_address)
    last = job.tokens - 1
    t1, t2, t3 = min(token + 1, last), min(token + 2, last), min(token + 3, last)
    x, step = job.x, job.x_stride
    n0, n1, n2, n3 = row_of(job.index, token), row_of(job.index, t1), row_of(job.index, t2), row_of(job.index, t3)
    x0, x1, x2, x3 = x + n0 * step, x + n1 * step, x + n2 * step, x + n3 * step
    s, step, o = job.scales, job.scale_stride, job.offsets - job.scales
    s0, s1, s2, s3 = s + n0 * step, s + n1 * step, s + n2 * step, s + n3 * step
    blocks = job.columns // 32
    row_scales, grouped = panel + BLOCK * blocks, blocks // 4 * 4
    a0 = fill_lanes(np.float32(0.0))
    a1, a2, a3 = a0, a0, a0
    for i in range(blocks):
        low, high = 32 * i, 32 * i + 16
        if i < grouped:
            low = 128 * (i // 4) + 16 * (i % 4)
            high = low + 64
        w, at = panel + BLOCK * i, 4 * i
        rows = load_lanes(row_scales + SCALES * i)
        a0 = _q40_step(w, x0 + low, x0 + high, rows, s0 + at, s0 + at + o, a0)
        a1 = _q40_step(w, x1 + low, x1 + high, rows, s1 + at, s1 + at + o, a1)
        a2 = _q40_step(w, x2 + low, x2 + high, rows, s2 + at, s2 + at + o, a2)
        a3 = _q40_step(w, x3 + low, x3 + high, rows, s3 + at, s3 + at + o, a3)
    out, step = job.out + 4 * row, job.out_stride
    store(out + token * step, a0)
    store(out + t1 * step, a1)
    store(out + t2 * step, a2)
    store(out + t3 * step, a3)


@kernel("void(int64, int64, int64, int64)")
def q80_tile(panel: int, job_address: int, row: int, token: int) -> None:
    """LANES rows, from `row` on, by bytes for Q80."""
    job = job_at(job_address)
    last = job.tokens - 1
    t1, t2, t3 = min(token + 1, last), min(token + 2, last), min(token + 3, last)
    x, step = job.x, job.x_stride
    n0, n1, n2, n3 = row_of(job.index, token), row_of(job.index, t1), row_of(job.index, t2), row_of(job.index, t3)
    x0, x1, x2, x3 = x + n0 * step, x + n1 * step, x + n2 * step, x + n3 * step
    s, step = job.scales, job.scale_stride
    s0, s1, s2, s3 = s + n0 * step, s + n1 * step, s + n2 * step, s + n3 * step
    row_scales = panel + BLOCK * (job.columns // 32)
    a0 = fill_lanes(np.float32(0.0))
    a1, a2, a3 = a0, a0, a0
    for i in range(job.columns // 32):
        w, at = panel + BLOCK * i, 4 * i
        rows = load_lanes(row_scales + SCALES * i)
        a0 = _q80_step(w, x0 + 32 * i, rows, s0 + at, a0)
        a1 = _q80_step(w, x1 + 32 * i, rows, s1 + at, a1)
        a2 = _q80_step(w, x2 + 32 * i, rows, s2 + at, a2)
        a3 = _q80_step(w, x3 + 32 * i, rows, s3 + at, a3)
    out, step = job.out + 4 * row, job.out_stride
    store(out + token * step, a0)
    store(out + t1 * step, a1)
    store(out + t2 * step, a2)
    store(out + t3 * step, a3)


@kernel("void(int64, int64, int64, int64)")
def float_tile(panel: int, job_address: int, row: int, token: int) -> None:
    """FLOAT_ROWS rows, from `row` on, by float32."""
    job = job_at(job_address)
    last = job.tokens - 1
    t1, t2, t3 = min(token + 1, last), min(token + 2, last), min(token + 3, last)
    x, step = job.x, job.x_stride
    n0, n1, n2, n3 = row_of(job.index, token), row_of(job.index, t1), row_of(job.index, t2), row_of(job.index, t3)
    x0, x1, x2, x3 = x + n0 * step, x + n1 * step, x + n2 * step, x + n3 * step
    a0 = fill_16(np.float32(0.0))
    a1, a2, a3 = a0, a0, a0
    for i in range(job.columns):
        w = load_f32x16(panel + 64 * i)
        a0 = fma(fill_16(load_f32(x0 + 4 * i)), w, a0)
        a1 = fma(fill_16(load_f32(x1 + 4 * i)), w, a1)
        a2 = fma(fill_16(load_f32(x2 + 4 * i)), w, a2)
        a3 = fma(fill_16(load_f32(x3 + 4 * i)), w, a3)
    out, step = job.out + 4 * row, job.out_stride
    store(out + token * step, a0)
    store(out + t1 * step, a1)
    store(out + t2 * step, a2)
    store(out + t3 * step, a3)
