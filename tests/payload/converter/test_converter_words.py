"""What a refusal says: the cause first, in few words, with what to do."""

import errno
import json
import re
import shutil
from pathlib import Path

import pytest
from dllama_glm.checkpoint.errors import CheckpointError
from dllama_glm.convert.output import explain
from dllama_glm.convert.plan import make_plan
from dllama_glm.formats.float_types import FloatType
from dllama_glm.verify import main as verify

from tests.payload.converter.converter_files import (
    GLM,
    GLM_MOE,
    GOLDEN,
    MODELS,
    Config,
    convert,
    glm_tensors,
    run_converter,
    shard_bytes,
    write_checkpoint,
)

BASE = MODELS / "zai-org" / "GLM-4.5-Air-Base"


def problems(folder: Path) -> tuple[str, ...]:
    """All problems that the plan of this folder shows."""
    with pytest.raises(CheckpointError) as refused:
        make_plan(folder, FloatType.Q40)
    return refused.value.problems


def _copy(tmp_path: Path) -> Path:
    return shutil.copytree(BASE, tmp_path / "model")


def _llama2(folder: Path) -> Path:
    """The golden llama as the configuration of Llama 2 has it: without rope_theta."""
    shutil.copytree(GOLDEN / "llama", folder)
    config: Config = json.loads((folder / "config.json").read_text())
    assert config.pop("rope_theta") == 10000.0
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("cut", [3, 5000, 200_000])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_cut_shard_is_the_only_problem(cut: int, number: int, tmp_path: Path):
    """However short a shard of the trained model is cut, one sentence asks for the download, and no other comes."""
    folder = _copy(tmp_path)
    shard = folder / f"model-{number:05d}-of-00004.safetensors"
    shard.write_bytes(shard.read_bytes()[:cut])
    (found,) = problems(folder)
    assert found.startswith(f"{shard.name}: is truncated")
    assert found.endswith("(incomplete download?)")


def test_missing_shards_ask_for_the_download(tmp_path: Path):
    """Few are named each, many in one sentence; a link that leads nowhere is told as such."""
    folder = _copy(tmp_path)
    shards = sorted(folder.glob("*.safetensors"))
    shards[0].unlink()
    shards[1].unlink()
    shards[1].symlink_to("nowhere")
    found = problems(folder)
    assert f"the shard {shards[0].name} is missing (incomplete download?)" in found[0]
    assert found[1] == f"{shards[1].name}: the link leads to no file (incomplete download?)"
    for shard in shards[1:]:
        shard.unlink()
    assert "4 of 4 shards are missing" in problems(folder)[0]


def test_whole_shards_never_speak_of_a_download(tmp_path: Path):
    """A tensor too many and one too few are no matter of the download."""
    tensors = glm_tensors(GLM)
    tensors["model.extra.weight"] = tensors.pop("model.norm.weight")
    assert not [text for text in problems(write_checkpoint(tmp_path, GLM, tensors)) if "download" in text]


@pytest.mark.parametrize("weights", ["there", "elsewhere"])
def test_an_adapter_is_told_by_its_base(weights: str, tmp_path: Path):
    """A LoRA folder, with its weights or without: of which model it is, and that it has to be merged first."""
    said = {"peft_type": "LORA", "base_model_name_or_path": "zai-org/GLM-4.5-Air"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(said))
    if weights == "there":
        (tmp_path / "adapter_model.safetensors").write_bytes(shard_bytes({}))
    (found,) = problems(tmp_path)
    assert "this is a LoRA adapter of zai-org/GLM-4.5-Air, not a model: merge it" in found


def test_a_model_beside_its_adapter_converts(tmp_path: Path):
    """An adapter_config.json that was left beside whole weights keeps nobody from converting them."""
    folder = write_checkpoint(tmp_path / "m", GLM, glm_tensors(GLM))
    (folder / "adapter_config.json").write_text("{}")
    assert convert(folder, "q40", tmp_path / "x.m")


