"""Lights darkened images and compares with gain, gamma and CLAHE followed by OpenCV's non-local means.

    python -m tools.exposure_trial FOLDER [--sets NAME ...] [--images N] [--side PX] [--speed] [--out FILE]

Each data set (MVTec convention) gives good test images, which nothing was trained on, cut to their middle, and where
it has masks defective ones, cut around the defect. They are darkened to 5, 10 and 15 % of their light by two cameras,
with shot and read noise, and lit again. Every method is told exposure and response; the classical ones also get, image
by image, the strength of the non-local means that suits the truth best. Printed are PSNR, what ours gains over the best
classical method, and how much of the defects' contrast is left. `--out` writes all as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.exposure.brightening import bright_values
from inspector.generator.exposure.darkening import Sensor, darken
from inspector.generator.exposure.level import match_exposure
from inspector.generator.exposure.net import LowLightNet, open_net
from inspector.generator.exposure.noise import NoiseCurve
from inspector.generator.exposure.relighting import relight_frame
from inspector.images import is_grey
from inspector.records import BgrImage
from pipelines.bench import describe_host
from pipelines.dataset import TestImage, open_good_images, open_test_set, read_image, read_mask

EXPOSURES = (0.05, 0.10, 0.15)
SENSORS = {"plain": Sensor(10_000, 3), "noisy": Sensor(2000, 6)}
STRENGTHS = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 17.0, 24.0, 34.0)
"""`h` of the non-local means; 0 leaves the noise in, which helps where there is hardly any."""
CLASSICAL = ("gain", "gamma", "clahe")
CLIP_LIMIT = 1.0
"""The gentlest: more contrast than the truth has costs PSNR."""
RING_PX = 9
LARGE_SIZE = (3840, 2160)


@dataclass(frozen=True, slots=True)
class Row:
    """One image lit by every method: PSNR in dB. `golden_gain_error` and `response_found` are what the
    golden image alone says about the whole frame."""

    data_set: str
    image: str
    sensor: str
    exposure: float
    psnr_db: dict[str, float]
    golden_gain_error: float
    response_found: bool
    defect: dict[str, list[float]]

    @property
    def gain_db(self) -> float:
        """Ours less the best classical method."""
        return self.psnr_db["ours"] - max(self.psnr_db[name] for name in CLASSICAL)


def measure_psnr(one: BgrImage, other: BgrImage, mask: NDArray[np.bool_] | None = None) -> float:
    """PSNR in dB, over a mask if there is one; 100 for equal pictures."""
    difference = one.astype(np.float64) - other
    error = float(np.square(difference if mask is None else difference[mask]).mean())
    return 100.0 if error == 0 else float(10 * np.log10(255**2 / error))


def light_classically(dark: BgrImage, exposure: float, sensor: Sensor) -> Iterator[tuple[str, BgrImage]]:
    """Gain, gamma and CLAHE of a dark frame, all at the mean level that the known exposure gives."""
    table = np.clip(bright_values(1 / exposure, NoiseCurve(0, 0, sensor.response)), 0, 1)
    gained = np.rint(255 * table[dark]).astype(np.uint8)
    wanted = float(gained.mean())
    yield "gain", gained
    yield "gamma", _to_mean(dark, wanted)
    lab = cv2.cvtColor(gained, cv2.COLOR_BGR2LAB)
    lab[..., 0] = cv2.createCLAHE(CLIP_LIMIT, (8, 8)).apply(np.ascontiguousarray(lab[..., 0]))
    yield "clahe", _to_mean(np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2BGR), np.uint8), wanted)


def _to_mean(pixels: BgrImage, wanted: float) -> BgrImage:
    """The pixels under the power of their values that has the wanted mean."""
    low, high = 0.02, 20.0
    levels = np.arange(256) / 255
    for _ in range(40):
        power = float(np.sqrt(low * high))
        table = np.rint(255 * levels**power).astype(np.uint8)
        low, high = (power, high) if float(table[pixels].mean()) > wanted else (low, power)
    return table[pixels]


def smooth(lit: BgrImage, strength: float) -> BgrImage:
    """OpenCV's non-local means; the one for grey pictures where the picture is grey."""
    if strength == 0:
        return lit
    if is_grey(lit):
        grey = cv2.fastNlMeansDenoising(np.ascontiguousarray(lit[..., 0]), None, strength, 7, 21)
        return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, axis=2)
    return np.asarray(cv2.fastNlMeansDenoisingColored(lit, None, strength, strength, 7, 21), np.uint8)


