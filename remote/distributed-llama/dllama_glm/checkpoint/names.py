"""Under which names and in which shapes the values of a `.m` file's tensor may stand in a checkpoint.

Beside the plain layout (a matrix an expert) there are two stacked ones. transformers' own since version 5 has
`mlp.experts.gate_up_proj` [experts, 2 x width, dim] and `down_proj` [experts, dim, width]. PrimeIntellect's trainer
prime-rl, which INTELLECT-3 was trained with, has `mlp.experts.w1` (gate) and `w3` (up) [experts, width, dim], `w2`
(down) [experts, dim, width], and its own names for router, correction bias and shared expert
(src/prime_rl/trainer/models/glm4_moe/converting_glm4_moe.py and conversion_ops.py at 475b0fa5).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dllama_glm.checkpoint.config import ModelConfig
from dllama_glm.formats.model_header import Header
from dllama_glm.formats.model_keys import Arch
from dllama_glm.formats.model_layout import EMBEDDING, HEAD, TensorSlot

_EXPERT = re.compile(r"^(?P<mlp>.+\.mlp\.)experts\.(?P<expert>\d+)\.(?P<part>gate|up|down)_proj\.weight$")
_SHARED = re.compile(r"^(?P<mlp>.+\.mlp\.)shared_experts\.(?P<part>gate|up|down)_proj\.weight$")
_TRAINERS = {"gate": "w1", "down": "w2", "up": "w3"}
_TRAINERS_ROUTER = {"mlp.gate.weight": "mlp.router.gate.weight", "mlp.gate.e_score_correction_bias": "mlp.expert_bias"}
# What changes nothing: older checkpoints' rotary frequencies, and the trainer's count of tokens by expert.
_WITHOUT_EFFECT = re.compile(r"(^|\.)rotary_emb\.inv_freq$|\.mlp\.tokens_per_expert$")


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor's name, the shapes that it may have there, and the first of our values in it."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    first: int = 0


def places(config: ModelConfig, slot: TensorSlot) -> Iterator[Place]:
    """Every place where the slot's values may stand, the plain one first."""
    yield Place(slot.name, (slot.shape,))
    yield from _others(config, slot)


def without_effect(name: str) -> bool:
    """Whether a tensor that no slot needs may be there all the same."""
    return bool(_WITHOUT_EFFECT.search(name))


def _others(config: ModelConfig, slot: TensorSlot) -> Iterator[Place]:
    header = config.header
    if slot.name == HEAD and config.tied:
        yield Place(EMBEDDING, (slot.shape,))
    if header.arch is Arch.GLM4 and slot.name.endswith((".mlp.gate_proj.weight", ".mlp.up_proj.weight")):
        stem, part = slot.name.rsplit(".", 2)[:2]
        fused = (2 * header.hidden_dim, header.dim)
        yield Place(f"{stem}.gate_up_proj.weight", (fused,), 0 if part == "gate_proj" else slot.values)
    if match := _EXPERT.match(slot.name):
        yield from _stacked(header, slot, match)
    elif match := _SHARED.match(slot.name):
        yield Place(f"{match['mlp']}shared_expert.{_TRAINERS[match['part']]}", (slot.shape, (1, *slot.shape)))
    for ours, theirs in _TRAINERS_ROUTER.items():
        if slot.name.endswith(f".{ours}"):
            yield Place(slot.name.removesuffix(ours) + theirs, (slot.shape,))


def _stacked(header: Header, slot: TensorSlot, match: re.Match[str]) -> Iterator[Place]:
    stack, expert, part = f"{match['mlp']}experts.", int(match["expert"]), match["part"]
    whole = (header.n_experts, *slot.shape)
    if part == "down":
        yield Place(f"{stack}down_proj", (whole,), expert * slot.values)
    else:
        fused = (header.n_experts, 2 * header.moe_hidden_dim, header.dim)
        yield Place(f"{stack}gate_up_proj", (fused,), (2 * expert + (part == "up")) * slot.values)
    yield Place(f"{stack}{_TRAINERS[part]}", (whole,), expert * slot.values)
