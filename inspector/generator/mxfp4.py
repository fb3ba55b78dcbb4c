"""MXFP4, the 4-bit weights of the generator: blocks of 32 E2M1 values that share one power of two.

OCP Microscaling Formats (MX) Specification, version 1.0 (2023). An element is sign, two bits of exponent and one of
mantissa: ±{0, 0.5, 1, 1.5, 2, 3, 4, 6}. A block's scale is a byte E8M0: 2^(byte - 127), 255 is "not a number".
Blocks run along the columns; the last block of a row is padded with zeros. The specification leaves the layout of
the bytes open: here two elements share a byte, the earlier one in the low half, and the scales lie apart.

A row whose blocks span at most three binades is also, exactly, a row of 8-bit integers with one scale:
2 * E2M1 is an integer of at most 12, times at most 2^3 makes 96. So 4 bits on disk feed the int8 kernels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from inspector.errors import WeightsError

BLOCK = 32
ELEMENT_MAX_EXPONENT = 2
"""The exponent of 6 and 4, the largest binade of E2M1 (emax of the specification)."""
SCALE_BIAS = 127
NAN_SCALE = 255
LOWEST_EXPONENT, HIGHEST_EXPONENT = -127, 125
"""Block exponents that the encoder writes; above 125 an element of 6 would leave float32."""
FOLD_SPAN = 3
"""Most binades between the block scales of a row that folds into int8."""
ZERO_ROW_SCALE = np.float32(2.0**-14)
"""The scale of a folded row of zeros: any is exact, this one leaves a bias that is added to it fine steps."""
BITS_PER_WEIGHT = 4 + 8 / BLOCK

ExponentChoice: TypeAlias = Literal["specification", "least_error"]

_MAGNITUDES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
ELEMENTS = np.concatenate([_MAGNITUDES, -_MAGNITUDES])
"""The values of the 16 codes of E2M1."""
_HALVES = np.stack([np.tile(np.arange(16), 16), np.repeat(np.arange(16), 16)], axis=1)
# Both elements of a byte in one table entry, so that decoding looks up bytes and not halves of bytes.
_FLOAT_PAIRS = np.ascontiguousarray(ELEMENTS[_HALVES]).view(np.uint64).ravel()
_INTEGER_PAIRS = np.ascontiguousarray((2 * ELEMENTS).astype(np.int8)[_HALVES]).view(np.uint16).ravel()
_ROW_CHUNK_BYTES = 1 << 17
"""Codes decoded at a time: what they become fits the cache."""


@dataclass(frozen=True, slots=True)
class Mxfp4Blocks:
    """A matrix in MXFP4.

    `codes` is (rows, 16 * blocks) uint8: two elements a byte, the earlier one in the low half. `scales` is
    (rows, blocks) uint8, E8M0. `columns` is the width without the padding; blocks = ceil(columns / 32).
    Raises `WeightsError` when the arrays do not fit together.
    """

    columns: int
    codes: NDArray[np.uint8]
    scales: NDArray[np.uint8]

    def __post_init__(self) -> None:
        rows, blocks = len(self.scales), count_blocks(self.columns)
        if self.scales.shape != (rows, blocks) or self.codes.shape != (rows, blocks * BLOCK // 2):
            raise WeightsError(
                f"{self.columns} columns of MXFP4 need {blocks} scales and {blocks * BLOCK // 2} bytes a row: "
                f"these are {self.scales.shape} and {self.codes.shape}"
            )

    @property
    def size_bytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes


def count_blocks(columns: int) -> int:
    """Blocks of a row, the last one possibly padded."""
    return -(-columns // BLOCK)


def encode_mxfp4(
    values: NDArray[np.float32], choice: ExponentChoice = "specification", *, foldable: bool = False
) -> Mxfp4Blocks:
    """Encode a (rows, columns) float32 matrix.

    Elements round to the nearest value, ties to the even code, and saturate at ±6 (specification, section 6.3).
    "specification" takes floor(log2(largest magnitude)) - 2 as the block's exponent; "least_error" takes of that
    one and its two neighbours the one with the smallest squared error, which decodes the same way. With `foldable`
    the exponents of a row are raised to at most 3 below its largest, and zeros lose their sign, so that
    `fold_rows` is exact bit for bit. Blocks of zeros have the scale byte 0.

    Raises `WeightsError` for another shape and for values that are not finite.
    """
    if values.ndim != 2:
        raise WeightsError(f"MXFP4 encodes rows and columns, not an array of shape {values.shape}")
    if not np.isfinite(values).all():
        raise WeightsError("the weights hold values that are not finite")
    rows, columns = values.shape
    padded = np.zeros((rows, count_blocks(columns) * BLOCK), np.float32)
    padded[:, :columns] = values
    blocks = padded.reshape(rows, -1, BLOCK)
    exponents = _shared_exponents(blocks)
    if choice == "least_error":
        exponents = _least_error_exponents(blocks, exponents)
    if foldable:
        exponents = _raise_low_exponents(blocks, exponents)
    codes = _round_elements(_scale_by_power(np.abs(blocks), -exponents))
    signs = np.signbit(blocks) & (codes > 0) if foldable else np.signbit(blocks)
    codes |= signs.astype(np.uint8) << 3
    packed = np.asarray(codes[..., 0::2] | codes[..., 1::2] << np.uint8(4), np.uint8).reshape(rows, -1)
    return Mxfp4Blocks(columns, packed, (exponents + SCALE_BIAS).astype(np.uint8))


def decode_mxfp4(blocks: Mxfp4Blocks) -> NDArray[np.float32]:
    """The (rows, columns) float32 matrix, exactly. A block whose scale is 255 is all NaN.

    What is beyond float32 (foreign scales of 2^126 and 2^127 with large elements) is infinite.
    """
    rows, width = blocks.codes.shape
    decoded = np.empty((rows, blocks.columns), np.float32)
    scales = scale_values(blocks.scales)
    with np.errstate(over="ignore", invalid="ignore"):
        for chunk in _row_chunks(rows, width):
            values = np.take(_FLOAT_PAIRS, blocks.codes[chunk]).view(np.float32)
            values.reshape(len(values), -1, BLOCK)[...] *= scales[chunk, :, None]
            decoded[chunk] = values[:, : blocks.columns]
    return decoded


def fold_rows(blocks: Mxfp4Blocks) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The same matrix as 8-bit integers and one scale a row: `integers * scale[:, None]` equals `decode_mxfp4`.

    Returns ((rows, columns) int8 within ±96, (rows,) float32 powers of two). Exact; only the sign of a negative
    zero is lost. Raises `WeightsError` when the scales of a row span more than 3 binades or are not numbers.
    """
    if (blocks.scales == NAN_SCALE).any():
        raise WeightsError("a block of MXFP4 weights is marked as not a number")
    rows, width = blocks.codes.shape
    magnitudes = blocks.codes.reshape(rows, -1, BLOCK // 2) & np.uint8(0x77)
    used = np.any(magnitudes, axis=2)
    exponents = blocks.scales.astype(np.int16) - SCALE_BIAS
    lowest = np.where(used, exponents, NAN_SCALE).min(axis=1, initial=NAN_SCALE)
    shifts = np.where(used, exponents - lowest[:, None], 0)
    wide = np.flatnonzero(shifts.max(axis=1, initial=0) > FOLD_SPAN)
    if wide.size:
        raise WeightsError(
            f"the block scales of row {wide[0]} span {shifts[wide[0]].max()} binades; "
            f"at most {FOLD_SPAN} fold into 8-bit integers: encode the weights as foldable"
        )
    folded = np.empty((rows, blocks.columns), np.int8)
    steps = shifts.astype(np.int8)
    for chunk in _row_chunks(rows, width):
        integers = np.take(_INTEGER_PAIRS, blocks.codes[chunk]).view(np.int8)
        integers.reshape(len(integers), -1, BLOCK)[...] <<= steps[chunk, :, None]
        folded[chunk] = integers[:, : blocks.columns]
    is_used = np.any(used, axis=1)
    scale = np.ldexp(np.float32(1), np.where(is_used, lowest - 1, 0).astype(np.int32))
    return folded, np.where(is_used, scale, ZERO_ROW_SCALE).astype(np.float32)


def scale_values(scales: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The values of E8M0 bytes: 2^(byte - 127), NaN for 255."""
    powers = np.ldexp(np.float32(1), np.arange(NAN_SCALE, dtype=np.int32) - SCALE_BIAS)
    return np.take(np.append(powers, np.float32(np.nan)), scales)


def _shared_exponents(blocks: NDArray[np.float32]) -> NDArray[np.int32]:
    """(rows, blocks): floor(log2(largest magnitude)) - emax, within what a scale byte holds."""
    largest = np.abs(blocks).max(axis=2, initial=0)
    exponents = np.frexp(largest)[1].astype(np.int32) - 1 - ELEMENT_MAX_EXPONENT
    return np.where(largest > 0, np.clip(exponents, LOWEST_EXPONENT, HIGHEST_EXPONENT), LOWEST_EXPONENT)


def _least_error_exponents(blocks: NDArray[np.float32], exponents: NDArray[np.int32]) -> NDArray[np.int32]:
    magnitudes = _scale_by_power(np.abs(blocks), -exponents)
    best, least = exponents, _squared_error(magnitudes, np.zeros_like(exponents))
    for step in (1, -1):
        neighbour = np.clip(exponents + step, LOWEST_EXPONENT, HIGHEST_EXPONENT)
        error = _squared_error(magnitudes, neighbour - exponents)
        best, least = np.where(error < least, neighbour, best), np.minimum(error, least)
    return best


def _squared_error(magnitudes: NDArray[np.float32], steps: NDArray[np.int32]) -> NDArray[np.float32]:
    """(rows, blocks): the error of rounding with exponents `steps` away from those of `magnitudes`."""
    codes = _round_elements(_scale_by_power(magnitudes, -steps))
    errors = magnitudes - _scale_by_power(np.take(_MAGNITUDES, codes), steps)
    return np.asarray(np.einsum("rbe,rbe->rb", errors, errors), np.float32)


def _raise_low_exponents(blocks: NDArray[np.float32], exponents: NDArray[np.int32]) -> NDArray[np.int32]:
    used = blocks.any(axis=2)
    top = np.where(used, exponents, LOWEST_EXPONENT).max(axis=1, initial=LOWEST_EXPONENT)
    return np.where(used, np.maximum(exponents, top[:, None] - FOLD_SPAN), LOWEST_EXPONENT)


def _scale_by_power(blocks: NDArray[np.float32], exponents: NDArray[np.int32]) -> NDArray[np.float32]:
    return np.asarray(blocks * np.ldexp(np.float32(1), exponents)[..., None], np.float32)


def _round_elements(magnitudes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Codes without sign: to the nearest of the eight magnitudes; a value in the middle goes to the even code."""
    codes = np.zeros(magnitudes.shape, np.uint8)
    for code, (low, high) in enumerate(itertools.pairwise(_MAGNITUDES)):
        middle = (low + high) / 2
        codes += magnitudes > middle if code % 2 == 0 else magnitudes >= middle
    return codes


def _row_chunks(rows: int, row_bytes: int) -> list[slice]:
    step = max(1, _ROW_CHUNK_BYTES // max(1, row_bytes))
    return [slice(start, start + step) for start in range(0, rows, step)]
