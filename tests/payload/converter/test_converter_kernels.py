"""The compiled loops against the plain numpy rule, bit for bit."""

import numpy as np
import numpy.typing as npt
import pytest
from dllama_glm.formats.float_types import FloatType, decode
from dllama_glm.quantise.encode import Encoder, ErrorMeter, NotStorable

from tests.payload.converter.converter_reference import encode, floats

KINDS = ("q40", "q80", "f16", "f32")
DTYPES = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}


def _encode(values: npt.NDArray[np.generic], dtype: str, kind: str) -> bytes:
    float_type = FloatType[kind.upper()]
    out = np.empty(float_type.nbytes(values.size), np.uint8)
    Encoder(float_type).encode(values.view(np.uint8).reshape(-1), dtype, out)
    return out.tobytes()


def _finite(bits: npt.NDArray[np.uint16] | npt.NDArray[np.uint32], dtype: str) -> npt.NDArray[np.generic]:
    """Random bits as values that are finite and, with any luck of the draw, of every size down to subnormals."""
    if dtype == "F32":
        values = bits.astype(np.uint32).view(np.float32)
        return np.where(np.abs(values) < 60000, values, np.float32(0.5))
    if dtype == "F16":
        half = bits.astype(np.uint16).view(np.float16)
        return np.where(np.isfinite(half), half, np.float16(0.5))
    return np.where(np.abs(floats(bits.astype(np.uint16))) < 60000, bits, 0x3F00).astype(np.uint16)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_random_bits_encode_by_the_rule(dtype: str, kind: str):
    """Blocks of values of every exponent, subnormals and both zeros included, equal the rule's bytes."""
    random = np.random.default_rng(7)
    bits = random.integers(0, 1 << (32 if dtype == "F32" else 16), 32 * 20000, dtype=np.uint32)
    values = _finite(bits, dtype)
    assert _encode(values, dtype, kind) == encode(floats(values), kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_narrow_blocks_encode_by_the_rule(dtype: str, kind: str):
    """Blocks whose values share a size, from 2**-140 to 2**14: scales that underflow, reciprocals that overflow."""
    random = np.random.default_rng(8)
    sizes = np.exp2(random.integers(-140, 15, 5000)).astype(np.float32)
    exact = (random.standard_normal((5000, 32)).astype(np.float32) * sizes[:, None]).clip(-60000, 60000)
    values = (exact.view(np.uint32) >> 16).astype(np.uint16) if dtype == "BF16" else exact.astype(DTYPES[dtype])
    assert _encode(values, dtype, kind) == encode(floats(values), kind)


@pytest.mark.parametrize("kind", ["q40", "q80"])
def test_ties_halves_and_signed_zeros(kind: str):
    """+m and -m in both orders, exact halves of a step, constant blocks, and zeros of both signs in every place."""
    blocks = [np.zeros(32, np.float32) for _ in range(200)]
    for place, block in enumerate(blocks[:32]):
        block[place] = np.float32(-0.0)
    blocks[32][:] = np.float32(-0.0)
    blocks[33][:] = 0.375
    blocks[34][:] = -0.375
    blocks[35][[3, 9]] = (1.0, -1.0)
    blocks[36][[3, 9]] = (-1.0, 1.0)
    for step in range(37, 200):
        block = blocks[step]
        block[0] = -8.0 if step % 2 else 8.0
        block[1:] = (np.arange(31, dtype=np.float32) - 15) / 2 + np.float32((step - 37) / 256)
    values = np.concatenate(blocks)
    for dtype in ("BF16", "F32"):
        source = (values.view(np.uint32) >> 16).astype(np.uint16) if dtype == "BF16" else values
        assert _encode(source, dtype, kind) == encode(floats(source), kind)


def test_a_block_of_zeros_takes_its_sign_from_the_last_value():
    """+0 last gives the scale bytes 00 80 in Q40 and 00 00 in Q80; -0 last the reverse."""
    plus, minus = np.zeros(32, np.float32), np.zeros(32, np.float32)
    minus[31] = np.float32(-0.0)
    assert [_encode(plus, "F32", "q40")[:2].hex(), _encode(minus, "F32", "q40")[:2].hex()] == ["0080", "0000"]
    assert [_encode(plus, "F32", "q80")[:2].hex(), _encode(minus, "F32", "q80")[:2].hex()] == ["0000", "0080"]
    assert set(_encode(plus, "F32", "q40")[2:]) == {0x88}


def test_every_half_widens_exactly():
    """All finite halves become the float32 of the same value."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    assert _encode(halves, "F16", "f32") == halves.astype(np.float32).tobytes()
    assert _encode(halves, "F16", "f16") == halves.tobytes()


def test_floats_round_to_the_nearest_half():
    """Around every half, the ties and their neighbours round as IEEE says, up to the last number below infinity."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = (halves[:-1] + halves[1:]) / 2
    around = np.concatenate([halves, ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, np.float32(1e9))])
    around = np.concatenate([around, -around, [np.float32(65519.996)]]).astype(np.float32)
    assert _encode(around, "F32", "f16") == around.astype(np.float16).tobytes()


@pytest.mark.parametrize("count", [1, 31, 33, 95])
@pytest.mark.parametrize("dtype", DTYPES)
def test_lengths_that_are_no_whole_groups(dtype: str, count: int):
    """F16 and F32 outputs may end anywhere."""
    values = _finite(np.random.default_rng(count).integers(0, 1 << 16, count, dtype=np.uint32) << np.uint32(8), dtype)
    for kind in ("f16", "f32"):
        assert _encode(values, dtype, kind) == encode(floats(values), kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(dtype: str, kind: str, bad: float):
    """The first group with one is named."""
    values = np.ones(320, np.float32)
    values[[250, 300]] = bad
    source = (values.view(np.uint32) >> 16).astype(np.uint16) if dtype == "BF16" else values.astype(DTYPES[dtype])
    with pytest.raises(NotStorable) as caught:
        _encode(source, dtype, kind)
    assert caught.value.first == 7


@pytest.mark.parametrize(("kind", "largest"), [("q40", 65519.9 * 8), ("q80", 65519.9 * 127), ("f16", 65519.9)])
def test_scales_that_overflow_a_half_are_refused(kind: str, largest: float):
    """The last number that still rounds to a finite half passes, the next is refused."""
    values = np.zeros(32, np.float32)
    values[5] = largest
    assert _encode(values, "F32", kind) == encode(values, kind)
    values[5] = largest * 1.0001
    with pytest.raises(NotStorable):
        _encode(values, "F32", kind)


@pytest.mark.parametrize("kind", ["f16", "q40", "q80"])
def test_errors_are_those_of_the_decoded_values(kind: str):
    """Largest and summed squared errors equal a plain computation on what the format decodes to."""
    values = np.random.default_rng(3).standard_normal(32 * 100).astype(np.float32)
    stored = np.frombuffer(_encode(values, "F32", kind), np.uint8)
    wrong = values - decode(stored, FloatType[kind.upper()])
    largest, squares = ErrorMeter(FloatType[kind.upper()]).measure(values.view(np.uint8), "F32", stored)
    assert largest == np.abs(wrong).max()
    assert squares == pytest.approx((wrong.astype(np.float64) ** 2).sum(), rel=1e-5)
    assert largest > 0
