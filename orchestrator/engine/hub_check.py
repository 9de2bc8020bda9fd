"""A downloaded repository against the hub's own list: the downloader's exit code proves nothing."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.engine import records
from orchestrator.engine.context import Context
from orchestrator.plan import StepRun
from orchestrator.transport.agent import Agent
from orchestrator.transport.replies import FileInfo
from orchestrator.transport.shapes import Name, json_in, shaped
from orchestrator.words.errors import StepFailed
from orchestrator.words.model import HubCheckout

INDEX = "model.safetensors.index.json"
LONGEST_INDEX = 8 << 20  # bytes: some 80,000 tensors
SHOWN = 5  # wrong files that a message names


def verify(
    context: Context, agent: Agent, workspace: str, checkout: HubCheckout, commit: str
) -> tuple[str, dict[str, str]]:
    """The commit whose wanted files all lie there, with their sizes and sha256. StepFailed: what is wrong.

    Beside it what had to be computed for that: absolute path -> sha256 of each file in the folder.
    `commit`: as the revision was when the download began. Where it has moved meanwhile, the new one will do as well.
    """
    folder = f"{workspace}/{checkout.dir}"
    present = {f.path: f for f in agent.files(folder, ["**"], sha256=True)}
    sums = {posixpath.normpath(f"{folder}/{path}"): file.sha256 or "" for path, file in present.items()}
    wrong = _wrong(context, present, checkout, commit)
    if wrong and (now := context.hub.commit(checkout.repo, checkout.revision)) != commit:
        context.event(f"{checkout.repo}: {checkout.revision} moved from {commit[:12]} to {now[:12]} meanwhile")
        if not _wrong(context, present, checkout, now):
            return now, sums
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise StepFailed(
            f"{checkout.dir} is not what {checkout.repo} holds at {commit[:12]}: {'; '.join(wrong[:SHOWN])}{more}",
            remedy="run it again: files that are right are kept",
        )
    return commit, sums


def _wrong(context: Context, present: Mapping[str, FileInfo], checkout: HubCheckout, commit: str) -> list[str]:
    """What of the commit's wanted files is missing or another one, in words."""
    wrong = []
    for path, size, sha256 in wanted(context, checkout, commit):
        found = present.get(path)
        if found is None:
            wrong.append(f"{path} is missing")
        elif found.bytes != size:
            wrong.append(f"{path} has {found.bytes:,} bytes instead of {size:,}")
        elif sha256 and found.sha256 != sha256:
            wrong.append(f"{path} has another sha256 than the hub says")
    return wrong


def wanted(context: Context, checkout: HubCheckout, commit: str) -> list[tuple[str, int, str | None]]:
    """The hub's list of the files that are downloaded. StepFailed: the patterns leave nothing of them."""
    found = [row for row in context.hub.listing(checkout.repo, commit) if checkout.wants(row[0])]
    if not found:
        raise StepFailed(
            f"{checkout.repo} has no file that hub: include and exclude leave", remedy="mend these patterns"
        )
    return found


def to_come_gb(context: Context, agent: Agent, workspace: str, checkout: HubCheckout, commit: str) -> float:
    """GB of the wanted files that are not there yet."""
    present = {f.path: f.bytes for f in agent.files(f"{workspace}/{checkout.dir}", ["**"])}
    return sum(size for path, size, _ in wanted(context, checkout, commit) if present.get(path) != size) / 1e9


def checkpoint(context: Context, agent: Agent, workspace: str, folder: str, filler: StepRun | None) -> str:
    """Check every shard that the folder's index names; return a sentence on it. StepFailed: what is wrong.

    `filler`: the step whose download it is, which says what it was downloaded from.
    """
    repo = filler.step.hub if filler else None
    shards = _shards(folder, _index(agent, workspace, folder))
    present = {f.path: f for f in agent.files(f"{workspace}/{folder}", ["*.safetensors"], sha256=repo is not None)}
    absent = [s for s in shards if s not in present]
    if absent:
        raise StepFailed(f"{folder}: {len(absent)} of {len(shards)} shards are missing, first {absent[0]}")
    total = sum(present[s].bytes for s in shards)
    if repo is None or filler is None:
        return f"{len(shards)} shards, {total:,} bytes"
    commit = records.commit_of(agent, filler) or context.hub.commit(repo.repo, repo.revision)
    listed = {path: (size, sha256) for path, size, sha256 in context.hub.listing(repo.repo, commit)}
    for shard in shards:
        if listed.get(shard) != (present[shard].bytes, present[shard].sha256):
            raise StepFailed(f"{folder}/{shard} differs from the hub's in size or sha256")
    return f"{len(shards)} shards, {total:,} bytes, sha256 as the hub's at {commit[:12]}"


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
