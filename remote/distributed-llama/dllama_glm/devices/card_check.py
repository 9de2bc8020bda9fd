"""A card shows on one of the model's own layers that it computes what the reference does."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from dllama_glm.devices.card import CardError
from dllama_glm.devices.cuda import CudaDevice
from dllama_glm.devices.one_token import OneToken
from dllama_glm.devices.reference import ReferenceDevice
from dllama_glm.parallel.group import SingleGroup
from dllama_glm.parallel.shard import Shard
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.device import At
from dllama_glm.runtime.weights import Weights

FAST, EXACT = 0.05, 1e-3  # largest difference, as a share of the largest number
_TOKEN = 1

Floats: TypeAlias = npt.NDArray[np.float32]


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
