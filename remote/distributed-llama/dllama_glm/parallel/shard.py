"""Which part of a model each rank keeps.

Attention is split by query head: a rank keeps the key and value heads that its query heads read, so ranks may
outnumber those. Widths are split by 32-wide blocks, because a quantised row can be cut between blocks only. Neither
split needs to be even; where blocks run out, a rank has none of them and adds zero.
"""

from dataclasses import dataclass
from math import gcd

from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.errors import DllamaError

BLOCK = 32


@dataclass(frozen=True)
class Shard:
    """The ranges of one rank: query heads, the KV heads they use, columns of each kind of MLP, rows of the head."""

    heads: range
    kv_heads: range
    dense: range
    expert: range
    shared: range
    vocab: range

    def kv_of_head(self, architecture: Architecture) -> list[int]:
        """For each kept query head, which of the kept KV heads it reads."""
        group = architecture.heads // architecture.kv_heads
        return [head // group - self.kv_heads.start for head in self.heads]


def largest_rank_count(architecture: Architecture) -> int:
    """How many ranks can share the model: each needs a query head (more, where one head is narrower than a block)."""
    return architecture.heads // _heads_per_unit(architecture)


def check_rank_count(architecture: Architecture, ranks: int) -> None:
    """Refuse a number of ranks that cannot share the model, naming the numbers that can."""
    most = largest_rank_count(architecture)
    if not 1 <= ranks <= most:
        raise DllamaError(
            f"{ranks} ranks cannot share this model: its {architecture.heads} query heads are split over the ranks, "
            f"so 1 to {most} ranks work (a root and up to {most - 1} workers)."
        )


def shard(architecture: Architecture, rank: int, ranks: int) -> Shard:
    """Return the part of rank `rank` of `ranks`; the parts of all ranks make the whole model."""
    check_rank_count(architecture, ranks)
    unit = _heads_per_unit(architecture)
    heads = _part(architecture.heads, unit, rank, ranks)
    group = architecture.heads // architecture.kv_heads
    return Shard(
        heads=heads,
        kv_heads=range(heads.start // group, (heads.stop - 1) // group + 1),
        dense=_part(architecture.dense_width, BLOCK, rank, ranks),
        expert=_part(architecture.expert_width, BLOCK, rank, ranks),
        shared=_part(architecture.expert_width * architecture.shared_experts, BLOCK, rank, ranks),
        vocab=_part(architecture.vocab_size, 1, rank, ranks),
    )


def vocabulary_parts(architecture: Architecture, ranks: int) -> list[range]:
    """Return every rank's rows of the output head, in rank order."""
    return [_part(architecture.vocab_size, 1, rank, ranks) for rank in range(ranks)]


def _heads_per_unit(architecture: Architecture) -> int:
    return min(architecture.heads, BLOCK // gcd(architecture.head_dim, BLOCK))


def _part(total: int, unit: int, rank: int, ranks: int) -> range:
    """Cut `total` into units and deal them out: the first ranks get one more where they do not divide evenly."""
    units = -(-total // unit)
    each, left = divmod(units, ranks)
    first = rank * each + min(rank, left)
    last = first + each + (1 if rank < left else 0)
    return range(min(total, first * unit), min(total, last * unit))
