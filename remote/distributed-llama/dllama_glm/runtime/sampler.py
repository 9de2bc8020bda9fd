"""Choosing the next token from logits."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


class Sampler:
    """Greedy at temperature 0, otherwise random over the most probable tokens that together reach `topp`.

    Tokens from `vocab_size` on (rows that only pad the matrix) are never chosen. The same seed gives the same tokens.
    """

    def __init__(self, vocab_size: int, temperature: float = 0.0, topp: float = 0.9, seed: int | None = None) -> None:
        self._vocab_size = vocab_size
        self._temperature = temperature
        self._topp = topp
        self._random = np.random.default_rng(seed)

    def choose(self, logits: FloatArray) -> int:
        """Return a token number for logits [vocab]."""
        logits = logits[: self._vocab_size]
        if self._temperature == 0.0:
            return int(np.argmax(logits))
        with np.errstate(over="ignore"):  # near temperature 0 all but the best fall to zero, as they should
            powers = np.exp((logits - logits.max()).astype(np.float64) / self._temperature)
        order = np.argsort(-powers, kind="stable")
        reached = np.cumsum(powers[order]) / powers.sum()
        kept = order[: int(np.searchsorted(reached, self._topp)) + 1]
        return int(self._random.choice(kept, p=powers[kept] / powers[kept].sum()))
