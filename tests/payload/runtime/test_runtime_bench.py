"""`dllama bench` and `make bench`: the shapes of what they say; how fast anything is depends on the computer."""

import json
import sys
from pathlib import Path

import pytest

from tests.payload.runtime.runtime_files import write_case
from tests.payload.runtime.runtime_scripts import try_script

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "bench"))


@pytest.mark.parametrize(
    ("words", "prefill", "decode", "rounds", "context"),
    [
        pytest.param([], 512, 128, 3, 512, marks=pytest.mark.faults, id="full"),
        pytest.param(["--quick", "--context", "100"], 32, 8, 2, 100, id="quick"),
    ],
)
def test_the_shape_of_bench(
    words: list[str], prefill: int, decode: int, rounds: int, context: int, converted: Path, tmp_path: Path
):
    """`dllama bench --json` prints medians, spread and the share of a plain read, and publishes its figures."""
    metrics = tmp_path / "metrics"
    asked = [str(converted / "base.m"), "--json", *words]
    done = try_script("dllama", "bench", *asked, GPUPLAN_METRICS=str(metrics))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["prefill"]["tokens"] == prefill
    assert (found["decode"]["tokens"], found["decode"]["context"]) == (decode, context)
    assert [len(found[name]["rounds"]) for name in ("prefill", "decode")] == [rounds, rounds]
    band = found["bandwidth"]
    assert band["share"] == pytest.approx(band["decode_gb_per_s"] / band["plain_read_gb_per_s"], abs=0.01)
    assert found["device"] == "cpu"
    published = {line["name"]: line["value"] for line in map(json.loads, metrics.read_text().splitlines())}
    assert published["tokens_per_second"] == found["decode"]["tokens_per_second"]
    assert published["prefill_tokens_per_second"] == found["prefill"]["tokens_per_second"]
    assert published["context"] == context


def test_a_context_beyond_the_model_is_measured_as_far_as_it_goes(converted: Path):
    """Fewer positions than were asked for: behind as many tokens as there are, which is said and stands in `--json`."""
    done = try_script("dllama", "bench", str(converted / "base.m"), "--quick", "--context", "4096", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["decode"]["context"] == 2048 - 8
    assert "2048 positions are all that there are: decoding behind 2040 tokens, not 4096" in done.stderr


def test_too_few_positions_for_any_measurement_are_refused():
    """What cannot hold the prompt that is timed is an error, and a context that fits is taken as it is."""
    from dllama_glm.cli.bench import FULL, QUICK, context_within
    from dllama_glm.runtime.errors import UsageError

    with pytest.raises(UsageError, match="takes 512 positions, and there are 500"):
        context_within(500, FULL, None)
    assert context_within(512, FULL, None) == 384
    assert context_within(5000, FULL, 4096) == 4096
    assert context_within(500, QUICK, None) == 32


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


def test_a_row_of_the_page_has_ratios_of_rounds_and_is_marked_where_others_were_at_work():
    """A ratio is the median of the rounds' own; a load above half a processor is said to be one."""
    from runtime import Found, Task, rows

    rates = {"ours": [10.0, 20.0, 30.0], "mapped": [5.0, 5.0, 5.0], "llama": [10.0, 10.0, 20.0]}
    quiet, busy = Task("decode", 512, 32, 2), Task("pass", 0, 128, 1)
    assert rows({quiet: Found(rates, [0.2, 0.4, 9.0]), busy: Found(rates, [0.2, 0.6, 0.7])}) == [
        "| decode at 512 | 2 | 20.0 [30.0] **1.50x** | 5.0 [5.0] **0.50x** | 10.0 [20.0] | 0.4 |",
        "| prefill 128 | 1 | 20.0 [30.0] **1.50x** | 5.0 [5.0] **0.50x** | 10.0 [20.0] | 0.6 (busy) |",
    ]


def test_a_section_of_the_page_takes_the_place_of_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whoever measures again changes the own section only; what was not there is put at the end."""
    import runtime

    page = tmp_path / "benchmarks.md"
    monkeypatch.setattr(runtime, "PAGE", page)
    for name, text in (("a", "one"), ("b", "two"), ("a", "three")):
        runtime.write_section(name, text)
    assert page.read_text().splitlines() == [
        "# Benchmarks", "", "<!-- a: begin -->", "three", "<!-- a: end -->", "", "<!-- b: begin -->", "two",
        "<!-- b: end -->",
    ]  # fmt: skip


def test_a_start_on_a_busy_computer_has_no_seconds_of_the_wall():
    """The best round counts, by wall and by processors; what others' work has stretched is not shown."""
    from start import Taken, section

    found = {"quiet": [Taken(0.9, 0.8, 0.1), Taken(0.7, 1.0, 0.2)], "busy": [Taken(9.0, 0.8, 1.9)]}
    assert section(found).splitlines()[-2:] == [
        "| quiet | 2 | 0.70 | 0.80 | 0.1 |",
        "| busy | 1 | - | 0.80 | 1.9 (busy) |",
    ]
