"""A model on its way to a card: what is tried before its file is read, where its parts come to lie, and how large."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from dllama_glm.devices import cuda as cuda_device
from dllama_glm.devices.cache import Cache
from dllama_glm.devices.card import CardError
from dllama_glm.devices.layout import cache_bytes, device_bytes, lay_out
from dllama_glm.devices.one_token import OneToken
from dllama_glm.devices.shape import shape_of
from dllama_glm.parallel.group import SingleGroup
from dllama_glm.parallel.shard import shard
from dllama_glm.runtime import loader, weights
from dllama_glm.runtime import model as models

from tests.payload.gpu.gpu_models import CARD, MOE, PLACE, TILES, TINY, RandomTensors, device, model_of

PART = shard(TINY, 0, 1)


class Loading:
    """Loads the small model as onto a card; `read` says of each layout whether it was the file's matrices."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept = weights.load(RandomTensors(TINY), TINY, PART)
        self.read: list[bool] = []
        self._lay_out = lay_out
        monkeypatch.setattr(cuda_device, "lay_out", self._noting)
        monkeypatch.setattr(cuda_device, "tiles_for", lambda _: dict(TILES))

    def _noting(self, found: weights.Weights, *more: object) -> object:
        self.read.append(found.head.raw is self.kept.head.raw)
        return self._lay_out(found, *more)  # type: ignore[arg-type]

    def load(self) -> object:
        return loader._on_card(self.kept, TINY, PART, SingleGroup(), 24, card=CARD, exact=False)


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Loading:
    return Loading(monkeypatch)


def test_a_layer_made_here_is_computed_before_the_model_is_read(loading: Loading):
    """First random matrices of the model's sizes, then the file's own."""
    loading.load()
    assert loading.read == [False, True]


def _fails(_: OneToken, __: int) -> None:
    raise RuntimeError("out of resource: shared memory, Required: 300000\nhints on\nmany lines")


def _wrong(plain: Callable[[OneToken, int], bool]) -> Callable[[OneToken, int], bool]:
    def contract(one: OneToken, layer: int) -> bool:
        added = plain(one, layer)
        one.x.mul_(1.2)
        return added

    return contract


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (_fails, r"a layer of the model's size failed: out of resource: shared memory, Required: 300000\. \(--device"),
        (_wrong(OneToken.contract), r"a card computes the MLP of a layer wrongly: \d"),
    ],
    ids=["a kernel that fails", "a card that computes wrongly"],
)
def test_what_a_card_cannot_do_is_one_line_before_the_model_is_read(
    broken: object, told: str, loading: Loading, monkeypatch: pytest.MonkeyPatch
):
    """Nothing of the file has been read when it is said."""
    monkeypatch.setattr(OneToken, "contract", broken)
    with pytest.raises(CardError, match=told) as caught:
        loading.load()
    assert "\n" not in str(caught.value)
    assert loading.read == [False]


def test_memory_that_runs_out_on_the_way_is_one_line(loading: Loading, monkeypatch: pytest.MonkeyPatch):
    """Somebody else took it after it was counted: torch's first line, and no traceback."""
    plain = loading._lay_out

    def full(found: weights.Weights, *more: object) -> object:
        if found.head.raw is loading.kept.head.raw:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")
        return plain(found, *more)  # type: ignore[arg-type]

    loading._lay_out = full  # type: ignore[assignment]
    with pytest.raises(CardError, match=r"loading the model failed: CUDA out of memory\. Tried .* GiB\. \(") as caught:
        loading.load()
    assert "\n" not in str(caught.value)


def test_weights_lie_on_the_card_at_four_and_a_half_bits_and_the_embedding_on_the_host():
    """All matrices, codes and scales together, take what Q40 takes in the file; the table stays outside."""
    kept = weights.load(RandomTensors(MOE), MOE, shard(MOE, 0, 1))
    laid = lay_out(kept, MOE, torch.device("meta"))
    assert laid.embedding.device.type == "cpu"
    matrices = [
        laid.head,
        *(one for layer in laid.layers for one in (layer.qkv, layer.o, layer.gate, layer.up, layer.down)),
    ]
    assert {tensor.device.type for one in matrices for tensor in (one.codes, one.scales)} == {"meta"}
    size = sum(one.codes.nbytes + one.scales.nbytes for one in matrices)
    size += sum(layer.router.nbytes for layer in laid.layers if layer.router is not None)
    assert size == device_bytes(kept)


@pytest.mark.parametrize(("exact", "kind"), [(False, torch.bfloat16), (True, torch.float32)])
def test_the_cache_is_bf16_and_as_large_as_was_asked_for(exact: bool, kind: torch.dtype):
    """Keys and values of so many positions, two bytes each (exact: four), as the card's room is asked for."""
    part = shard(MOE, 1, 2)
    for capacity in (7, 320):
        cache = Cache(shape_of(MOE, part, capacity, torch.device(PLACE), TILES, exact=exact), part)
        assert (cache.keys.dtype, cache.values.dtype) == (kind, kind)
        assert cache.keys.nbytes + cache.values.nbytes == capacity * cache_bytes(MOE, part, exact=exact)


def test_a_prompt_is_read_in_chunks_of_512(monkeypatch: pytest.MonkeyPatch):
    """Room is kept for so much; of a chunk that is not the last no logits are made."""
    made = device(TINY)
    model = model_of(TINY, made)
    chunks: list[int] = []
    headed: list[int] = []

    def note(ids: list[int], position: int) -> object:
        chunks.append(len(ids))
        return np.zeros((len(ids), 1), np.float32)

    def head(x: np.ndarray, *, every: bool) -> np.ndarray:
        headed.append(len(x))
        return np.zeros((1, TINY.vocab_size), np.float32)

    monkeypatch.setattr(model, "_layers", note)
    monkeypatch.setattr(made, "head", head)
    model.capacity = 2000
    model.forward([1] * 1100, 0)
    assert chunks == [512, 512, 76]
    assert headed == [76]
    assert models.CHUNK == 512
