"""A card shows that it computes what the reference does: on a layer made here, then on one of the model's own."""

from dataclasses import replace
from itertools import count
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from dllama_glm.devices.card import Card, CardError
from dllama_glm.devices.cuda import CudaDevice
from dllama_glm.devices.one_token import OneToken
from dllama_glm.devices.reference import ReferenceDevice
from dllama_glm.parallel.group import SingleGroup
from dllama_glm.parallel.shard import Shard
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.device import At, Group
from dllama_glm.runtime.matrix import BLOCK_BYTES, F32, Q40, Matrix
from dllama_glm.runtime.weights import Weights

FAST, EXACT = 0.05, 1e-3  # largest difference, as a share of the largest number
_TOKEN = 1
_POSITIONS = 16  # of the cache in front of the model's own
_ROWS = 64  # of the vocabulary there
_PLACES = 997  # where matrices begin in the numbers that they share

Floats: TypeAlias = npt.NDArray[np.float32]


def try_layer(
    weights: Weights, architecture: Architecture, shard: Shard, group: Group, *, card: Card, exact: bool
) -> None:
    """Have the card compute a layer of the model's sizes from numbers made here: of the file nothing is read for it.

    Raises CardError where it computes wrongly; whatever a kernel that fails raises. What it compiles serves the model.
    """
    made, one = _made_here(weights), replace(architecture, layers=1)
    check_layer(CudaDevice(made, one, shard, group, _POSITIONS, card=card, exact=exact), made, one, shard, exact=exact)


def _made_here(weights: Weights) -> Weights:
    """The last layer's sizes and vectors, with random matrices, which lie at different places of the same numbers."""
    few = replace(
        weights, layers=weights.layers[-1:], head=weights.head.take_rows(range(min(_ROWS, weights.head.rows)))
    )
    embedding = Matrix(few.embedding.raw, F32, _TOKEN + 1, few.embedding.columns, 0, 0)
    random = np.random.default_rng(_TOKEN)
    most = max(matrix.nbytes for matrix in (embedding, *few.matrices()))
    blocks = random.integers(0, 256, (most // BLOCK_BYTES[Q40] + _PLACES, BLOCK_BYTES[Q40]), np.uint8)
    blocks[:, :2] = np.full((1, 1), 0.01, "<f2").view(np.uint8)
    floats = (random.standard_normal(most // BLOCK_BYTES[F32] + _PLACES) * 0.02).astype("<f4").view(np.uint8)
    numbers = {Q40: blocks.reshape(-1), F32: floats}
    places = count()

    def made(matrix: Matrix) -> Matrix:
        offset = next(places) % _PLACES * BLOCK_BYTES[matrix.kind]
        return replace(matrix, raw=numbers[matrix.kind], offset=offset, stride=matrix.row_bytes)

    return replace(few.moved(made), embedding=made(embedding))


def check_layer(device: CudaDevice, weights: Weights, architecture: Architecture, shard: Shard, *, exact: bool) -> None:
    """Run a token through the last layer on card and reference, each half from the same input.

    Raises CardError where they differ. With several ranks each computes its own part only, and nothing is summed.
    """
    layer = architecture.layers - 1
    reference = ReferenceDevice(weights, architecture, shard, SingleGroup(), 1)
    room: Any = device.embed([_TOKEN])
    assert isinstance(room, OneToken)
    room.position.fill_(0)
    x = reference.embed([_TOKEN])
    middle = reference.attend_output(layer, _attended(reference, layer, x), x)
    _give(room, x)
    room.attend_inputs(layer)
    room.attention(layer)
    if not room.attend_output(layer):
        room.settle(device.norms_behind(layer)[0])
    _compare(device, room, x, middle, "attention", exact=exact)
    routed = reference.route(layer, middle)
    after = reference.contract(layer, reference.expand(layer, routed), routed, middle)
    _give(room, middle)
    room.route(layer)
    room.expand(layer)
    if not room.contract(layer):
        room.settle(device.norms_behind(layer)[1])
    _compare(device, room, middle, after, "the MLP", exact=exact)


def _attended(reference: ReferenceDevice, layer: int, x: Floats) -> Floats:
    at = At(0, 1)
    return reference.attention(layer, reference.attend_inputs(layer, x, at), at)


def _give(room: OneToken, x: Floats) -> None:
    room.x.copy_(torch.from_numpy(x[0]))


def _compare(device: CudaDevice, room: OneToken, x: Floats, expected: Floats, half: str, *, exact: bool) -> None:
    change = expected[0] - x[0]
    wrong = np.abs(room.x.cpu().numpy() - expected[0]).max() / max(float(np.abs(change).max()), 1e-30)
    if not wrong <= (EXACT if exact else FAST):  # not a number is wrong, too
        name = device.described["device"]
        raise CardError(f"{name} computes {half} of a layer wrongly: {wrong:.1%} off what the processor computes")
