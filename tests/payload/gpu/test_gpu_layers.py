"""The half-layer operations of a card against the reference's, each given the reference's own input."""

import numpy as np
import pytest
import torch
from dllama_glm.devices.one_token import OneToken
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.device import At

from tests.payload.gpu.gpu_models import DENSE, MOE, PLACE, SOFTMAX, device, difference, reference

BOUNDS = {True: 2e-5, False: 0.03}


def give(x: OneToken | torch.Tensor, values: np.ndarray) -> None:
    """Put values into a residual stream."""
    target = x.x if isinstance(x, OneToken) else x
    target.copy_(torch.from_numpy(values).reshape(target.shape))


def values_of(x: OneToken | torch.Tensor) -> np.ndarray:
    """A residual stream [tokens, dim] on the host."""
    return (x.x[None] if isinstance(x, OneToken) else x).cpu().numpy()


@pytest.mark.parametrize(
    ("architecture", "exact"),
    [(MOE, False), (DENSE, False), (SOFTMAX, True)],
    ids=["glm4_moe", "glm4", "qwen3_moe-exact"],
)
def test_a_pass_computes_what_the_reference_computes(architecture: Architecture, exact: bool):
    """A prompt of nine tokens and a token behind it: every half of every layer, and the logits.

    Groups of experts, two shared ones, biases, norms of heads, half and interleaved rotation, norms behind the halves,
    a window, a softmax router; widths that leave something over in every tile.
    """
    expected, found = reference(architecture), device(architecture, exact=exact)
    worst: dict[str, float] = {}

    def note(name: str, one: np.ndarray, other: np.ndarray) -> None:
        worst[name] = max(worst.get(name, 0.0), difference(one, other))

    for at in (At(0, 9), At(9, 1)):
        ids = [(7 * place + 3) % architecture.vocab_size for place in range(at.tokens)]
        x, y = expected.embed(ids), found.embed(ids)
        note("embed", values_of(y), x)
        for layer in range(architecture.layers):
            mixed = expected.attention(layer, expected.attend_inputs(layer, x, at), at)
            x = expected.attend_output(layer, mixed, x)
            y = found.attend_output(layer, found.attention(layer, found.attend_inputs(layer, y, at), at), y)
            note("attention", values_of(y), x)
            give(y, x)
            routed, own = expected.route(layer, x), found.route(layer, y)
            x = expected.contract(layer, expected.expand(layer, routed), routed, x)
            y = found.contract(layer, found.expand(layer, own), own, y)
            note("mlp", values_of(y), x)
            give(y, x)
        note("head", found.head(y, every=True), expected.head(x, every=True))
    assert {name: error for name, error in worst.items() if not error <= BOUNDS[exact]} == {}
    assert str(found._shape.place) == PLACE
