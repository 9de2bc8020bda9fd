"""The angles by which positions turn the heads."""

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dllama_glm.runtime.architecture import Llama3Scaling, Rotary

FloatArray: TypeAlias = npt.NDArray[np.float32]


def frequencies(rotary: Rotary) -> FloatArray:
    """Return the angle per position of each pair, float32 [dims / 2]."""
    exponents = np.arange(0, rotary.dims, 2, dtype=np.float32) / np.float32(rotary.dims)
    plain = np.float32(1.0) / np.float32(rotary.theta) ** exponents
    return plain if rotary.scaling is None else _stretch(plain, rotary.scaling)


def angles(frequency: FloatArray, position: int, tokens: int) -> tuple[FloatArray, FloatArray]:
    """Return cosine and sine for `tokens` positions from `position` on, both float32 [tokens, pairs]."""
    turns = np.arange(position, position + tokens, dtype=np.float32)[:, None] * frequency[None, :]
    return np.cos(turns), np.sin(turns)


def _stretch(plain: FloatArray, scaling: Llama3Scaling) -> FloatArray:
    """Slow the long waves by the factor, keep the short ones, blend between (Llama 3.1)."""
    wavelengths = 2 * math.pi / plain
    longest = scaling.original_max_seq_len / scaling.low_freq_factor
    shortest = scaling.original_max_seq_len / scaling.high_freq_factor
    span = scaling.high_freq_factor - scaling.low_freq_factor
    share = (scaling.original_max_seq_len / wavelengths - scaling.low_freq_factor) / span
    blended = (1 - share) * plain / scaling.factor + share * plain
    stretched = np.where(wavelengths > longest, plain / scaling.factor, plain)
    between = (wavelengths <= longest) & (wavelengths >= shortest)
    return np.where(between, blended, stretched).astype(np.float32)
