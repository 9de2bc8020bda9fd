"""A card that can compute: what it is, and whether everything that computing on it takes is there."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dllama_glm.runtime.errors import DllamaError

OLDEST_TORCH, OLDEST_TRITON = (2, 6), (3, 2)
OLDEST_CARD = 80  # compute capability 8.0: bfloat16 in its matrix units
SHARE = 0.8  # of a card's memory: what is not asked for otherwise stays below it
ROOM = 2 << 30  # bytes beside weights and cache: CUDA's context, kernels, what torch rounds up, a prompt's activations
_WAY_OUT = "--device cpu computes on the processor"


class CardError(DllamaError):
    """A card that cannot be used, and why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The GPU cannot be used: {reason}. ({_WAY_OUT}.)")


@dataclass(frozen=True)
class Card:
    """One card. `place` is its name for torch, `capability` 90 for 9.0; `total` and, when it was opened, `free` bytes.

    `sharers` is how many ranks compute on it; `details` are the versions and the driver.
    """

    index: int
    name: str
    place: str
    capability: int
    total: int
    free: int
    sharers: int = 1
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def described(self) -> dict[str, Any]:
        """The card in the words of `--json`."""
        return {"device": self.name, "card": self.index, "sharers": self.sharers} | self.details


def card_count() -> int:
    """How many cards torch sees; 0 without torch."""
    try:
        import torch
    except ImportError:
        return 0
    return int(torch.cuda.device_count()) if torch.version.cuda else 0


def open_card(index: int, sharers: int = 1) -> Card:
    """Return the card when all that computing on it takes is there and works; raise CardError otherwise."""
    _check_libraries()
    import torch
    import triton

    try:
        torch.cuda.init()
        torch.cuda.set_device(index)
        free, total = torch.cuda.mem_get_info(index)
        facts = torch.cuda.get_device_properties(index)
    except (RuntimeError, AssertionError) as error:  # torch's words: no driver, one that is too old, no such card
        raise CardError(_first_line(error)) from error
    capability = 10 * facts.major + facts.minor
    if capability < OLDEST_CARD:
        raise CardError(f"{facts.name} has compute capability {facts.major}.{facts.minor}, and 8.0 is needed")
    _try_a_kernel(index)
    details = {"torch": torch.__version__, "triton": triton.__version__, "cuda": torch.version.cuda}
    return Card(index, facts.name, f"cuda:{index}", capability, total, free, sharers, details)


@contextmanager
def told_plainly(what: str) -> Iterator[None]:
    """Make one line of what fails in the block: what compilers, drivers and allocators raise has no common kind."""
    try:
        yield
    except DllamaError:
        raise
    except Exception as error:
        raise CardError(f"{what} failed: {_first_line(error)}") from error


def positions_for(card: Card, weight_bytes: int, position_bytes: int) -> int:
    """How many positions the cache may have, so that SHARE of the card's memory is not passed; at least 1."""
    left = int(SHARE * card.total / card.sharers) - weight_bytes - ROOM
    return max(1, left // position_bytes)


def check_room(card: Card, weight_bytes: int, cache_bytes: int) -> None:
    """Refuse what will not fit, before anything is read."""
    needed, free = weight_bytes + cache_bytes + ROOM, card.free // card.sharers
    if needed > free:
        parts = f"{_gb(weight_bytes)} of weights, {_gb(cache_bytes)} of cache and {_gb(ROOM)} beside"
        shared = f", shared by {card.sharers} ranks" if card.sharers > 1 else ""
        raise CardError(
            f"{parts} are more than the {_gb(free)} that are free on {card.name}{shared}: "
            "lower --max-seq-len, use more cards (--workers), or end what else is on it"
        )


def _check_libraries() -> None:
    try:
        import torch
    except ImportError:
        raise CardError("torch is not installed (pip install torch)") from None
    if torch.version.cuda is None:
        raise CardError(f"this torch ({torch.__version__}) was built without CUDA")
    _check_version("torch", torch.__version__, OLDEST_TORCH)
    try:
        import triton
    except ImportError:
        raise CardError("triton is not installed, which CUDA's torch brings (pip install triton)") from None
    _check_version("triton", triton.__version__, OLDEST_TRITON)


def _check_version(name: str, found: str, oldest: tuple[int, int]) -> None:
    numbers = tuple(int(number) for number in re.findall(r"\d+", found)[:2])
    if numbers < oldest:
        raise CardError(f"{name} {found} is installed, and {oldest[0]}.{oldest[1]} or newer is needed")


def _try_a_kernel(index: int) -> None:
    """Compile and run the smallest kernel: it takes a C compiler, the driver's agreement, and a card that answers."""
    import torch

    from dllama_glm.kernels.cuda.rows import settle

    with told_plainly("a first kernel"):
        x, partial = (torch.ones(32, device=f"cuda:{index}") for _ in range(2))
        settle[(1,)](x, partial, x, 1e-5, DIM=32, WIDTH=32, NORMED=False)
        sums = x.tolist()
    if sums != [2.0] * 32:
        raise CardError("a first kernel computed 1 + 1 wrongly")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