def test_names_behind_a_prefix_are_told_first(tmp_path: Path):
    """The prefix comes first, then what is missing, grouped: less than the twenty lines that are shown."""
    tensors = {f"language_model.{name}": values for name, values in glm_tensors(GLM_MOE).items()}
    found = problems(write_checkpoint(tmp_path, GLM_MOE, tensors))
    assert "the names are of another layout (67 of 67 tensors not found)" in found[0]
    assert "each name stands behind 'language_model.'" in found[0]
    assert len(found[0]) < 1200
    run = run_converter(tmp_path, "q40", tmp_path.parent / "x.m")
    assert "model.layers.*.mlp.experts.*.gate_proj.weight is in no shard (8 tensors" in run.stderr
    assert len(run.stderr.splitlines()) <= 22


def test_an_unknown_layout_is_summed_up(tmp_path: Path):
    """Names that are nobody's: what the shards hold stands in front, by pattern, with a shape, eight at most."""
    tensors = {
        re.sub(r"^model\.layers\.(\d+)\.", r"blocks.\1.", name): values for name, values in glm_tensors(GLM_MOE).items()
    }
    first = problems(write_checkpoint(tmp_path, GLM_MOE, tensors))[0]
    assert "blocks.*.self_attn.q_proj.weight [128, 64] (3 of them)" in first
    assert "stands behind" not in first
    assert first.count(" of them)") <= 8
    assert "more patterns" in first


def test_a_missing_theta_names_the_option_and_the_default(tmp_path: Path):
    """Llama 2's config.json without rope_theta: the refusal says what transformers takes, and how to say the same."""
    (found,) = problems(_llama2(tmp_path / "m"))
    assert "rope_theta is missing" in found
    assert "transformers takes 10000 for a llama without it" in found
    assert "--rope-theta 10000" in found


def test_theta_can_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """With --rope-theta the bytes are those of the same model that says it itself, and verify takes the option too."""
    folder, output = _llama2(tmp_path / "m"), tmp_path / "x.m"
    expected = convert(GOLDEN / "llama", "q40", tmp_path / "whole.m")
    assert convert(folder, "q40", output, "--rope-theta", "10000") == expected
    assert verify([str(output), str(folder)]) == 3
    assert verify([str(output), str(folder), "--rope-theta", "10000"]) == 0


def test_theta_cannot_be_contradicted(tmp_path: Path):
    """An option other than what config.json says is refused; what is no number above 0 is wrong use."""
    output = tmp_path / "x.m"
    assert convert(GOLDEN / "llama", "q40", output, "--rope-theta", "1e4")
    run = run_converter(GOLDEN / "llama", "q40", output, "--rope-theta", "500000")
    assert run.returncode == 3
    assert "rope_theta is 10000.0, but --rope-theta says 500000" in run.stderr
    assert run_converter(GOLDEN / "llama", "q40", output, "--rope-theta", "0").returncode == 2


def test_gelu_is_refused_at_conversion(tmp_path: Path):
    """What the runtime cannot compute is not converted: a llama with gelu names the key."""
    shutil.copytree(GOLDEN / "llama", tmp_path / "m")
    config = json.loads((GOLDEN / "llama" / "config.json").read_text()) | {"hidden_act": "gelu"}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    assert problems(tmp_path / "m") == ("config.json: hidden_act is 'gelu'; the runtime computes silu only",)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk full: .* needs 1,000,000 bytes and has [0-9,]+, .* make room and run the same command"),
        (errno.EDQUOT, "quota exceeded, .* needs 1,000,000 bytes and has [0-9,]+, .* raise the quota"),
        (errno.EFBIG, "too large for this disk or for ulimit -f: .* needs 1,000,000 bytes"),
    ],
)
def test_a_failed_write_says_what_is_needed(number: int, words: str, tmp_path: Path):
    """A full disk, a used-up quota and a limit on files are told apart, each with what is needed and what is there."""
    (tmp_path / "x.m.partial").write_bytes(bytes(10_000))
    text = str(explain(OSError(number, "failed"), tmp_path / "x.m.partial", 1_000_000))
    assert re.search(words, text), text
    assert "goes on where it stopped" in text
