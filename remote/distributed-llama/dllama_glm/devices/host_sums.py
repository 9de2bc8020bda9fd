"""Ranks' sums through the host, for ranks whose cards do not meet: several on one card, or one without a card."""

import torch

from dllama_glm.runtime.device import Group


class HostSums:
    """Adds up the ranks' tensors over their group; on a card through page-locked memory, taken once for the largest."""

    def __init__(self, group: Group, place: torch.device) -> None:
        self._group, self._locked = group, place.type == "cuda"
        self._room = torch.empty(0)

    def sum(self, partial: torch.Tensor) -> torch.Tensor:
        """Put the sum of all ranks' parts into this one's place, and return it."""
        if self._room.numel() < partial.numel():
            self._room = torch.empty(partial.numel(), dtype=torch.float32, pin_memory=self._locked)
        here = self._room[: partial.numel()].view_as(partial)
        here.copy_(partial)
        return partial.copy_(torch.from_numpy(self._group.sum(here.numpy())))
