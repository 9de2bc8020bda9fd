"""Room on the disk that a phase works on: the machine's word, and the volume's size, which the machine may not know."""

from __future__ import annotations

from orchestrator.engine.context import Context
from orchestrator.transport.agent import Agent
from orchestrator.words.errors import StepFailed
from orchestrator.words.model import VolumeNeed
from orchestrator.words.provider import Capability

MIB = 1 << 20
FULL = ("no space left on device", "disk quota exceeded")
REMEDY = "make room on the volume, or take a larger one (volume: size_gb), and run it again"


def require(context: Context, agent: Agent, volume: VolumeNeed | None, need_gb: float, what: str) -> None:
    """StepFailed when there are not so many GB: on the disk, or of what the volume was made with.

    A network volume's file system reports the whole cluster's room; it ends at the volume's size all the same.
    """
    free = agent.hello().disk_free_mib * MIB / 1e9 / context.provider.disk_share
    if need_gb > free:
        raise StepFailed(f"disk full: {what}, {agent.workspace} has {free:,.1f} GB free", remedy=REMEDY)
    if volume is None or Capability.QUOTA not in context.provider.capabilities:
        return
    used = agent.used_bytes() / 1e9
    if need_gb > volume.size_gb - used:
        raise StepFailed(
            f"volume full: {what}, {volume.name} has {volume.size_gb} GB, of which {used:,.1f} GB are used",
            remedy=REMEDY,
        )


def said_full(output: str, volume: VolumeNeed | None, writes_gb: float) -> str:
    """What to say of a step whose output says that there was no room; "": it does not."""
    if not any(words in output.lower() for words in FULL):
        return ""
    need = f" (the step says that it writes {writes_gb:g} GB)" if writes_gb else ""
    where = f"the volume {volume.name}, of {volume.size_gb} GB," if volume else "the machine's disk"
    return f"{where} is full{need}: {REMEDY}"