def best_classical(dark: BgrImage, truth: BgrImage, exposure: float, sensor: Sensor) -> dict[str, BgrImage]:
    """Each classical method at the strength that is best for this image.

    Gain goes through the strengths until two in a row get worse; the others look around the strength that won there.
    """
    pictures = dict(light_classically(dark, exposure, sensor))
    tried = _smooth_until_worse(pictures["gain"], truth)
    chosen = STRENGTHS.index(max(tried, key=lambda strength: tried[strength][0]))
    best = {"gain": max(tried.values(), key=lambda item: item[0])[1]}
    for name in CLASSICAL[1:]:
        near = [smooth(pictures[name], strength) for strength in STRENGTHS[max(0, chosen - 1) : chosen + 2]]
        best[name] = max(near, key=lambda picture: measure_psnr(picture, truth))
    return best


def _smooth_until_worse(lit: BgrImage, truth: BgrImage) -> dict[float, tuple[float, BgrImage]]:
    tried: dict[float, tuple[float, BgrImage]] = {}
    for strength in STRENGTHS:
        picture = smooth(lit, strength)
        tried[strength] = measure_psnr(picture, truth), picture
        last = [psnr for psnr, _ in tried.values()][-3:]
        if len(last) == 3 and last[0] > last[1] > last[2]:
            break
    return tried


