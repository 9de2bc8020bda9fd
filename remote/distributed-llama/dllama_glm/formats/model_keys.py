"""The header of a `.m` file: magic, size and pairs of (key, value), all little-endian int32.

`docs/format.md` specifies it to the byte. Keys up to 21 are upstream's; 100 and above are ours. All but the window are
for GLM only and are refused in a file of any other architecture, so that what upstream can open stays what upstream
writes.
"""

import struct
from collections.abc import Iterable
from enum import IntEnum

MAGIC = 0x0A00ABCD
PREFIX_BYTES = 8
PAIR_BYTES = 8
MAX_PAIRS = 256

Pairs = tuple[tuple[int, int], ...]


class ModelFileError(ValueError):
    """A `.m` file that cannot be what it claims to be; the message names the file and the fault."""


class Arch(IntEnum):
    """Values of header key 1."""

    LLAMA = 0xABCD00
    QWEN3 = 0xABCD01
    QWEN3_MOE = 0xABCD02
    GLM4 = 0xABCD03
    GLM4_MOE = 0xABCD04

    @property
    def is_glm(self) -> bool:
        """Whether the file uses our extension, which upstream refuses."""
        return self in {Arch.GLM4, Arch.GLM4_MOE}


class Key(IntEnum):
    """Header keys."""

    VERSION = 0
    ARCH_TYPE = 1
    DIM = 2
    HIDDEN_DIM = 3
    N_LAYERS = 4
    N_HEADS = 5
    N_KV_HEADS = 6
    N_EXPERTS = 7
    N_ACTIVE_EXPERTS = 8
    VOCAB_SIZE = 9
    MAX_SEQ_LEN = 10
    HIDDEN_ACT = 11
    ROPE_THETA = 12
    WEIGHTS_FLOAT_TYPE = 13
    ROPE_SCALING_FACTOR = 14
    ROPE_SCALING_LOW_FREQ_FACTOR = 15
    ROPE_SCALING_HIGH_FREQ_FACTOR = 16
    ROPE_SCALING_ORIG_MAX_SEQ_LEN = 17
    ROPE_TYPE = 18
    HEAD_DIM = 19
    NORM_EPSILON = 20
    MOE_HIDDEN_DIM = 21
    ROTARY_DIM = 100
    FIRST_DENSE_LAYERS = 101
    N_SHARED_EXPERTS = 102
    SCORING = 103
    ROUTED_SCALING_FACTOR = 104
    ATTENTION_BIAS = 105
    QK_NORM = 106
    N_GROUPS = 107
    TOPK_GROUPS = 108
    NORM_EPS_BITS = 109
    NORM_TOPK_PROB = 110
    ROPE_THETA_BITS = 111
    WINDOW = 112


class RopeType(IntEnum):
    """Values of header key 18: which values of a head turn together, and whether wavelengths are stretched."""

    ADJACENT = 0
    HALF_SPLIT = 1
    LLAMA3_1 = 2


class Scoring(IntEnum):
    """Values of header key 103: how router logits become scores."""

    SOFTMAX = 0
    SIGMOID = 1


def float_bits(value: float) -> int:
    """The int32 whose bits are those of the float32 nearest to `value`."""
    (bits,) = struct.unpack("<i", struct.pack("<f", value))
    return int(bits)


def bits_float(bits: int) -> float:
    """The float32 whose bits are those of the int32 `bits`."""
    (value,) = struct.unpack("<f", struct.pack("<i", bits))
    return float(value)


def encode_pairs(pairs: Iterable[tuple[int, int]]) -> bytes:
    """The header's bytes, magic included."""
    flat = [number for pair in pairs for number in pair]
    return struct.pack(f"<II{len(flat)}i", MAGIC, PREFIX_BYTES + 4 * len(flat), *flat)


def decode_pairs(start: bytes, *, file_bytes: int) -> Pairs:
    """The pairs at the start of a file of `file_bytes` bytes; `start` must reach to the header's end if there is one.

    Raises ModelFileError, without the file's name.
    """
    if len(start) < PREFIX_BYTES:
        raise ModelFileError(f"is {file_bytes} bytes long: no header fits in it")
    magic, size = struct.unpack_from("<II", start)
    if magic != MAGIC:
        raise ModelFileError(f"does not start with the magic number of a model file (0x{MAGIC:08X} but 0x{magic:08X})")
    count, rest = divmod(size - PREFIX_BYTES, PAIR_BYTES)
    if rest or not 0 < count <= MAX_PAIRS:
        raise ModelFileError(f"claims a header of {size} bytes, which is no whole number of pairs up to {MAX_PAIRS}")
    if len(start) < size:
        raise ModelFileError(f"ends inside its header ({file_bytes} of {size} bytes)")
    numbers = struct.unpack_from(f"<{2 * count}i", start, PREFIX_BYTES)
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))
