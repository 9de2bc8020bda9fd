"""How kernels are compiled: each once, under a name by which the others call it.

By itself numba compiles a function again inside every function that calls it, and again in what calls those: a minute
for these few loops. Here a kernel is machine code behind an address, known to LLVM by its name. Kernels take addresses
and numbers and give a number or nothing; they hold no lock of the interpreter and allocate no memory.
"""

import ctypes
import importlib
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from numba import njit, types
from numba.core.sigutils import normalize_signature
from numba.extending import intrinsic

from dllama_glm.kernels.library import library

_OPTIONS = {
    "nogil": True, "error_model": "numpy", "boundscheck": False, "no_cpython_wrapper": True, "no_rewrites": True,
}  # fmt: skip
_NATIVE: dict[Any, Any] = {types.int64: ctypes.c_int64, types.float32: ctypes.c_float, types.float64: ctypes.c_double}
_PREFIX = "dllama_"
# An empty parallel region costs 2 us with libgomp, and 50 us with numba's own queue, which is there everywhere.
numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]

_native: dict[str, Callable[..., Any]] = {}


def _find_tbb() -> None:
    """Where libgomp is missing, load pip's tbb: it lies in a folder that the system's loader does not know."""
    try:
        importlib.import_module("numba.np.ufunc.omppool")
    except ImportError:
        with suppress(PackageNotFoundError, OSError):
            for file in distribution("tbb").files or ():
                if file.name == "libtbb.so.12":
                    ctypes.CDLL(str(file.locate()), ctypes.RTLD_GLOBAL)


_find_tbb()


def kernel(signature: str, *, parallel: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function (or take it from the cache), for use in other kernels; `native` makes it callable here."""

    def compiled(function: Callable[..., Any]) -> Any:
        name = _PREFIX + function.__name__.lstrip("_")
        if name in _native:
            raise ValueError(f"there are two kernels {name}")
        address = library.address(name)
        if address is None:
            dispatcher = njit(signature, parallel=parallel, **_OPTIONS)(function)
            (result,) = dispatcher.overloads.values()
            wrapper = result.fndesc.llvm_cfunc_wrapper_name
            # first: numba lets go of the code when it is asked for a pointer
            library.add(name, wrapper, result.library)
            address = result.library.get_pointer_to_function(wrapper)
            _alive.append(dispatcher)
        llvm.add_symbol(name, address)
        arguments, returned = normalize_signature(signature)
        kinds = [_NATIVE[kind] for kind in arguments]
        prototype = ctypes.CFUNCTYPE(None if returned is types.void else _NATIVE[returned], *kinds)
        _native[name] = prototype(address)
        return types.ExternalFunction(name, returned(*arguments))

    return compiled


_alive: list[Any] = []  # what numba compiled: its code goes with it


def native(kernel: Any) -> Callable[..., Any]:
    """A kernel as a function for Python."""
    return _native[kernel.symbol]


def inlined(function: Callable[..., Any]) -> Any:
    """A helper that becomes part of the kernels that use it; only there may it take or give vectors."""
    return njit(inline="always", error_model="numpy", boundscheck=False)(function)


def record(dtype: np.dtype[Any]) -> Any:
    """A helper that takes the address of a structure and gives its fields, to be read and set."""
    kind = numba.from_dtype(dtype)

    def typed(_context: Any, address: Any) -> Any:  # noqa: ARG001 - an intrinsic declares its arguments
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(kind))

        return kind(types.int64), generate

    return intrinsic(typed)
