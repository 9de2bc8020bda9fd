"""What the kernels of a rank are compiled for: the sizes of its part of a model."""

from dataclasses import dataclass

import torch

from dllama_glm.devices.tiles import Tile
from dllama_glm.parallel.shard import Shard
from dllama_glm.runtime.architecture import Architecture

BLOCK = 32


def power(value: int) -> int:
    """The next power of two."""
    return 1 << max(0, value - 1).bit_length()


@dataclass(frozen=True)
class Shape:
    """One rank's sizes, and how it computes.

    `group` is how many query heads at most read the same keys and values. `exact`: all arithmetic in float32.
    `bytes_mixed`: a head's results make whole blocks, which attention cuts into bytes itself.
    """

    architecture: Architecture
    heads: int
    kv_heads: int
    group: int
    capacity: int
    exact: bool
    place: torch.device
    tiles: dict[str, Tile]

    @property
    def dim(self) -> int:
        """Width of the residual stream."""
        return self.architecture.dim

    @property
    def head(self) -> int:
        """Width of a head."""
        return self.architecture.head_dim

    @property
    def lanes(self) -> int:
        """Width of a head in registers."""
        return max(16, power(self.head))

    @property
    def turned(self) -> int:
        """How many pairs of a head are rotated."""
        return self.architecture.rotary.dims // 2

    @property
    def bytes_mixed(self) -> bool:
        """Whether attention's results are stored as bytes."""
        return not self.exact and self.lanes == self.head and self.head % BLOCK == 0

    @property
    def rows(self) -> int:
        """Rows of attention's tile for one token: its query heads, at least as many as a matrix unit takes."""
        return max(16, power(self.group))

    @property
    def cache_kind(self) -> torch.dtype:
        """How keys and values are kept."""
        return torch.float32 if self.exact else torch.bfloat16


def shape_of(
    architecture: Architecture, shard: Shard, capacity: int, place: torch.device, tiles: dict[str, Tile], *, exact: bool
) -> Shape:
    """Derive a rank's sizes."""
    readers = shard.kv_of_head(architecture)
    group = max(readers.count(number) for number in range(len(shard.kv_heads)))
    return Shape(architecture, len(shard.heads), len(shard.kv_heads), group, capacity, exact, place, tiles)


def first_heads(architecture: Architecture, shard: Shard) -> list[int]:
    """Where the query heads of each kept KV head begin, and where all end."""
    readers = shard.kv_of_head(architecture)
    return [*(readers.index(number) for number in range(len(shard.kv_heads))), len(readers)]
