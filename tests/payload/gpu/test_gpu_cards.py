"""What a card must be before a model is read, and what is said where it is not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from dllama_glm.devices import card as cards
from dllama_glm.devices import choice
from dllama_glm.devices.card import CardError, check_room, positions_for
from dllama_glm.devices.card_check import check_layer
from dllama_glm.parallel.shard import shard
from dllama_glm.runtime import weights
from dllama_glm.runtime.errors import DllamaError
from dllama_glm.runtime.matrix import Q80

from tests.payload.gpu.gpu_models import CARD, ON_CARD, TINY, RandomTensors, device
from tests.payload.runtime.runtime_scripts import try_script

WAY_OUT = r"\(--device cpu computes on the processor\.\)"
GB = 10**9


@pytest.mark.skipif(ON_CARD, reason="there is a card here")
def test_auto_without_a_card_is_the_processor_and_cuda_an_error():
    """Asked for a GPU where none is: one line, exit code 1, before the model is read."""
    assert choice.cards_for("auto") == choice.cards_for("cpu") == 0
    with pytest.raises(CardError, match=rf"there is none here.*{WAY_OUT}"):
        choice.cards_for("cuda")


@pytest.mark.skipif(ON_CARD, reason="its torch can do CUDA")
def test_auto_with_a_card_that_fails_stops_and_says_why(monkeypatch: pytest.MonkeyPatch):
    """A driver's device file, and a torch without CUDA: nothing falls back to the processor in silence."""
    monkeypatch.setattr(choice, "has_nvidia_gpu", lambda: True)
    with pytest.raises(CardError, match=rf"built without CUDA.*{WAY_OUT}"):
        choice.cards_for("auto")
    assert choice.cards_for("cpu") == 0


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("The NVIDIA driver on your system is too old (found version 11040). Please update.\nMore", "too old"),
        ("CUDA error: out of memory\nhints", "out of memory"),
    ],
)
def test_what_the_driver_says_is_one_line(message: str, told: str, monkeypatch: pytest.MonkeyPatch):
    """A driver that is too old or a card without memory is told in its own words' first line."""

    def fail() -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(cards, "_check_libraries", lambda: None)
    monkeypatch.setattr(torch.cuda, "init", fail)
    with pytest.raises(CardError, match=told) as caught:
        cards.open_card(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "found"), [("torch", "2.5.1+cu124"), ("triton", "3.1.0")])
def test_libraries_that_are_too_old_are_named(name: str, found: str):
    """With what is installed and what is needed."""
    with pytest.raises(CardError, match=rf"{name} {found.replace('+', '.')} is installed, and \d\.\d or newer"):
        cards._check_version(name, found, {"torch": cards.OLDEST_TORCH, "triton": cards.OLDEST_TRITON}[name])
    cards._check_version(name, "3.10.1", cards.OLDEST_TRITON)


def test_a_model_that_does_not_fit_is_refused_with_its_parts():
    """Weights, cache and what is beside them against what is free; a card that ranks share is divided."""
    card = replace(CARD, name="H100", free=80 * GB, total=85 * GB)
    check_room(card, 62 * GB, 5 * GB)
    with pytest.raises(CardError, match=r"62\.0 GB of weights, 25\.0 GB of cache.*80\.0 GB.*lower --max-seq-len"):
        check_room(card, 62 * GB, 25 * GB)
    with pytest.raises(CardError, match=r"40\.0 GB.*shared by 2 ranks"):
        check_room(replace(card, sharers=2), 62 * GB, 5 * GB)


def test_the_cache_s_default_keeps_to_the_plan_s_share_of_memory():
    """GLM-4.5-Air on an H100: about 34,000 positions, with which 80 % of the card are not passed."""
    card = replace(CARD, total=int(85.5 * GB))
    found = positions_for(card, int(62.3 * GB - 2.5 * GB), 188_416)
    assert 33_000 < found < 36_000
    assert int(59.8 * GB) + found * 188_416 + cards.ROOM <= 0.8 * card.total
    assert positions_for(card, 90 * GB, 188_416) == 1


def test_other_storage_than_q40_is_refused_in_one_line():
    """The kernels read Q40 only; what is stored otherwise runs on the processor."""
    from dllama_glm.devices.layout import check_storage

    kept = weights.load(RandomTensors(TINY), TINY, shard(TINY, 0, 1))
    check_storage(kept)
    with pytest.raises(DllamaError, match=r"must be Q40.*--device cpu"):
        check_storage(replace(kept, head=replace(kept.head, kind=Q80)))


def test_a_card_shows_on_a_layer_that_it_computes_rightly():
    """A layer's halves equal the reference's; a card with one wrong scale is refused with its name and the half."""
    part = shard(TINY, 0, 1)
    kept = weights.load(RandomTensors(TINY), TINY, part)
    made = device(TINY)
    check_layer(made, kept, TINY, part, exact=False)
    made._laid.layers[-1].down.scales.mul_(1.5)
    with pytest.raises(CardError, match=r"a card computes the MLP of a layer wrongly: \d"):
        check_layer(made, kept, TINY, part, exact=False)


@pytest.mark.skipif(ON_CARD, reason="there is a card here")
def test_the_command_ends_before_it_looks_for_workers(tmp_path: Path):
    """`--device cuda` without a card: exit code 1 and one line, without a model's byte or a worker's word."""
    model = tmp_path / "m.m"
    model.write_bytes(b"")
    done = try_script("dllama", "bench", str(model), "--device", "cuda")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
