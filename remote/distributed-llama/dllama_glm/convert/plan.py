"""Everything that is known before a byte is written: what goes where, and all that is wrong with it."""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from dllama_glm.checkpoint.config import ModelConfig, read_config
from dllama_glm.checkpoint.errors import CheckpointError
from dllama_glm.checkpoint.folder import Folder, adapter_problem, read_folder
from dllama_glm.checkpoint.shard import SourceTensor, read_identity
from dllama_glm.checkpoint.sources import Source, find_sources, source_bytes
from dllama_glm.formats.fingerprint import fingerprint
from dllama_glm.formats.float_types import FloatType
from dllama_glm.formats.model_keys import encode_pairs
from dllama_glm.formats.model_layout import EMBEDDING, HEAD, layout

# Part of the fingerprint: raise it when the same source would give other bytes, so that no old part is gone on with.
_REVISION = 2
_SAMPLES = 16  # of each shard: there are dozens, often on a network volume
COMPARED = 16 << 20  # bytes of two tensors at a time

Blocks: TypeAlias = Callable[[SourceTensor], Iterator[bytes]]


@dataclass(frozen=True)
class Plan:
    """A conversion that can begin. `sources` are in the order of the output's tensors.

    `identities`: (name, hash) of every shard, where the source tells them; None: the files themselves are looked at.
    """

    config: ModelConfig
    folder: Folder
    sources: tuple[Source, ...]
    notes: tuple[str, ...]
    identities: tuple[tuple[str, str], ...] | None = None

    @property
    def header(self) -> bytes:
        """The first bytes of the output."""
        return encode_pairs(self.config.header.pairs)

    @property
    def read_bytes(self) -> int:
        """Bytes of the shards that are needed."""
        return source_bytes(self.sources)

    @property
    def write_bytes(self) -> int:
        """Size of the output."""
        return max(source.slot.end for source in self.sources)

    def fingerprint(self) -> str:
        """What tells this job from any other: the output's layout and the identity of every shard.

        Shards of one size and time may still be two models' (an archive that sets all times alike), so samples count.
        """
        shards = self.identities or [
            (s.path.name, s.modified_ns, hashlib.sha256(s.header).hexdigest(), fingerprint(s.path, _SAMPLES))
            for s in self.folder.shards
        ]
        text = json.dumps([_REVISION, self.config.model_type, self.config.header.pairs, shards])
        return hashlib.sha256(text.encode()).hexdigest()

    def changed(self) -> list[str]:
        """The shards that are not what they were when the plan was made."""
        return [s.path.name for s in self.folder.shards if read_identity(s.path) != s.identity]


def make_plan(
    path: Path,
    weight_type: FloatType,
    *,
    ignore: Collection[str] = (),
    rope_theta: float | None = None,
    allow_window: bool = False,
) -> Plan:
    """Read configuration, index and shard headers and match them. Raises CheckpointError with every problem.

    Keys of config.json in `ignore` may be unknown; `rope_theta` holds where it does not say it; `allow_window`: see
    checkpoint.config.read_config.
    """
    return match(read_folder(path), weight_type, ignore=ignore, rope_theta=rope_theta, allow_window=allow_window)


def match(
    folder: Folder,
    weight_type: FloatType,
    *,
    ignore: Collection[str] = (),
    rope_theta: float | None = None,
    allow_window: bool = False,
    blocks: Blocks | None = None,
    identities: tuple[tuple[str, str], ...] | None = None,
) -> Plan:
    """The same for a folder that has been read; `blocks` gives a tensor's bytes where its shard is not a file yet."""
    if adapter := adapter_problem(folder):
        raise CheckpointError([adapter])
    problems = list(folder.problems)
    config = None
    if folder.path.is_dir():
        try:
            config = read_config(
                folder.path, weight_type, ignore=ignore, rope_theta=rope_theta, allow_window=allow_window
            )
        except CheckpointError as error:
            problems += error.problems
    if config is None or (folder.problems and not folder.tensors):
        raise CheckpointError(problems)
    found = find_sources(config, layout(config.header), folder.tensors)
    problems += found.problems
    if not folder.problems:
        # Otherwise what a missing or damaged shard should hold is missing because of it, and that has been said.
        problems += found.doubts
    if not problems:
        problems += _tied_head(config, folder, blocks or _blocks)
    if problems:
        raise CheckpointError(problems)
    return Plan(config, folder, found.sources, (*config.notes, *folder.notes, *found.notes), identities)


def check_output(path: Path, folder: Path | None, needed: int, *, beside: int = 0) -> None:
    """Refuse an output inside the source, in no folder, or on a disk too full. Raises CheckpointError.

    `folder` None: the source is on no disk of ours; `beside`: bytes that have to have room next to the output.
    """
    problems = []
    parent = path.parent
    if not parent.is_dir():
        raise CheckpointError([f"the output's folder {parent} does not exist"])
    if folder is not None and parent.resolve().is_relative_to(folder.resolve()):
        problems.append(f"the output {path} would lie inside the checkpoint {folder}")
    if path.is_dir():
        problems.append(f"the output {path} is a folder")
    if not os.access(parent, os.W_OK):
        problems.append(f"the output's folder {parent} cannot be written")
    partial = path.with_name(path.name + ".partial")
    there = partial.stat().st_blocks * 512 if partial.exists() else 0
    stat = os.statvfs(parent)
    free = stat.f_bavail * stat.f_frsize
    if stat.f_blocks and free + there < needed + beside:
        shards = f" (of which {beside:,} for two shards at a time)" if beside else ""
        problems.append(f"disk full: {path} needs {needed + beside - there:,} bytes{shards}, {parent} has {free:,}")
    if problems:
        raise CheckpointError(problems)


def _tied_head(config: ModelConfig, folder: Folder, blocks: Blocks) -> list[str]:
    """Where both an output matrix and the promise that it is the embedding exist, they must be equal."""
    embedding, head = folder.tensors.get(EMBEDDING), folder.tensors.get(HEAD)
    if not config.tied or embedding is None or head is None:
        return []
    pairs = zip(blocks(embedding), blocks(head), strict=True)
    if embedding.nbytes == head.nbytes and all(one == other for one, other in pairs):
        return []
    return [f"config.json: tie_word_embeddings is true, but {head.file.name} holds a {HEAD} that is not {EMBEDDING}"]


def _blocks(tensor: SourceTensor) -> Iterator[bytes]:
    with tensor.file.open("rb") as file:
        file.seek(tensor.offset)
        for start in range(0, tensor.nbytes, COMPARED):
            yield file.read(min(COMPARED, tensor.nbytes - start))
