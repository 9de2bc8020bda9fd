"""The reader of `.m` files, and the specification's own example."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest
from dllama_glm.formats.model_file import Arch, Key, MappedModel, ModelFileError, RopeType, layout, read_header
from dllama_glm.formats.model_keys import encode_pairs

from tests.payload.converter.converter_files import (
    GLM_MOE,
    GOLDEN,
    MODELS,
    TESTS,
    bf16,
    convert,
    glm_tensors,
    write_checkpoint,
)
from tests.payload.converter.converter_reference import encode, floats

DOCUMENT = (TESTS.parent / "docs" / "format.md").read_text()


def test_the_specifications_example_is_what_the_converter_writes(tmp_path: Path):
    """The hex listing and the worked block in docs/format.md are the first bytes of the file that it names."""
    output = convert(MODELS / "zai-org" / "GLM-4.5-Air-Base", "q40", tmp_path / "x.m")
    listing = re.findall(
        r"^([0-9a-f]{3})  ((?:[0-9a-f]{2} ){3}[0-9a-f]{2})  ((?:[0-9a-f]{2} ){3}[0-9a-f]{2})", DOCUMENT, re.MULTILINE
    )
    for offset, first, second in listing:
        assert output[int(offset, 16) :][:8] == bytes.fromhex(first + second)
    assert len(listing) * 8 == read_header(tmp_path / "x.m").size == 248
    (block,) = re.findall(r"^(70 a4 .*)$", DOCUMENT, re.MULTILINE)
    assert output[524536 : 524536 + 18] == bytes.fromhex(block.replace(" ", ""))
    assert f"({len(output):,} bytes)" in DOCUMENT


def test_every_key_of_the_reader_is_specified():
    """No header key is read that docs/format.md does not name."""
    for key in Key:
        assert re.search(rf"\b{key.value}\b", DOCUMENT), key


def test_a_glm_header_says_what_the_configuration_said(tmp_path: Path):
    """Every field of an unusual configuration arrives."""
    config = GLM_MOE | {"routed_scaling_factor": 2.5, "rms_norm_eps": 1e-6, "n_group": 2, "topk_group": 2}
    convert(write_checkpoint(tmp_path / "model", config, glm_tensors(config)), "q80", tmp_path / "x.m")
    header = read_header(tmp_path / "x.m")
    assert (header.arch, header.rope_type, header.rotary_dim) == (Arch.GLM4_MOE, RopeType.HALF_SPLIT, 16)
    assert (header.routed_scaling_factor, header.n_groups, header.topk_groups) == (2.5, 2, 2)
    assert header.norm_eps == pytest.approx(1e-6, rel=1e-6)
    assert (header.attention_bias, header.qk_norm, header.first_dense_layers) == (True, False, 1)
    assert (header.q_dim, header.kv_dim) == (128, 64)


def test_upstream_headers_have_the_readers_defaults(tmp_path: Path):
    """Qwen3 turns halves and norms q and k; Llama 3 stretches wavelengths."""
    convert(GOLDEN / "qwen3", "q40", tmp_path / "qwen.m")
    qwen = read_header(tmp_path / "qwen.m")
    assert (qwen.rope_type, qwen.qk_norm, qwen.rotary_dim, qwen.norm_eps) == (RopeType.HALF_SPLIT, True, 64, 1e-6)
    convert(GOLDEN / "llama3-tied", "q40", tmp_path / "llama.m")
    llama = read_header(tmp_path / "llama.m")
    assert llama.rope_type is RopeType.LLAMA3_1
    assert llama.rope_scaling is not None
    assert (llama.rope_scaling.factor, llama.rope_scaling.original_max_seq_len) == (8.0, 128)


@pytest.mark.parametrize("kind", ["q40", "q80", "f16", "f32"])
def test_mapped_tensors_decode_to_what_was_stored(kind: str, tmp_path: Path):
    """Whole tensors and rows come back as the format's values, and the slots cover the file without gaps."""
    tensors = glm_tensors(GLM_MOE)
    convert(write_checkpoint(tmp_path / "model", GLM_MOE, tensors), kind, tmp_path / "x.m")
    model = MappedModel(tmp_path / "x.m")
    position = model.header.size
    for slot in layout(model.header):
        assert slot.offset == position
        position = slot.end
        values = floats(tensors[slot.name])
        assert bytes(model.raw(slot.name)) == encode(values, slot.float_type.name.lower())
        assert np.abs(model.values(slot.name) - values).max() < (0.6 if slot.float_type.blocked else 1e-2)
    whole = model.values("lm_head.weight")
    assert np.array_equal(model.values("lm_head.weight", 7, 9), whole[7:9])
    assert model.rows("lm_head.weight", 7, 9).shape[0] == 2
    assert position == (tmp_path / "x.m").stat().st_size
    with pytest.raises(ModelFileError, match="has no tensor nothing"):
        model.raw("nothing")
    model.close()