def cut_around(mask: NDArray[np.bool_], side_px: int) -> tuple[slice, slice]:
    """Where to cut so that the middle of a mask is in the middle as far as the frame allows."""
    spans = []
    for axis in (0, 1):
        found = np.flatnonzero(mask.any(axis=1 - axis))
        middle = int(found[0] + found[-1]) // 2 if len(found) else mask.shape[axis] // 2
        start = int(np.clip(middle - side_px // 2, 0, max(0, mask.shape[axis] - side_px)))
        spans.append(slice(start, start + side_px))
    return spans[0], spans[1]


def keep_contrast(picture: BgrImage, truth: BgrImage, mask: NDArray[np.bool_]) -> list[float]:
    """Contrast of a defect to its surroundings as a share of the truth's, and PSNR over the defect in dB."""
    kernel = np.ones((2 * RING_PX + 1, 2 * RING_PX + 1), np.uint8)
    ring = (cv2.dilate(mask.astype(np.uint8), kernel) > 0) & ~mask
    contrasts = [
        float(image[mask].mean() - image[ring].mean())
        for image in (picture.astype(np.float64), truth.astype(np.float64))
    ]
    return [contrasts[0] / contrasts[1] if abs(contrasts[1]) >= 1 else 1.0, measure_psnr(picture, truth, mask)]


def try_image(
    net: LowLightNet, name: str, image: TestImage, golden: BgrImage, side_px: int, seed: int
) -> Iterator[Row]:
    """All exposures and cameras of one image."""
    whole = read_image(image.path)
    whole_mask = read_mask(image, (whole.shape[1], whole.shape[0]))
    window = cut_around(whole_mask, side_px)
    truth, mask = np.ascontiguousarray(whole[window]), whole_mask[window]
    same_view = golden.shape == whole.shape
    for sensor_name, sensor in SENSORS.items():
        for exposure in EXPOSURES:
            dark_whole = darken(whole, exposure, sensor, np.random.default_rng([seed, round(100 * exposure)]))
            dark = np.ascontiguousarray(dark_whole[window])
            matched = match_exposure(dark_whole, golden, same_view=same_view)
            pictures = best_classical(dark, truth, exposure, sensor)
            pictures["ours"] = relight_frame(dark, golden, net, same_view=False, gain=1 / exposure).pixels
            yield Row(
                name,
                image.path.name,
                sensor_name,
                exposure,
                {method: round(measure_psnr(picture, truth), 3) for method, picture in pictures.items()},
                round(matched.gain * exposure - 1, 4),
                matched.response == sensor.response,
                {method: keep_contrast(picture, truth, mask) for method, picture in pictures.items()}
                if mask.any()
                else {},
            )


def try_set(net: LowLightNet, folder: Path, count: int, side_px: int) -> list[Row]:
    """Good test images of a set evenly over their names, then defective ones with masks."""
    images = open_test_set(folder).images
    good = [image for image in images if image.defect is None]
    marked = [image for image in images if image.mask is not None]
    chosen = [*_spread(good, count), *_spread(marked, count)]
    taught = open_good_images(folder / "train" / "good")
    rows: list[Row] = []
    for seed, image in enumerate(chosen):
        golden = taught.read(seed * len(taught) // max(1, len(chosen)))
        rows.extend(try_image(net, folder.name, image, golden, side_px, seed))
    return rows


def _spread(images: list[TestImage], count: int) -> list[TestImage]:
    return [images[index * len(images) // count] for index in range(count)] if len(images) > count else images


def write_table(rows: list[Row]) -> Iterator[str]:
    """Mean PSNR by set, camera and exposure, what ours gains over the best classical method, and the worst image."""
    head = ["data set", "camera", "exposure", *CLASSICAL, "ours", "gain dB", "worst dB", "defect contrast kept"]
    yield f"| {' | '.join(head)} |"
    yield f"{'|---' * len(head)}|"
    keys = dict.fromkeys((row.data_set, row.sensor, row.exposure) for row in rows)
    for key in keys:
        group = [row for row in rows if (row.data_set, row.sensor, row.exposure) == key]
        means = [f"{np.mean([row.psnr_db[name] for row in group]):.2f}" for name in (*CLASSICAL, "ours")]
        gains = [row.gain_db for row in group]
        kept = [row.defect["ours"][0] for row in group if row.defect]
        cells = [key[0], key[1], f"{100 * key[2]:.0f} %", *means, f"{np.mean(gains):.2f}", f"{min(gains):.2f}"]
        yield f"| {' | '.join([*cells, f'{np.median(kept):.2f}' if kept else '–'])} |"
    for name in dict.fromkeys(row.data_set for row in rows):
        gains = [row.gain_db for row in rows if row.data_set == name]
        errors = [abs(row.golden_gain_error) for row in rows if row.data_set == name]
        missed = sum(not row.response_found for row in rows if row.data_set == name)
        yield (
            f"{name}: {np.mean(gains):+.2f} dB on average over {len(gains)} frames, worst {min(gains):+.2f} dB; "
            f"by a good image alone the gain is off by {100 * float(np.median(errors)):.0f} %, "
            f"the response missed {missed} times"
        )


def time_large(net: LowLightNet) -> dict[str, Any]:
    """Seconds for a 4K frame, after one frame that loads everything."""
    random = np.random.default_rng(1)
    golden = cv2.resize(
        random.integers(40, 220, (54, 96, 3), dtype=np.uint8), LARGE_SIZE, interpolation=cv2.INTER_CUBIC
    )
    dark = darken(np.asarray(golden, np.uint8), 0.1, SENSORS["plain"], random)
    relight_frame(np.ascontiguousarray(dark[:256, :256]), np.asarray(golden, np.uint8), net, gain=10.0)
    seconds = []
    for _ in range(3):
        started, cpu = time.monotonic(), time.process_time()
        relight_frame(dark, np.asarray(golden, np.uint8), net, gain=10.0)
        seconds.append((time.monotonic() - started, time.process_time() - cpu))
    wall, cpu_s = min(seconds)
    return {"size": "3840x2160", "seconds": round(wall, 2), "cpu_seconds": round(cpu_s, 2)}


def main() -> None:
    """Print a table for each set, the host, and the time at 4K."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="*", default=["circuitboard", "ball_screw", "aliens", "magnetic_tile"])
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--speed", action="store_true", help="also the seconds for a 4K frame")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    net = open_net(asked.weights) if asked.weights else open_net()
    rows: list[Row] = []
    for name in asked.sets:
        measured = try_set(net, asked.folder / name, asked.images, asked.side)
        sys.stdout.write("\n".join(write_table(measured)) + "\n")
        sys.stdout.flush()
        rows.extend(measured)
    facts = {"large": time_large(net) if asked.speed else None, "host": describe_host()}
    sys.stdout.write(json.dumps(facts) + "\n")
    if asked.out:
        asked.out.write_text(json.dumps({"rows": [asdict(row) for row in rows], **facts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
