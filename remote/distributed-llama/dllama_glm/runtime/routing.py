"""Which experts a token goes to, and with which weights."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dllama_glm.runtime.architecture import Routing

FloatArray: TypeAlias = npt.NDArray[np.float32]
IndexArray: TypeAlias = npt.NDArray[np.int64]


def choose(logits: FloatArray, correction: FloatArray | None, routing: Routing) -> tuple[IndexArray, FloatArray]:
    """Return expert numbers and weights, both [tokens, active], from router logits [tokens, experts].

    The correction bias shifts the choice; the weights are the scores without it.
    """
    scores = _sigmoid(logits) if routing.sigmoid else _softmax(logits)
    ranked = scores if correction is None else scores + correction
    if routing.groups > 1:
        ranked = _keep_best_groups(ranked, routing)
    chosen = np.argsort(-ranked, axis=-1, kind="stable")[:, : routing.active]
    weights = np.take_along_axis(scores, chosen, axis=-1)
    if routing.normalise:
        weights = weights / (weights.sum(axis=-1, keepdims=True) + np.float32(1e-20))
    return chosen, weights * np.float32(routing.scale)


def _keep_best_groups(ranked: FloatArray, routing: Routing) -> FloatArray:
    """Rule out the experts of all groups but the best; a group is as good as its two best experts together."""
    grouped = ranked.reshape(len(ranked), routing.groups, -1)
    worth = np.sort(grouped, axis=-1)[:, :, -2:].sum(axis=-1)
    kept = np.argsort(-worth, axis=-1, kind="stable")[:, : routing.groups_kept]
    mask = np.full(worth.shape, np.float32(-np.inf))
    np.put_along_axis(mask, kept, np.float32(0.0), axis=-1)
    return (grouped + mask[:, :, None]).reshape(ranked.shape)


def _sigmoid(x: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):  # an infinite exp(-x) makes the score zero, as it should
        return np.float32(1.0) / (np.float32(1.0) + np.exp(-x))


def _softmax(x: FloatArray) -> FloatArray:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
