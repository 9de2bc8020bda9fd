"""Two models' logits over the same texts, in figures."""

from dataclasses import dataclass
from math import exp
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dllama_glm.formats.float_types import FloatType

Logits: TypeAlias = npt.NDArray[np.float32]

# Relative error beyond which a file is not what its original is. The trained model of the tests is at 6e-7 (F32, F16),
# 0.022 (Q80) and 0.13 (Q40), random weights at 0.3 (Q40); a model trained on from it is at
# 1.2, its own weights with gate and up swapped at 3.9.
BOUNDS = {FloatType.F32: 1e-3, FloatType.F16: 1e-2, FloatType.Q80: 0.1, FloatType.Q40: 0.5}


@dataclass(frozen=True)
class Text:
    """Token ids of a prompt and of the original's own greedy continuation."""

    prompt: tuple[int, ...]
    continuation: tuple[int, ...]

    @property
    def ids(self) -> list[int]:
        """Both."""
        return [*self.prompt, *self.continuation]


@dataclass(frozen=True)
class Figures:
    """How far a file is from its original.

    The errors are those of logits over all positions; `relative_error` is the root of the sum of their squares over
    that of the original's logits, each position's mean taken off, which no probability depends on. Perplexity counts
    the prompts' tokens. `equal_greedy`: at how many positions of the original's own continuations, of all, the file
    has the same best token.
    """

    prompts: int
    positions: int
    max_abs_error: float
    mean_abs_error: float
    relative_error: float
    perplexity: float
    original_perplexity: float
    equal_greedy: float


class Tally:
    """Adds up text by text; logits are float32 [tokens, vocabulary], those of the text's ids in order."""

    def __init__(self) -> None:
        self._prompts = self._positions = self._values = self._scored = self._chosen = self._equal = 0
        self._largest = self._sum = self._squares = self._norm = self._ours = self._theirs = 0.0

    def add(self, text: Text, ours: Logits, theirs: Logits) -> None:
        """Compare one text."""
        errors = np.abs(ours.astype(np.float64) - theirs)
        self._prompts += 1
        self._positions += len(theirs)
        self._values += errors.size
        self._largest = max(self._largest, float(errors.max()))
        self._sum += float(errors.sum())
        self._squares += float(((_centred(ours) - _centred(theirs)) ** 2).sum())
        self._norm += float((_centred(theirs) ** 2).sum())
        following = np.array(text.prompt[1:], np.int64)
        self._scored += len(following)
        self._ours += _surprise(ours, following)
        self._theirs += _surprise(theirs, following)
        begin, end = len(text.prompt) - 1, len(text.ids) - 1
        self._chosen += end - begin
        self._equal += int((ours[begin:end].argmax(axis=1) == theirs[begin:end].argmax(axis=1)).sum())

    def figures(self) -> Figures:
        """Everything so far; there must have been a text of two tokens."""
        return Figures(
            prompts=self._prompts,
            positions=self._positions,
            max_abs_error=self._largest,
            mean_abs_error=self._sum / self._values,
            relative_error=float(np.sqrt(self._squares / self._norm)) if self._norm else 0.0,
            perplexity=exp(self._ours / self._scored),
            original_perplexity=exp(self._theirs / self._scored),
            equal_greedy=self._equal / self._chosen if self._chosen else 1.0,
        )


def _centred(logits: Logits) -> npt.NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.mean(axis=1, keepdims=True)
    return wide


def _surprise(logits: Logits, following: npt.NDArray[np.int64]) -> float:
    """Minus the sum of the log-probabilities of each prompt token but the first."""
    wide = logits[: len(following)].astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    total = np.log(np.exp(wide).sum(axis=1))
    return float((total - wide[np.arange(len(following)), following]).sum())
