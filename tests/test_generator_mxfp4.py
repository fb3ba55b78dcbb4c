"""MXFP4: the values of the OCP specification, bit for bit, and an exact way into 8-bit integers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inspector.errors import WeightsError
from inspector.generator.mxfp4 import (
    BITS_PER_WEIGHT,
    BLOCK,
    ELEMENTS,
    FOLD_SPAN,
    ZERO_ROW_SCALE,
    ExponentChoice,
    Mxfp4Blocks,
    decode_mxfp4,
    encode_mxfp4,
    fold_rows,
    scale_values,
)

Floats = NDArray[np.float32]
CHOICES: tuple[ExponentChoice, ...] = ("specification", "least_error")
SPECIFIED = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0]
"""The specification's table of E2M1, by code."""


def one_block(*values: float) -> Floats:
    row = np.zeros((1, BLOCK), np.float32)
    row[0, : len(values)] = values
    return row


def codes_of(blocks: Mxfp4Blocks) -> list[int]:
    low, high = blocks.codes & 15, blocks.codes >> 4
    return [int(code) for code in np.stack([low, high], axis=2).ravel()]


@st.composite
def matrices(draw: st.DrawFn) -> Floats:
    """Rows whose blocks differ by many binades, with zeros, sparse blocks and any number of columns."""
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 100))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread, middle = draw(st.integers(0, 12)), draw(st.sampled_from([-140, -126, -8, 0, 110]))
    powers = middle + np.repeat(random.integers(-spread, spread + 1, (rows, -(-columns // BLOCK))), BLOCK, axis=1)
    values = random.standard_normal((rows, columns)) * np.exp2(powers[:, :columns].astype(np.float64))
    values[random.random((rows, columns)) < draw(st.sampled_from([0.0, 0.5, 0.95, 1.0]))] = 0
    return values.astype(np.float32)


def decode_independently(blocks: Mxfp4Blocks) -> NDArray[np.float64]:
    """With the number types of another library."""
    codes = np.array(codes_of(blocks), np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float64)
    scales = blocks.scales.view(ml_dtypes.float8_e8m0fnu).astype(np.float64)
    values = codes.reshape(*blocks.scales.shape, BLOCK) * scales[..., None]
    return np.asarray(values.reshape(len(scales), -1)[:, : blocks.columns])


def encode_independently(values: Floats) -> NDArray[np.float64]:
    """The specification's algorithm, one block after the other, with the number types of another library."""
    encoded = np.empty(values.shape)
    for start in range(0, values.shape[1], BLOCK):
        for row, block in enumerate(values[:, start : start + BLOCK].astype(np.float64)):
            largest = np.abs(block).max()
            exponent = max(-127.0, np.floor(np.log2(largest)) - 2) if largest else -127.0
            scaled = np.clip(block / 2.0**exponent, -6, 6).astype(np.float32)
            encoded[row, start : start + BLOCK] = scaled.astype(ml_dtypes.float4_e2m1fn).astype(np.float64)
            encoded[row, start : start + BLOCK] *= 2.0**exponent
    return encoded


def test_all_sixteen_elements_have_the_values_of_the_specification() -> None:
    """E2M1 by code: eight magnitudes, then the same negative, zero included."""
    codes = np.arange(16, dtype=np.uint8)
    blocks = Mxfp4Blocks(16, np.pad(codes[0::2] | codes[1::2] << 4, (0, 8))[None], np.array([[127]], np.uint8))
    assert decode_mxfp4(blocks)[0].tobytes() == np.array(SPECIFIED, np.float32).tobytes()
    assert (
        ELEMENTS.tobytes() == np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32).tobytes()
    )


def test_all_scale_bytes_have_the_values_of_the_specification() -> None:
    """E8M0: 2^-127 (below the normal range of float32) to 2^127, and 255 is not a number."""
    values = scale_values(np.arange(256, dtype=np.uint8))
    assert [float(value) for value in values[:255]] == [2.0**power for power in range(-127, 128)]
    assert np.isnan(values[255])


def test_a_block_without_a_number_for_a_scale_is_no_number() -> None:
    """Decoding says NaN for the whole block, and for no other; folding refuses."""
    blocks = encode_mxfp4(np.ones((1, 2 * BLOCK), np.float32))
    blocks.scales[0, 1] = 255
    decoded = decode_mxfp4(blocks)
    assert (decoded[0, :BLOCK] == 1).all() and np.isnan(decoded[0, BLOCK:]).all()
    with pytest.raises(WeightsError, match="not a number"):
        fold_rows(blocks)


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (0.25, 0.0), (0.2500001, 0.5), (0.75, 1.0), (0.7499999, 0.5), (1.25, 1.0), (1.75, 2.0), (2.5, 2.0),
        (2.5000002, 3.0), (3.5, 4.0), (3.4999998, 3.0), (5.0, 4.0), (5.0000005, 6.0), (6.9, 6.0), (7.9999995, 6.0),
    ],
)  # fmt: skip
def test_elements_round_to_nearest_even_and_saturate(value: float, rounded: float) -> None:
    """With the scale 1, which a largest magnitude from 4 up to 8 gives; both signs alike."""
    encoded = encode_mxfp4(one_block(4, value, -value))
    assert encoded.scales[0, 0] == 127
    assert [float(value) for value in decode_mxfp4(encoded)[0, :3]] == [4, rounded, -rounded]


@pytest.mark.parametrize(
    ("largest", "byte"), [(4.0, 127), (7.9999995, 127), (8.0, 128), (3.9999998, 126), (1.0, 125), (2.0**-125, 0)]
)
def test_shared_exponent_is_that_of_the_largest_less_two(largest: float, byte: int) -> None:
    """floor(log2(largest magnitude)) - 2, exact next to powers of two."""
    assert encode_mxfp4(one_block(0.1 * largest, -largest)).scales[0, 0] == byte


def test_the_ends_of_the_scale() -> None:
    """The largest float32 saturates in its block; what is below the smallest scale's grid becomes zero."""
    largest = float(np.finfo(np.float32).max)
    blocks = encode_mxfp4(one_block(largest, -largest))
    assert blocks.scales[0, 0] == 252 and decode_mxfp4(blocks)[0, 0] == 6 * 2.0**125
    blocks = encode_mxfp4(one_block(2.0**-128, 2.0**-129, 2.0**-140, -(2.0**-149)))
    assert blocks.scales[0, 0] == 0 and codes_of(blocks)[:4] == [1, 0, 0, 8]
    assert codes_of(encode_mxfp4(one_block())) == [0] * BLOCK and encode_mxfp4(one_block()).scales[0, 0] == 0


@settings(max_examples=150, deadline=None)
@given(matrices())
def test_codec_agrees_with_another_library(values: Floats) -> None:
    """Encoding follows the specification's algorithm, decoding the number types of `ml_dtypes`: same bits."""
    blocks = encode_mxfp4(values)
    assert decode_mxfp4(blocks).astype(np.float64).tobytes() == decode_independently(blocks).tobytes()
    assert decode_mxfp4(blocks).astype(np.float64).tobytes() == encode_independently(values).tobytes()


@settings(max_examples=150, deadline=None)
@given(matrices(), st.sampled_from(CHOICES), st.booleans(), st.sampled_from(CHOICES))
def test_what_was_decoded_encodes_to_itself(
    values: Floats, choice: ExponentChoice, foldable: bool, again: ExponentChoice
) -> None:
    """Also with the other choice of exponents: weights trained on the grid are stored as they are."""
    decoded = decode_mxfp4(encode_mxfp4(values, choice, foldable=foldable))
    assert (decode_mxfp4(encode_mxfp4(decoded, again, foldable=foldable)) == decoded).all()


@settings(max_examples=150, deadline=None)
@given(matrices(), st.sampled_from(CHOICES))
def test_fold_is_exact_bit_for_bit(values: Floats, choice: ExponentChoice) -> None:
    """A foldable matrix equals integers within ±96 times one power of two per row; zeros have a usable scale."""
    blocks = encode_mxfp4(values, choice, foldable=True)
    integers, scale = fold_rows(blocks)
    assert integers.dtype == np.int8 and np.abs(integers.astype(int)).max() <= 96
    assert (integers * scale[:, None]).tobytes() == decode_mxfp4(blocks).tobytes()
    assert (scale > 0).all() and (scale[~integers.any(axis=1)] == ZERO_ROW_SCALE).all()


@settings(max_examples=100, deadline=None)
@given(matrices())
def test_error_is_bounded(values: Floats) -> None:
    """An element is off by at most a quarter of its block's largest; the best exponent is never the worse one."""
    padded = np.zeros((len(values), -(-values.shape[1] // BLOCK) * BLOCK))
    padded[:, : values.shape[1]] = values
    largest = np.abs(padded).reshape(len(values), -1, BLOCK).max(axis=2)
    bound = np.maximum(largest / 4, 2.0**-129)
    squares = []
    for choice in CHOICES:
        blocks = encode_mxfp4(values, choice)
        error = np.zeros_like(padded)
        error[:, : values.shape[1]] = decode_mxfp4(blocks).astype(np.float64) - values
        errors = error.reshape(*largest.shape, BLOCK)
        assert choice == "least_error" or (np.abs(errors).max(axis=2) <= bound).all()
        squares.append(np.square(errors / np.maximum(largest, 1e-45)[..., None]).sum(axis=2))
    assert (squares[1] <= squares[0] * (1 + 1e-5)).all()


def test_least_error_is_less_on_gaussian_weights() -> None:
    """By at least 5 % of the squared error, for the same bytes; folding costs less than 1 % of it."""
    values = np.random.default_rng(3).standard_normal((64, 576)).astype(np.float32)
    error = {
        (choice, foldable): float(
            np.square(decode_mxfp4(encode_mxfp4(values, choice, foldable=foldable)) - values).sum()
        )
        for choice in CHOICES
        for foldable in (False, True)
    }
    assert error["least_error", False] < 0.95 * error["specification", False]
    assert error["least_error", True] < 1.01 * error["least_error", False]


def test_exponents_of_a_foldable_row_span_three_binades() -> None:
    """Lower blocks are raised, higher ones are kept; blocks of zeros do not count."""
    values = np.zeros((1, 4 * BLOCK), np.float32)
    values[0, [0, BLOCK, 2 * BLOCK]] = 4.0, 1.0, 0.25
    assert list(encode_mxfp4(values, foldable=True).scales[0]) == [127, 125, 127 - FOLD_SPAN, 0]
    assert list(encode_mxfp4(values).scales[0]) == [127, 125, 123, 0]


def test_a_row_that_spans_more_does_not_fold() -> None:
    """The message says which row and how wide it is."""
    values = np.ones((3, 2 * BLOCK), np.float32)
    values[2, BLOCK:] = 2.0**-4
    with pytest.raises(WeightsError, match="row 2 span 4 binades"):
        fold_rows(encode_mxfp4(values))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    """Nothing stands for them in E2M1."""
    with pytest.raises(WeightsError, match="not finite"):
        encode_mxfp4(one_block(1, bad))


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    """Too few scales, too many codes, or no matrix at all."""
    codes, scales = np.zeros((2, 32), np.uint8), np.zeros((2, 2), np.uint8)
    assert decode_mxfp4(Mxfp4Blocks(33, codes, scales)).shape == (2, 33)
    for columns, wrong in ((65, scales), (32, scales), (33, scales[:1])):
        with pytest.raises(WeightsError, match="MXFP4 need"):
            Mxfp4Blocks(columns, codes, wrong)
    with pytest.raises(WeightsError, match="rows and columns"):
        encode_mxfp4(np.zeros(32, np.float32))


def test_bits_per_weight() -> None:
    """4.25 where rows are whole blocks; a row of 27 is padded to 32."""
    assert encode_mxfp4(np.ones((64, 576), np.float32)).size_bytes * 8 == BITS_PER_WEIGHT * 64 * 576
    assert encode_mxfp4(np.ones((64, 27), np.float32)).size_bytes * 8 == BITS_PER_WEIGHT * 64 * 32
