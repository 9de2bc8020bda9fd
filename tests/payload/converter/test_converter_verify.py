"""`dllama verify`: equal files pass, any change is found and placed, and the cost of storing is told."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from dllama_glm.formats.model_file import MappedModel
from dllama_glm.verify import main, verify

from tests.payload.converter.converter_files import GLM, GLM_MOE, GOLDEN, convert, glm_tensors, write_checkpoint
from tests.payload.converter.converter_reference import floats


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small mixture of experts in two shards."""
    return write_checkpoint(tmp_path_factory.mktemp("model"), GLM_MOE, glm_tensors(GLM_MOE), shards=2)


@pytest.mark.parametrize("kind", ["q40", "q80", "f16", "f32"])
@pytest.mark.parametrize("name", ["llama", "llama3-tied", "qwen3_moe"])
def test_a_converted_file_passes(name: str, kind: str, tmp_path: Path):
    """Every block is checked and equal, permuted rows and tied heads included."""
    convert(GOLDEN / name, kind, tmp_path / "x.m")
    report = verify(tmp_path / "x.m", GOLDEN / name)
    assert report.ok
    assert report.checked == report.blocks > 1000


@pytest.mark.parametrize("kind", ["q40", "q80", "f16", "f32"])
def test_any_flipped_bit_is_found_and_placed(kind: str, folder: Path, tmp_path: Path):
    """Random single bits of the header and of the weights: each is reported, those of weights at tensor, row, block."""
    output = tmp_path / "x.m"
    good = convert(folder, kind, output)
    model = MappedModel(output)
    size, slots = model.header.size, list(model.slots.values())
    choice = random.Random(11)
    for place in [choice.randrange(size) for _ in range(40)] + [choice.randrange(size, len(good)) for _ in range(60)]:
        bad = bytearray(good)
        bad[place] ^= 1 << choice.randrange(8)
        output.write_bytes(bad)
        report = verify(output, folder)
        assert not report.ok
        if place >= size:
            slot = next(slot for slot in slots if slot.offset <= place < slot.end)
            unit = slot.float_type.nbytes(32) / 32
            value = int((place - slot.offset) // unit) if not slot.float_type.blocked else None
            block = (place - slot.offset) // slot.float_type.nbytes(32) if value is None else 0
            first = block * 32 if value is None else value
            (found,) = report.differences
            assert (found.tensor, found.offset) == (slot.name, place)
            assert (found.row, found.block) == (first // slot.columns, first % slot.columns // 32)
    model.close()


def test_a_file_of_another_size_or_kind_is_refused(folder: Path, tmp_path: Path):
    """Cut, longer, empty and foreign files are differences in words, never an exception."""
    output = tmp_path / "x.m"
    good = convert(folder, "q40", output)
    for bad in (good[:-1], good + b"\0", b"", good[:100], b"GGUF" + good[4:]):
        output.write_bytes(bad)
        report = verify(output, folder)
        assert not report.ok
        assert report.header
        assert str(output) in report.header[-1]


def test_another_model_is_told_by_its_header(tmp_path: Path):
    """Header keys that differ from the checkpoint's are named with both values."""
    tensors = glm_tensors(GLM)
    convert(write_checkpoint(tmp_path / "one", GLM, tensors), "q40", tmp_path / "x.m")
    other = write_checkpoint(tmp_path / "two", GLM | {"rope_theta": 500000.0, "max_position_embeddings": 1024}, tensors)
    report = verify(tmp_path / "x.m", other)
    assert "header key 10 (max_seq_len) is 512, the checkpoint calls for 1024" in report.header
    assert "header key 12 (rope_theta) is 10000, the checkpoint calls for 500000" in report.header


def test_errors_are_told_per_tensor(folder: Path, tmp_path: Path):
    """Largest and RMS error equal those of the decoded file; F32 tensors lose nothing."""
    convert(folder, "q40", tmp_path / "x.m")
    tensors, model = glm_tensors(GLM_MOE), MappedModel(tmp_path / "x.m")
    for tensor in verify(tmp_path / "x.m", folder).tensors:
        wrong = (floats(tensors[tensor.name]) - model.values(tensor.name)).astype(np.float64)
        assert tensor.max_error == pytest.approx(np.abs(wrong).max(), rel=1e-6)
        assert tensor.rms_error == pytest.approx(np.sqrt((wrong**2).mean()), rel=1e-5)
        assert (tensor.rms_error > 0) == (tensor.float_type == "q40")
    model.close()


def test_a_sample_checks_a_share_of_every_tensor(tmp_path: Path):
    """With --sample some blocks of each tensor are checked, about the share asked for."""
    convert(GOLDEN / "qwen3", "q40", tmp_path / "x.m")
    report = verify(tmp_path / "x.m", GOLDEN / "qwen3", 0.2)
    assert report.ok
    assert all(tensor.checked for tensor in report.tensors)
    assert report.checked < report.blocks


def test_the_command_tells_and_ends_with_three(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """0 and a sentence for an equal file; 3, the place, and the same facts as JSON for another."""
    output = tmp_path / "x.m"
    good = convert(folder, "q40", output)
    assert main([str(output), str(folder)]) == 0
    assert f"{output} is what {folder} converts to" in capsys.readouterr().out
    output.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert main([str(output), str(folder)]) == 3
    assert "differs: lm_head.weight, row 95, block 1" in capsys.readouterr().out
    assert main([str(output), str(folder), "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert document["differences"] == [
        {"tensor": "lm_head.weight", "row": 95, "block": 1, "offset": len(good) - 1},
    ]


@pytest.mark.parametrize("words", [[], ["x.m"], ["x.m", "folder", "--sample", "0"], ["x.m", "folder", "--sample", "2"]])
def test_wrong_use_is_exit_code_two(words: list[str]):
    """A share outside (0, 1] or missing arguments."""
    assert main(words) == 2
