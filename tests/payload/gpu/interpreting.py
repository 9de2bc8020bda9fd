"""Triton's interpreter, with what the kernels need beyond it.

Import this before any kernel; TRITON_INTERPRET was set before triton came in.
"""

import functools
import inspect
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

_patch = interpreter._patch_lang_tensor


def _with_an_index(tensor: Any) -> None:
    """Numpy 2.4 makes no number of an array of one, which is how the interpreter of triton 3.4 keeps scalars."""
    _patch(tensor)
    tensor.__index__ = lambda self: int(self.handle.data.item())


class _Assembly:
    """What an instruction of the kernels' assembly computes."""

    def __init__(self, assembly: str, values: list[Any]) -> None:
        assert assembly.startswith("dp4a.s32.s32 "), assembly
        a, b, c = (np.ascontiguousarray(value.data, np.int32) for value in values)
        left, right = (np.expand_dims(x, -1).view(np.int8).astype(np.int32) for x in (a, b))
        self._found = c + (left * right).sum(axis=-1, dtype=np.int32)

    def get_result(self, index: int) -> Any:
        assert index == 0
        return interpreter.TensorHandle(self._found, tl.int32)


def _inline(_: Any, assembly: str, constraints: str, values: list[Any], *more: Any) -> _Assembly:
    assert constraints == "=r,r,r,r"
    return _Assembly(assembly, values)


_patch_language = functools.cache(interpreter._patch_lang)  # once for a function: it stays patched

if len(inspect.signature(_patch).parameters) == 1:
    interpreter._patch_lang_tensor = _with_an_index
    interpreter._patch_lang = _patch_language
interpreter.InterpreterBuilder.create_inline_asm = _inline
