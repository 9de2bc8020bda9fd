"""From a model file to a model that is ready to run."""

from pathlib import Path

from dllama_glm.parallel.shard import shard
from dllama_glm.runtime import weights
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.model import Group, Model
from dllama_glm.runtime.ops_cpu import CpuOperations
from dllama_glm.runtime.source import FileTensors


def load_model(path: Path, architecture: Architecture, group: Group, threads: int) -> Model:
    """Map the file and take this rank's part of it; weights are read when they are first used."""
    part = shard(architecture, group.rank, group.ranks)
    return Model(architecture, part, weights.load(FileTensors(path), architecture, part), CpuOperations(threads), group)
