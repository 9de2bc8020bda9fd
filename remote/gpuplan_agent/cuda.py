"""A real CUDA call on one GPU, through the driver's own library: `agent cuda INDEX`."""

from __future__ import annotations

import ctypes
from typing import Any, Callable

from gpuplan_agent.machine import NO_GPU

ALLOCATE_BYTES = 1 << 20


def main(arguments: list[str]) -> int:
    """Exit code 0: memory was allocated on the GPU; NO_GPU: there is no such device; 1: it fails."""
    index = int(arguments[0])
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        print(f"no CUDA driver: {error}")
        return NO_GPU
    count, device, context, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    status = library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count))
    if status:
        print(f"CUDA error {status} in cuInit")
        return 1
    if index >= count.value:
        print(f"only {count.value} CUDA devices")
        return NO_GPU
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("cuDeviceGet", lambda: library.cuDeviceGet(ctypes.byref(device), index)),
        ("cuCtxCreate", lambda: library.cuCtxCreate_v2(ctypes.byref(context), 0, device)),
        ("cuMemAlloc", lambda: library.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(ALLOCATE_BYTES))),
        ("cuMemFree", lambda: library.cuMemFree_v2(memory)),
        ("cuCtxDestroy", lambda: library.cuCtxDestroy_v2(context)),
    ]
    for name, call in calls:
        status = call()
        if status:
            print(f"CUDA error {status} in {name}")
            return 1
    return 0
