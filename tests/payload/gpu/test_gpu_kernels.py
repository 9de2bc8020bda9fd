"""Single kernels against numpy: odd widths, one to nine tokens, equal experts, a long cache."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from dllama_glm.devices.layout import Way
from dllama_glm.devices.prompt import choose as choose_many
from dllama_glm.devices.prompt import sort_slots
from dllama_glm.kernels.cuda import attention, panels, routing, rows
from dllama_glm.runtime.architecture import Routing
from dllama_glm.runtime.matrix import Q40
from dllama_glm.runtime.routing import choose

from tests.payload.gpu.gpu_models import PLACE, difference, stored

RANDOM = np.random.default_rng(4)


def here(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values).to(PLACE)


def blocks_of(values: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Codes and scales as the card has them, and the values that they stand for."""
    matrix = stored(values.astype(np.float32), Q40)
    laid = Way(torch.device(PLACE)).blocks([matrix])
    return laid.codes, laid.scales, matrix.to_float()


def test_the_layout_keeps_every_code_and_scale():
    """Taken apart, a block is its sixteen bytes of codes in their order and its scale, 4.5 bits a weight."""
    codes, scales, values = blocks_of(RANDOM.standard_normal((5, 96)))
    assert codes.numel() * 4 + scales.numel() * 2 == 5 * 3 * 18
    nibbles = codes.cpu().view(torch.uint8).numpy().reshape(-1, 16)
    whole = np.concatenate([nibbles & 15, nibbles >> 4], axis=1).astype(np.float32) - 8
    assert np.array_equal((whole * scales.cpu().numpy()[:, None].astype(np.float32)).reshape(5, 96), values)


