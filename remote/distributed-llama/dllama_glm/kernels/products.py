"""Products of weights and activations: lists of jobs, whose rows are dealt out to the threads.

Each result is computed whole by one thread and in one order, so it does not depend on how many there are.
"""

from numba import prange

from dllama_glm.kernels.build import inlined, kernel
from dllama_glm.kernels.jobs import JOB_BYTES, job_at, row_of
from dllama_glm.kernels.level import LANES
from dllama_glm.kernels.memory import store
from dllama_glm.kernels.panels import FLOAT_ROWS, unpack, unpack_floats
from dllama_glm.kernels.rows import BYTES, Q40_ROWS, Q80_ROWS, by_floats, q40_by_bytes, q80_by_bytes
from dllama_glm.kernels.tiles import TOKENS, float_tile, q40_tile, q80_tile

# Multiplications below which waking other threads costs more than it saves, most of all where they have no core to
# themselves.
SMALL = 1 << 18


def scratch_bytes(columns: int) -> int:
    """How much room a thread needs for panels of so many columns."""
    return -(-4 * (FLOAT_ROWS + 1) * columns // 64) * 64


@kernel("void(int64, int64, int64, int64)")
def one_by_one(job_address: int, kind: int, first: int, last: int) -> None:
    """Rows first to last, each by all tokens."""
    job = job_at(job_address)
    for row in range(first, last):
        at = job.weights + row * job.stride
        for t in range(job.tokens):
            number = row_of(job.index, t)
            x, shift = job.x + number * job.x_stride, number * job.scale_stride
            out = job.out + t * job.out_stride + 4 * row
            if kind == Q40_ROWS + BYTES:
                store(out, q40_by_bytes(at, job.columns, x, job.scales + shift, job.offsets + shift))
            elif kind == Q80_ROWS + BYTES:
                store(out, q80_by_bytes(at, job.columns, x, job.scales + shift))
            else:
                store(out, by_floats(kind, at, job.columns, x))


@kernel("void(int64, int64, int64, int64, int64)")
def by_panels(job_address: int, kind: int, first: int, last: int, panel: int) -> None:
    """Rows first to last, a panel of them at a time; those left over one by one."""
    job = job_at(job_address)
    size = LANES if kind >= BYTES else FLOAT_ROWS
    whole = first + (last - first) // size * size
    for row in range(first, whole, size):
        at = job.weights + row * job.stride
        if kind >= BYTES:
            unpack(kind - BYTES, at, job.stride, job.columns, panel)
        else:
            unpack_floats(kind, at, job.stride, job.columns, panel)
        for token in range(0, job.tokens, TOKENS):
            if kind == Q40_ROWS + BYTES:
                q40_tile(panel, job_address, row, token)
            elif kind == Q80_ROWS + BYTES:
                q80_tile(panel, job_address, row, token)
            else:
                float_tile(panel, job_address, row, token)
    one_by_one(job_address, kind, whole, last)


@inlined
def _row_at(work: int, cost: int, rows: int, grain: int) -> int:
    """The first row, of those that cost so much each, whose work begins at or behind `work`, on the grain."""
    row = max(0, work + cost - 1) // cost
    return min(rows, (row + grain - 1) // grain * grain)


@inlined
def _work(jobs: int, count: int) -> int:
    """How many multiplications all jobs have."""
    total = 0
    for j in range(count):
        job = job_at(jobs + JOB_BYTES * j)
        total += job.rows * job.columns * job.tokens
    return total


@kernel("void(int64, int64, int64, int64, int64, int64)")
def share_of_jobs(jobs: int, count: int, kind: int, part: int, parts: int, panel: int) -> None:
    """Do one of `parts` equal shares of all jobs."""
    total = _work(jobs, count)
    begin = 0
    for j in range(count):
        address = jobs + JOB_BYTES * j
        job = job_at(address)
        cost = job.columns * job.tokens
        if cost * job.rows == 0:
            continue
        many = job.tokens >= TOKENS
        grain = FLOAT_ROWS if many else 1
        first = _row_at(total * part // parts - begin, cost, job.rows, grain)
        last = _row_at(total * (part + 1) // parts - begin, cost, job.rows, grain)
        begin += cost * job.rows
        if many:
            by_panels(address, kind, first, last, panel)
        else:
            one_by_one(address, kind, first, last)


@kernel("void(int64, int64, int64, int64, int64, int64)", parallel=True)
def share_out(jobs: int, count: int, kind: int, threads: int, scratch: int, scratch_size: int) -> None:
    """Do all jobs on so many threads."""
    for part in prange(threads):
        share_of_jobs(jobs, count, kind, part, threads, scratch + part * scratch_size)


@kernel("void(int64, int64, int64, int64, int64, int64)")
def multiply_all(jobs: int, count: int, kind: int, threads: int, scratch: int, scratch_size: int) -> None:
    """Do all jobs; `kind` is how the weights are stored, plus BYTES where the activations are bytes.

    Each thread has `scratch_size` bytes of `scratch` for panels.
    """
    if threads == 1 or _work(jobs, count) < SMALL:
        share_of_jobs(jobs, count, kind, 0, 1, scratch)
    else:
        share_out(jobs, count, kind, threads, scratch, scratch_size)
