"""Everything that is known before a byte is written: what goes where, and all that is wrong with it."""

import hashlib
import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from dllama_glm.checkpoint.config import ModelConfig, read_config
from dllama_glm.checkpoint.errors import CheckpointError
from dllama_glm.checkpoint.folder import Folder, read_folder
from dllama_glm.checkpoint.shard import read_identity
from dllama_glm.checkpoint.sources import Source, find_sources, source_bytes
from dllama_glm.formats.fingerprint import fingerprint
from dllama_glm.formats.float_types import FloatType
from dllama_glm.formats.model_keys import encode_pairs
from dllama_glm.formats.model_layout import EMBEDDING, HEAD, layout

# Part of the fingerprint: raise it when the same source would give other bytes, so that no old part is gone on with.
_REVISION = 2
_SAMPLES = 16  # of each shard: there are dozens, often on a network volume
_COMPARED = 16 << 20


@dataclass(frozen=True)
class Plan:
    """A conversion that can begin. `sources` are in the order of the output's tensors."""

    config: ModelConfig
    folder: Folder
    sources: tuple[Source, ...]
    notes: tuple[str, ...]

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
        shards = [
            (s.path.name, s.modified_ns, hashlib.sha256(s.header).hexdigest(), fingerprint(s.path, _SAMPLES))
            for s in self.folder.shards
        ]
        text = json.dumps([_REVISION, self.config.model_type, self.config.header.pairs, shards])
        return hashlib.sha256(text.encode()).hexdigest()

    def changed(self) -> list[str]:
        """The shards that are not what they were when the plan was made."""
        return [s.path.name for s in self.folder.shards if read_identity(s.path) != s.identity]


def make_plan(path: Path, weight_type: FloatType, *, ignore: Collection[str] = (), allow_window: bool = False) -> Plan:
    """Read configuration, index and shard headers and match them. Raises CheckpointError with every problem."""
    folder = read_folder(path)
    problems = list(folder.problems)
    config = None
    if path.is_dir():
        try:
            config = read_config(path, weight_type, ignore=ignore, allow_window=allow_window)
        except CheckpointError as error:
            problems += error.problems
    if config is None or (folder.problems and not folder.tensors):
        raise CheckpointError(problems)
    found = find_sources(config, layout(config.header), folder.tensors)
    if not folder.problems:
        problems += found.problems
    elif broken := {shard.path.name for shard in folder.shards if shard.problems}:
        # What a broken shard should hold is missing because of it, and has been said.
        problems += [
            text for text in found.problems if text.split(":")[0] not in broken and " is in no shard" not in text
        ]
    if not problems:
        problems += _tied_head(config, folder)
    if problems:
        raise CheckpointError(problems)
    return Plan(config, folder, found.sources, (*config.notes, *folder.notes, *found.notes))


def check_output(path: Path, folder: Path, needed: int) -> None:
    """Refuse an output inside the source, in no folder, or on a disk too full. Raises CheckpointError."""
    problems = []
    parent = path.parent
    if not parent.is_dir():
        raise CheckpointError([f"the output's folder {parent} does not exist"])
    if parent.resolve().is_relative_to(folder.resolve()):
        problems.append(f"the output {path} would lie inside the checkpoint {folder}")
    if path.is_dir():
        problems.append(f"the output {path} is a folder")
    if not os.access(parent, os.W_OK):
        problems.append(f"the output's folder {parent} cannot be written")
    partial = path.with_name(path.name + ".partial")
    there = partial.stat().st_blocks * 512 if partial.exists() else 0
    stat = os.statvfs(parent)
    free = stat.f_bavail * stat.f_frsize
    if stat.f_blocks and free + there < needed:
        problems.append(f"disk full: {path} needs {needed - there:,} bytes, {parent} has {free:,}")
    if problems:
        raise CheckpointError(problems)


def _tied_head(config: ModelConfig, folder: Folder) -> list[str]:
    """Where both an output matrix and the promise that it is the embedding exist, they must be equal."""
    embedding, head = folder.tensors.get(EMBEDDING), folder.tensors.get(HEAD)
    if not config.tied or embedding is None or head is None:
        return []
    same = embedding.nbytes == head.nbytes
    with embedding.file.open("rb") as one, head.file.open("rb") as other:
        one.seek(embedding.offset)
        other.seek(head.offset)
        for start in range(0, embedding.nbytes, _COMPARED):
            count = min(_COMPARED, embedding.nbytes - start)
            same = same and one.read(count) == other.read(count)
    if same:
        return []
    return [f"config.json: tie_word_embeddings is true, but {head.file.name} holds a {HEAD} that is not {EMBEDDING}"]
