"""Which vector instructions the kernels use: found out here, or forced with $DLLAMA_SIMD."""

import os

import llvmlite.binding as llvm

from dllama_glm.runtime.errors import UsageError

# From the widest to the one that every processor has; `needs` are LLVM's names of processor features.
NEEDS = {
    "vnni512": {"avx512vnni", "avx512vl", "avx512bw", "f16c"},
    "avxvnni": {"avxvnni", "avx2", "fma", "f16c"},
    "avx2": {"avx2", "fma", "f16c"},
    "neon": {"dotprod", "neon"},
    "plain": set(),
}


def possible() -> list[str]:
    """The levels that this processor can run, the best one first."""
    found = {name for name, present in llvm.get_host_cpu_features().items() if present}
    return [level for level, needed in NEEDS.items() if needed <= found]


def _chosen() -> str:
    levels = possible()
    asked = os.environ.get("DLLAMA_SIMD")
    if asked and asked not in levels:
        raise UsageError(f"DLLAMA_SIMD={asked} cannot be run here; this processor has: {', '.join(levels)}")
    return asked or levels[0]


LEVEL = _chosen()
# 32-bit lanes of one register: the rows that a panel of weights interleaves.
LANES = 16 if LEVEL == "vnni512" else 8
# Whether the processor converts half precision itself; bit operations do it otherwise.
HALF = LEVEL != "plain"
