"""Keys and values of the tokens seen, on the card; and the turns of their positions."""

import numpy as np
import torch

from dllama_glm.devices.shape import Shape, first_heads
from dllama_glm.parallel.shard import Shard
from dllama_glm.runtime import rotary


class Cache:
    """`keys` and `values` [layers, KV heads, capacity, head]; `cos` and `sin` float32 [capacity, pairs]."""

    def __init__(self, shape: Shape, shard: Shard) -> None:
        size = (shape.architecture.layers, shape.kv_heads, shape.capacity, shape.head)
        self.keys, self.values = (torch.zeros(size, dtype=shape.cache_kind, device=shape.place) for _ in range(2))
        turns = rotary.angles(rotary.frequencies(shape.architecture.rotary), 0, shape.capacity)
        self.cos, self.sin = (torch.from_numpy(turn).to(shape.place) for turn in turns)
        heads = np.array(first_heads(shape.architecture, shard), np.int32)
        self.first_heads = torch.from_numpy(heads).to(shape.place)
