"""Choosing the next token from logits."""

import secrets
from collections.abc import Collection
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dllama_glm.runtime.errors import DllamaError

FloatArray: TypeAlias = npt.NDArray[np.float32]

_COLDEST = 1e-6  # a lower temperature is none in float32
_LEAST = float(np.finfo(np.float32).tiny)  # what has no probability at all is not drawn, not even by rounding


class Sampler:
    """Greedy at temperature 0, otherwise random over what top-k, top-p and min-p leave, in this order.

    `topk` tokens at most (0: any number); then the fewest that together reach the share `topp`; then those that are at
    least `minp` times as probable as the best one. Tokens from `vocab_size` on (rows that only pad the matrix) and
    those in `never` (ids without a token) are not chosen.

    The same seed gives the same tokens for the same logits. One number is drawn for each token, and tokens share it out
    in the order of their ids, so that another rounding of the logits (more threads, more ranks) changes nothing but
    where the number falls on the very border of two tokens.
    """

    def __init__(
        self,
        vocab_size: int,
        temperature: float = 0.0,
        topp: float = 0.9,
        seed: int | None = None,
        *,
        topk: int = 0,
        minp: float = 0.0,
        never: Collection[int] = (),
    ) -> None:
        self._allowed = np.ones(vocab_size, np.bool_)
        self._allowed[[token_id for token_id in never if token_id < vocab_size]] = False
        self._restricted = not bool(self._allowed.all())
        self._temperature = temperature
        self._topp = topp
        self._topk = topk
        self._minp = minp
        self.seed = secrets.randbits(32) if seed is None else seed
        self._random = np.random.default_rng(self.seed)

    @property
    def greedy(self) -> bool:
        """Whether the best token is always taken, so that nobody needs the others' logits."""
        return self._temperature == 0.0

    def may_choose(self, token_id: int) -> bool:
        """Whether a token can be chosen at all."""
        return token_id < len(self._allowed) and bool(self._allowed[token_id])

    def choose(self, logits: FloatArray) -> int:
        """Return a token number for logits [vocab]. Raises DllamaError where they are no numbers."""
        logits = logits[: len(self._allowed)]
        if self._restricted:
            logits = np.where(self._allowed[: len(logits)], logits, np.float32(-np.inf))
        best = logits.max()
        if not np.isfinite(best):
            raise DllamaError("The model's logits are no finite numbers: its file is damaged, or it was trained so.")
        if self.greedy:
            return int(np.argmax(logits))
        with np.errstate(over="ignore"):  # near temperature 0 all but the best fall to zero, as they should
            shares = np.exp((logits - best) / np.float32(max(self._temperature, _COLDEST)))
        kept = self._kept(shares)
        reached = np.cumsum(shares[kept], dtype=np.float64)
        return int(kept[np.searchsorted(reached[:-1], self._random.random() * reached[-1], side="right")])

    def _kept(self, shares: FloatArray) -> npt.NDArray[np.int64]:
        """The ids to draw from, in rising order; `shares` are probabilities, the best one scaled to 1."""
        count, total = len(shares), float(shares.sum(dtype=np.float64))
        if self._topk:
            bound = np.partition(shares, -min(self._topk, count))[-min(self._topk, count)]
        else:  # what is below this could be left out together and the rest would still reach topp: no need to sort it
            bound = (1 - self._topp) * total / count
        kept = np.flatnonzero(shares >= bound)
        if self._topk or self._topp < 1:
            kept = kept[np.argsort(-shares[kept], kind="stable")][: self._topk or None]
            reached = np.cumsum(shares[kept], dtype=np.float64)
            if self._topk:
                total = float(reached[-1])
            kept = np.sort(kept[: int(np.searchsorted(reached, self._topp * total)) + 1])
        return kept[shares[kept] >= max(self._minp, _LEAST)]
