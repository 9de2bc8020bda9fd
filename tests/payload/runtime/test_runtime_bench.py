"""`dllama bench`: the shapes of what it prints, and its arithmetic; how fast anything is depends on the computer."""

import json
from pathlib import Path

import pytest

from tests.payload.runtime.runtime_files import write_case
from tests.payload.runtime.runtime_scripts import try_script


def test_the_shape_of_bench(converted: Path, tmp_path: Path):
    """`dllama bench --quick --json` prints medians, spread and the share of a plain read, and publishes its figures."""
    metrics = tmp_path / "metrics"
    words = [str(converted / "base.m"), "--quick", "--json", "--context", "100"]
    done = try_script("dllama", "bench", *words, GPUPLAN_METRICS=str(metrics))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["prefill"]["tokens"] == 32
    assert (found["decode"]["tokens"], found["decode"]["context"], len(found["decode"]["rounds"])) == (8, 100, 2)
    band = found["bandwidth"]
    assert band["share"] == pytest.approx(band["decode_gb_per_s"] / band["plain_read_gb_per_s"], abs=0.01)
    assert found["device"] == "cpu"
    published = {line["name"]: line["value"] for line in map(json.loads, metrics.read_text().splitlines())}
    assert published["tokens_per_second"] == found["decode"]["tokens_per_second"]
    assert published["prefill_tokens_per_second"] == found["prefill"]["tokens_per_second"]


def test_a_context_beyond_the_model_is_refused(converted: Path):
    """A context that leaves no room to decode is exit code 2, with what there is."""
    done = try_script("dllama", "bench", str(converted / "base.m"), "--quick", "--context", "1000000")
    assert done.returncode == 2
    assert "lower --context" in done.stderr


def test_a_summary_is_median_and_spread():
    """Three rounds: the middle one, and how far apart the others are as a share of it."""
    from dllama_glm.cli.bench import summary

    assert summary([10.0, 8.0, 9.0]) == {"tokens_per_second": 9.0, "spread": 0.222, "rounds": [10.0, 8.0, 9.0]}


def test_bytes_of_a_token_are_the_weights_that_it_uses(tmp_path: Path):
    """Embedding left out, experts by the share that is active, the cache up to the position."""
    from dllama_glm.cli.bench import bytes_per_token
    from dllama_glm.formats.model_file import MappedModel

    path, _ = write_case("qwen3_moe", tmp_path)
    model = MappedModel(path)
    header = model.header
    experts = sum(slot.nbytes for name, slot in model.slots.items() if ".experts." in name)
    rest = sum(slot.nbytes for name, slot in model.slots.items() if ".experts." not in name and "embed" not in name)
    weights = rest + experts * header.n_active_experts // header.n_experts
    assert 0 < header.n_active_experts < header.n_experts
    assert bytes_per_token(header, 0) == weights
    assert bytes_per_token(header, 7) == weights + 7 * 4 * header.n_layers * header.kv_dim