@pytest.mark.parametrize(("count", "columns"), [(37, 96), (5, 480)])
@pytest.mark.parametrize("exact", [True, False])
def test_rows_of_any_number_and_width(count: int, columns: int, exact: bool):
    """A product whose rows and blocks leave something over in every tile; added to what is there."""
    codes, scales, values = blocks_of(RANDOM.standard_normal((count, columns)))
    x = RANDOM.standard_normal(columns).astype(np.float32)
    out = torch.ones(count, device=PLACE)
    given = here(x)
    rows.multiply[(-(-count // 16),)](
        given, given, given, codes, scales, out, count, COLUMNS=columns, ROWS=16, BLOCKS=4, ADD=True, CUT=True,
        EXACT=exact,
    )  # fmt: skip
    assert difference(out.cpu().numpy() - 1, values @ x) < (1e-5 if exact else 0.02)


@pytest.mark.parametrize("tokens", [1, 3, 9])
def test_panels_of_one_to_nine_tokens(tokens: int):
    """Many tokens' product, gated or not, with a matrix of odd height and a depth that is no whole tile."""
    codes, scales, values = blocks_of(RANDOM.standard_normal((37, 160)))
    x = RANDOM.standard_normal((tokens, 160)).astype(np.float32)
    none = torch.zeros(1, dtype=torch.int32, device=PLACE)
    for gated in (False, True):
        out = torch.empty((tokens, 37), device=PLACE)
        panels.panel_products[(1, 1)](
            here(x).half(), codes.view(torch.uint8), scales, codes.view(torch.uint8), scales, out, none, none, none,
            none, tokens, 37, 1, COLUMNS=160, TOKENS=16, ROWS=64, DEPTH=64, GATED=gated, GROUPED=False, GATHER=False,
            SCATTER=False, EXACT=False,
        )  # fmt: skip
        y = x @ values.T
        assert difference(out.cpu().numpy(), y / (1 + np.exp(-y)) * y if gated else y) < 2e-3


def test_slots_are_sorted_into_parts_of_one_expert():
    """Every slot stands in one part, parts hold one expert's; all tokens may have the same experts."""
    for chosen in (RANDOM.integers(0, 6, (9, 2)), np.full((9, 2), 3)):
        slots = sort_slots(here(chosen), 6, 4)
        order, expert, first, end = (t.cpu().numpy() for t in (slots.order, slots.expert, slots.first, slots.end))
        seen = []
        for number, start in zip(expert, first, strict=True):
            own = order[start : min(start + 4, end[number])]
            assert (chosen.reshape(-1)[own] == number).all()
            seen += own.tolist()
        assert sorted(seen) == list(range(18))


@triton.jit
def _choices(
    scores: tl.tensor, correction: tl.tensor, numbers: tl.tensor, shares: tl.tensor, scale: float,
    EXPERTS: tl.constexpr, ACTIVE: tl.constexpr,
    GROUPS: tl.constexpr, MOST: tl.constexpr, EACH: tl.constexpr, KEPT: tl.constexpr, SIGMOID: tl.constexpr,
    NORMALISE: tl.constexpr,
):  # fmt: skip
    slot = tl.program_id(0)
    number, share = routing.choose(
        scores, correction, slot, EXPERTS, ACTIVE, GROUPS, MOST, EACH, KEPT, SIGMOID, NORMALISE, True, scale
    )
    tl.store(numbers + slot, number)
    tl.store(shares + slot, share)


@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize(
    "kind",
    [
        Routing(6, 3, sigmoid=True, normalise=True, scale=2.5, corrected=True),
        Routing(12, 3, sigmoid=True, normalise=False, groups=3, groups_kept=2, corrected=True),
        Routing(6, 2, sigmoid=False, normalise=True, corrected=True),
    ],
    ids=["sigmoid", "groups", "softmax"],
)
def test_experts_are_chosen_as_the_reference_chooses(kind: Routing, equal: bool):
    """Numbers and shares, one token's by the kernel and many tokens'; of equal experts the first ones."""
    logits = RANDOM.standard_normal((4, kind.experts)).astype(np.float32) * (0 if equal else 1)
    correction = RANDOM.standard_normal(kind.experts).astype(np.float32) * np.float32(0 if equal else 0.3)
    numbers, shares = choose(logits, correction, kind)
    many = choose_many(here(logits), here(correction), kind)
    assert np.array_equal(many[0].cpu().numpy(), numbers)
    assert difference(many[1].cpu().numpy(), shares) < 1e-5
    plain = 1 / (1 + np.exp(-logits[0])) if kind.sigmoid else logits[0]
    scores = here(np.stack([plain, plain + correction]).astype(np.float32))
    found = torch.zeros(kind.active, dtype=torch.int32, device=PLACE)
    given = torch.zeros(kind.active, device=PLACE)
    sizes = {"MOST": 1 << (kind.groups - 1).bit_length(), "EACH": 8 if kind.groups == 1 else 4}
    _choices[(kind.active,)](
        scores, here(correction), found, given, kind.scale, EXPERTS=kind.experts, ACTIVE=kind.active,
        GROUPS=kind.groups, KEPT=kind.groups_kept, SIGMOID=kind.sigmoid, NORMALISE=kind.normalise, **sizes,
    )  # fmt: skip
    assert found.cpu().tolist() == numbers[0].tolist()
    assert difference(given.cpu().numpy(), shares[0]) < 1e-5


@pytest.mark.parametrize("window", [1000, 50])
def test_attention_over_a_long_cache_in_three_parts(window: int):
    """One token behind 300 others, positions split over programs of which some may see none; uneven query heads."""
    head, capacity, place = 32, 320, 300
    q = RANDOM.standard_normal((3, head)).astype(np.float32)
    keys, values = (RANDOM.standard_normal((2, capacity, head)).astype(np.float32) for _ in range(2))
    parts = [torch.zeros(size, device=PLACE) for size in (2 * 3 * 16 * head, 2 * 3 * 16, 2 * 3 * 16)]
    tickets = torch.zeros(2, dtype=torch.int32, device=PLACE)
    out = torch.zeros(3 * head, device=PLACE)
    for _ in range(2):  # the second time with the tickets that the first one has left
        attention.attend[(2, 1, 3)](
            here(q), here(keys), here(values), here(np.array([0, 2, 3], np.int32)),
            here(np.array([place], np.int32)), *parts, tickets, out, out, out, 1, capacity, window, head**-0.5,
            HEADS=3, HEAD=head, LANES=head, ROWS=16, POSITIONS=64, SPLITS=3, BYTES=False, EXACT=True,
        )  # fmt: skip
    seen = slice(max(0, place - window + 1), place + 1)
    scores = np.stack([keys[kv, seen] @ one for one, kv in zip(q, (0, 0, 1), strict=True)]) * head**-0.5
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    expected = np.stack([share @ values[kv, seen] for share, kv in zip(shares, (0, 0, 1), strict=True)])
    assert difference(out.cpu().numpy().reshape(3, head), expected) < 1e-5
    assert tickets.tolist() == [0, 0]


def test_the_best_token_is_the_first_of_equals_on_any_rank():
    """Among parts, and among ranks whose rows begin elsewhere; the position goes on by one."""
    logits = np.zeros(2500, np.float32)
    logits[[1700, 2100]] = 5.0
    tops, places = torch.zeros(3, device=PLACE), torch.zeros(3, dtype=torch.int32, device=PLACE)
    rows.best_of_part[(3,)](here(logits), tops, places, 2500, PART=1024)
    token, position, own = (torch.zeros(2, dtype=torch.int32, device=PLACE) for _ in range(3))
    rows.best[(1,)](tops, places, places, token, position, own, 3, MOST=4, STRIDE=1, RANKS=False, LAST=False)
    assert own.view(torch.float32)[0] == 5.0
    assert own[1] == 1700
    pairs = [(4.0, 9), (5.0, 3), (5.0, 1)]
    found = here(np.array([[np.float32(value).view(np.int32), place] for value, place in pairs], np.int32))
    firsts = here(np.array([0, 10, 20], np.int32))
    rows.best[(1,)](
        found.view(torch.float32), found.view(-1)[1:], firsts, token, position, own, 3, MOST=4, STRIDE=2, RANKS=True,
        LAST=True,
    )  # fmt: skip
    assert (int(token[0]), int(position[0])) == (13, 1)