def _change(pairs: dict[int, int], **changes: int | None) -> dict[int, int]:
    for name, value in changes.items():
        key = int(Key[name.upper()])
        if value is None:
            del pairs[key]
        else:
            pairs[key] = value
    return pairs


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_layers": None}, "lacks the header key 4"),
        ({"n_layers": 0}, "says 0 for n_layers"),
        ({"n_layers": 2000000000}, "the most that is read is 2048"),
        ({"n_experts": 0}, "has 0 experts, which does not go with GLM4_MOE"),
        ({"arch_type": 5}, "header key 1"),
        ({"arch_type": int(Arch.LLAMA)}, "has the header key 100, which LLAMA does not have"),
        ({"weights_float_type": 9}, "header key 13"),
        ({"rotary_dim": 33}, "turns 33 of 32 values"),
        ({"attention_bias": 2}, "which is 0 or 1"),
        ({"version": 1}, "has version 1; known: 0"),
        ({"dim": 65}, "dim is 65"),
        ({"norm_eps_bits": 0x7FC00000}, "norm_eps nan"),
        ({"topk_groups": 2}, "keeps 2 of 1 groups"),
        ({"vocab_size": 97}, "where its header calls for"),
    ],
)
def test_impossible_headers_are_refused(changes: dict[str, int | None], words: str, tmp_path: Path):
    """The file and the key are named."""
    folder = write_checkpoint(tmp_path / "model", GLM_MOE, glm_tensors(GLM_MOE))
    output = convert(folder, "q40", tmp_path / "x.m")
    header = read_header(tmp_path / "x.m")
    changed = encode_pairs(_change(dict(header.pairs), **changes).items())
    (tmp_path / "x.m").write_bytes(changed + output[header.size :])
    with pytest.raises(ModelFileError) as caught:
        MappedModel(tmp_path / "x.m")
    assert words in str(caught.value)
    assert str(tmp_path / "x.m") in str(caught.value)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"", "no header fits"),
        (struct.pack("<II", 0x0A00ABCD, 7), "no whole number of pairs"),
        (struct.pack("<II", 0x0A00ABCD, 8 + 8 * 1000), "no whole number of pairs"),
        (struct.pack("<II", 0xABCD00, 24), "magic number"),
        (struct.pack("<II", 0x0A00ABCD, 80), "ends inside its header"),
        (struct.pack("<II4i", 0x0A00ABCD, 24, 0, 0, 0, 0), "the header key 0 (version) twice"),
        (struct.pack("<II4i", 0x0A00ABCD, 24, 0, 0, 22, 0), "unknown header key 22"),
    ],
)
def test_what_is_no_header_is_refused(start: bytes, words: str, tmp_path: Path):
    """Too short, another magic, a broken size, a key twice, an unknown key."""
    (tmp_path / "x.m").write_bytes(start)
    with pytest.raises(ModelFileError, match=re.escape(words)):
        read_header(tmp_path / "x.m")


def test_a_missing_file_is_one_sentence(tmp_path: Path):
    """Reading what is not there names it."""
    with pytest.raises(ModelFileError, match="cannot be read: No such file"):
        read_header(tmp_path / "none.m")


def test_bf16_of_the_tests_is_the_upper_half():
    """The tests' own BF16 is exact for values that have it."""
    values = np.array([1.0, -2.5, 0.0], np.float32)
    assert np.array_equal(floats(bf16(values)), values)
