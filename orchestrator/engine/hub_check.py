"""A downloaded repository against the hub's own list: the downloader's exit code proves nothing."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.engine.context import Context
from orchestrator.transport.agent import Agent
from orchestrator.transport.shapes import Name, json_in, shaped
from orchestrator.words.errors import StepFailed
from orchestrator.words.model import HubCheckout

MIB = 1 << 20
INDEX = "model.safetensors.index.json"
LONGEST_INDEX = 8 << 20  # bytes: some 80,000 tensors
SHOWN = 5  # wrong files that a message names


def verify(context: Context, agent: Agent, workspace: str, checkout: HubCheckout) -> int:
    """Raise StepFailed unless every file that the hub lists is there with its size and sha256; return their number."""
    listed = context.hub.listing(checkout.repo, checkout.revision)
    present = {f.path: f for f in agent.files(f"{workspace}/{checkout.dir}", ["**"], sha256=True)}
    wrong = []
    for path, size, sha256 in listed:
        found = present.get(path)
        if found is None:
            wrong.append(f"{path} is missing")
        elif found.bytes != size:
            wrong.append(f"{path} has {found.bytes:,} bytes instead of {size:,}")
        elif sha256 and found.sha256 != sha256:
            wrong.append(f"{path} has another sha256 than the hub says")
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise StepFailed(
            f"{checkout.dir} is not what {checkout.repo} holds: {'; '.join(wrong[:SHOWN])}{more}",
            remedy="run it again: files that are right are kept",
        )
    return len(listed)


def room(context: Context, agent: Agent, workspace: str, checkout: HubCheckout) -> None:
    """StepFailed when the disk has less room than the files that are still to come: before the first byte."""
    present = {f.path: f.bytes for f in agent.files(f"{workspace}/{checkout.dir}", ["**"])}
    listed = context.hub.listing(checkout.repo, checkout.revision)
    needed = sum(size for path, size, _ in listed if present.get(path) != size)
    free = agent.hello().disk_free_mib * MIB
    if needed > free:
        raise StepFailed(
            f"disk full: {checkout.repo} needs {needed / 1e9:,.1f} GB more, there are {free / 1e9:,.1f} GB free",
            remedy="make room on the volume, or take a larger one (volume: size_gb), and run it again",
        )


def checkpoint(context: Context, agent: Agent, workspace: str, folder: str, repo: HubCheckout | None) -> str:
    """Check every shard that the folder's index names; return a sentence on it. StepFailed: what is wrong."""
    shards = _shards(folder, _index(agent, workspace, folder))
    present = {f.path: f for f in agent.files(f"{workspace}/{folder}", ["*.safetensors"], sha256=repo is not None)}
    absent = [s for s in shards if s not in present]
    if absent:
        raise StepFailed(f"{folder}: {len(absent)} of {len(shards)} shards are missing, first {absent[0]}")
    total = sum(present[s].bytes for s in shards)
    if repo is None:
        return f"{len(shards)} shards, {total:,} bytes"
    listed = {path: (size, sha256) for path, size, sha256 in context.hub.listing(repo.repo, repo.revision)}
    for shard in shards:
        if listed.get(shard) != (present[shard].bytes, present[shard].sha256):
            raise StepFailed(f"{folder}/{shard} differs from the hub's in size or sha256")
    return f"{len(shards)} shards, {total:,} bytes, sha256 as the hub's"


@dataclass(frozen=True, slots=True)
class Index:
    """Which file each tensor of a checkpoint is in."""

    weight_map: dict[str, Name]


def _index(agent: Agent, workspace: str, folder: str) -> bytes:
    """What the index of the checkpoint in that folder holds; StepFailed: there is none, or more than any index is."""
    found = bytearray()
    try:
        for block in agent.transport.fetch(f"{workspace}/{folder}/{INDEX}"):
            found += block
            if len(found) > LONGEST_INDEX:
                raise StepFailed(f"{folder}/{INDEX} is larger than {LONGEST_INDEX:,} bytes")
    except FileNotFoundError:
        raise StepFailed(f"{folder} has no {INDEX}") from None
    return bytes(found)


def _shards(folder: str, index: bytes) -> list[str]:
    """The files that an index names. StepFailed: it is damaged, or names none."""
    try:
        found = shaped(Index, json_in(index))
        shards = sorted(set(found.weight_map.values()))
    except ValueError:
        shards = []
    if not shards:
        raise StepFailed(f"{folder}: {INDEX} is damaged: it names no shard")
    return shards
