"""The forward pass against transformers holding the same weights, for every architecture and storage type."""

from pathlib import Path
from typing import cast

import numpy as np
import pytest
from dllama_glm.devices.reference import ReferenceDevice
from dllama_glm.formats.model_file import FloatType
from dllama_glm.parallel.group import SingleGroup
from dllama_glm.parallel.shard import shard
from dllama_glm.runtime import weights
from dllama_glm.runtime.device import Device
from dllama_glm.runtime.loader import load_model
from dllama_glm.runtime.model import Model
from dllama_glm.runtime.source import FileTensors, read_architecture

from tests.payload.runtime.runtime_files import CASES, logits_of, write_case

IDS = np.random.default_rng(3).integers(0, 160, 80).tolist()


def cpu_model(path: Path) -> Model:
    return load_model(path, read_architecture(path), SingleGroup(), threads=2, exact=True)


def reference_model(path: Path) -> Model:
    architecture, group = read_architecture(path), SingleGroup()
    part = shard(architecture, 0, 1)
    kept = weights.load(FileTensors(path), architecture, part)
    device = ReferenceDevice(kept, architecture, part, group, architecture.max_seq_len)
    made = cast("Device", device)  # all but `described`, which is the class's
    return Model(architecture, made, group, first=0, capacity=architecture.max_seq_len)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # transformers' shared expert of width 0
@pytest.mark.parametrize("name", CASES)
def test_f32_logits_equal_transformers(name: str, tmp_path: Path):
    """A prompt read at once gives transformers' logits within 1e-4 at every position, by either implementation."""
    path, oracle = write_case(name, tmp_path)
    expected = logits_of(oracle, IDS)
    assert np.abs(expected).max() > 1  # logits so flat that everything is near them would prove nothing
    assert np.abs(cpu_model(path).forward(IDS, 0, every=True) - expected).max() < 1e-4
    assert np.abs(reference_model(path).forward(IDS, 0, every=True) - expected).max() < 1e-4


@pytest.mark.parametrize("name", ["llama", "qwen3_moe", "glm4", "glm4_moe"])
@pytest.mark.parametrize("float_type", [FloatType.Q40, FloatType.Q80, FloatType.F16], ids=lambda kind: kind.name)
def test_stored_blocks_count_as_what_they_stand_for(name: str, float_type: FloatType, tmp_path: Path):
    """Quantised weights give the logits of transformers holding the de-quantised ones."""
    path, oracle = write_case(name, tmp_path, float_type)
    got = cpu_model(path).forward(IDS, 0, every=True)
    assert np.abs(got - logits_of(oracle, IDS)).max() < 1e-4


@pytest.mark.parametrize("name", ["llama3", "qwen3", "glm4", "glm4_moe-grouped"])
def test_one_token_at_a_time_equals_the_whole_prompt(name: str, tmp_path: Path):
    """The cache holds what attention needs: token by token (beyond its first room) the last logits are the same."""
    path, oracle = write_case(name, tmp_path)
    model = cpu_model(path)
    for position, token in enumerate(IDS):
        got = model.forward([token], position)
    assert got is not None
    assert np.abs(got[0] - logits_of(oracle, IDS)[-1]).max() < 1e-4


def test_going_back_replaces_what_followed(tmp_path: Path):
    """Reading from an earlier position again forgets what stood there, without a reset."""
    path, oracle = write_case("glm4_moe", tmp_path)
    model = cpu_model(path)
    model.forward(IDS, 0)
    got = model.forward(IDS[:7], 3)
    assert got is not None
    assert np.abs(got[0] - logits_of(oracle, IDS[:3] + IDS[:7])[-1]).max() < 1e-4
