"""The CPU's inner loops: plain functions over vectors that numba compiles for the processor at hand."""
