"""Where weights and cache are kept, and how much memory that takes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dllama_glm.formats.model_file import FloatType
from dllama_glm.parallel.group import SingleGroup
from dllama_glm.quantise.cache import loops_cache
from dllama_glm.runtime import memory
from dllama_glm.runtime.loader import load_model
from dllama_glm.runtime.source import read_architecture

from tests.payload.runtime.runtime_files import write_case
from tests.payload.runtime.runtime_scripts import PAYLOAD, environment_of

PEAK = """
import json, re, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from dllama_glm.formats.model_file import MappedModel
from dllama_glm.parallel.group import SingleGroup
from dllama_glm.runtime.loader import load_model
from dllama_glm.runtime.source import read_architecture
def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
path = Path(sys.argv[2])
model = load_model(path, read_architecture(path), SingleGroup(), 2, resident=sys.argv[3] == "resident", max_seq_len=700)
model.forward(list(range(600)), 0)
model.forward([1], 600)
print(json.dumps({"anonymous": anonymous(), "how": model.computed_by}))
"""


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, int]:
    """A `.m` file of 130 MB; the bytes of its blocks, and of a cache of 700 positions in halves."""
    from dllama_glm.formats.model_file import Arch, Key, encode_pairs, layout
    from dllama_glm.formats.model_header import header_from_pairs

    sizes = {
        Key.VERSION: 0, Key.ARCH_TYPE: Arch.QWEN3, Key.HIDDEN_ACT: 1, Key.DIM: 1024, Key.HIDDEN_DIM: 4096,
        Key.N_LAYERS: 12, Key.N_HEADS: 8, Key.N_KV_HEADS: 4, Key.WEIGHTS_FLOAT_TYPE: FloatType.Q40,
        Key.MAX_SEQ_LEN: 4096, Key.VOCAB_SIZE: 8192, Key.N_EXPERTS: 0, Key.N_ACTIVE_EXPERTS: 0,
        Key.ROPE_THETA: 10000, Key.HEAD_DIM: 128, Key.NORM_EPSILON: 6,
    }  # fmt: skip
    header = header_from_pairs(tuple((int(key), int(value)) for key, value in sizes.items()))
    path = tmp_path_factory.mktemp("medium") / "medium.m"
    blocks = 0
    with path.open("wb") as file:
        file.write(encode_pairs(header.pairs))
        for slot in layout(header):
            file.write(b"\x01" * slot.nbytes)  # any bytes do: they are small numbers in every type
            blocks += slot.nbytes if slot.float_type is FloatType.Q40 else 0
    return path, blocks, 12 * 2 * 4 * 704 * 128 * 2


@pytest.mark.parametrize("how", ["resident", "mapped"])
def test_memory_of_its_own_is_weights_and_cache_and_little_more(how: str, medium: tuple[Path, int, int]):
    """Anonymous memory: the blocks where they are resident, none of them where they are mapped; the cache; 300 MB."""
    path, blocks, cache = medium
    words = [sys.executable, "-c", PEAK, str(PAYLOAD), str(path), how]
    done = subprocess.run(words, capture_output=True, text=True, env=environment_of({}), timeout=250, check=True)
    found = json.loads(done.stdout)
    assert found["how"]["weights"] == how
    least = blocks if how == "resident" else 0
    assert least < found["anonymous"] < least + cache + 300e6


@pytest.mark.parametrize("kind", FloatType, ids=lambda kind: kind.name)
def test_resident_and_mapped_weights_compute_the_same(kind: FloatType, tmp_path: Path):
    """A copy of the weights gives the very same logits, whatever the storage type."""
    path, _ = write_case("glm4_moe", tmp_path, kind)
    architecture, ids = read_architecture(path), list(range(40))
    models = [load_model(path, architecture, SingleGroup(), 1, resident=resident) for resident in (False, True)]
    first, second = (model.forward(ids, 0, every=True) for model in models)
    assert first is not None
    assert second is not None
    assert np.array_equal(first, second)


def test_weights_are_brought_in_where_they_take_at_most_half_of_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With twice the weights' size available they are copied; with a byte less they stay mapped."""
    path, _ = write_case("qwen3", tmp_path)
    architecture = read_architecture(path)
    kept = path.stat().st_size - architecture.vocab_size * architecture.dim * 4
    for given, how in ((2 * kept, "resident"), (kept, "mapped")):
        monkeypatch.setattr(memory, "available_memory", lambda given=given: given)
        assert load_model(path, architecture, SingleGroup(), 1).computed_by["weights"] == how


def test_the_cache_holds_halves_and_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Keys and values of --max-seq-len positions, two bytes each, four where all is exact; no pass makes it anew."""
    with loops_cache():
        from dllama_glm.devices import cpu

    path, _ = write_case("glm4_moe", tmp_path)
    architecture, taken = read_architecture(path), []

    def noted(size: int, *, huge: bool) -> memory.Bytes:
        taken.append(size)
        return memory.take(size, huge=huge)

    monkeypatch.setattr(cpu, "take", noted)
    for exact, size in ((False, 2), (True, 4)):
        taken.clear()
        model = load_model(path, architecture, SingleGroup(), 1, max_seq_len=100, exact=exact, resident=False)
        half = architecture.layers * architecture.kv_heads * 112 * architecture.head_dim * size  # in tiles of 16
        made = list(taken)
        assert made[:2] == [half, half]
        model.forward(list(range(90)), 0)
        for position in range(90, 100):
            model.greedy([1], position)
        assert taken == made


def test_a_cache_of_many_positions_costs_nothing_before_it_is_used():
    """Memory for a cache is taken at once, and counts page by page as it is written."""
    area = memory.take(1 << 40, huge=False)
    area[123456789] = 7
    assert area.size == 1 << 40
