"""Light and camera of one sample: drawn once for a part, varied a little from picture to picture.

Shading happens in linear light, from a height map: Lambert with a cast shadow and ambient occlusion for what is
dull, a lookup by surface normal ("lit sphere", Sloan et al. 2001) for metal and gloss. The camera then blurs,
exposes, adds shot and read noise, sharpens and compresses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from inspector.scenes.light import F32, U8
from inspector.scenes.relief import grain_noise
from inspector.scenes.samples.workpiece import Surface

_SPHERE_PX = 128
_CURVE_STEPS = 4096
_CURVE_END = 4.0


@dataclass(frozen=True, slots=True)
class Lamp:
    """A lamp: unit direction towards it (x right, y down, z to the camera), half width in radians, strength."""

    direction: tuple[float, float, float]
    wide: float
    strength: float


@dataclass(frozen=True, slots=True)
class Rig:
    """The light of a station. The first lamp casts shadows; `view_tilt` is how much mirrors see change over a frame."""

    lamps: tuple[Lamp, ...]
    dome: float
    key_bgr: tuple[float, float, float]
    dome_bgr: tuple[float, float, float]
    room: float
    view_tilt: float
    softness: float


@dataclass(frozen=True, slots=True)
class Camera:
    """The camera of a station; sigmas in pixels, noise as a share of full scale.

    `focus_tilt` is how far (x, y) the plane of focus leans, `spot` a bright place: x, y, radius in half pictures, gain.
    """

    exposure: float
    gamma: float
    shoulder: float
    black: float
    blur_px: float
    focus_depth: float
    fringe: float
    sharpen: float
    noise: float
    noise_grain: float
    vignette: float
    tilt: tuple[float, float]
    jpeg: int
    grey: bool
    focus_tilt: tuple[float, float]
    spot: tuple[float, float, float, float]


def _direction(azimuth: float, elevation: float) -> tuple[float, float, float]:
    flat = np.cos(elevation)
    return float(flat * np.cos(azimuth)), float(flat * np.sin(azimuth)), float(np.sin(elevation))


def draw_rig(dice: np.random.Generator) -> Rig:
    """Any station's light: ring, bar, dome, low angle."""
    azimuth = dice.uniform(0, 2 * np.pi)
    look = dice.random()
    low = look < 0.2
    elevation = dice.uniform(0.25, 0.6) if low else dice.uniform(0.7, 1.45)
    lamps = [Lamp(_direction(azimuth, elevation), dice.uniform(0.12, 0.5), dice.uniform(0.7, 1.6))]
    if look > 0.8:
        count = int(dice.integers(6, 13))
        tall = dice.uniform(0.6, 1.3)
        lamps += [Lamp(_direction(azimuth + 2 * np.pi * i / count, tall), 0.12, 1.2 / count) for i in range(1, count)]
    else:
        for _ in range(int(dice.integers(0, 3))):
            turn = azimuth + dice.uniform(1.0, 5.0)
            lamps.append(Lamp(_direction(turn, dice.uniform(0.4, 1.3)), dice.uniform(0.1, 0.4), dice.uniform(0.2, 0.8)))
    warm = dice.normal(0, 0.06)
    other = dice.normal(0, 0.06)
    return Rig(
        tuple(lamps),
        dome=float(dice.uniform(0.15, 0.4) if low else dice.uniform(0.2, 0.9)),
        key_bgr=(1.0 - warm, 1.0, 1.0 + warm),
        dome_bgr=(1.0 - other, 1.0, 1.0 + other),
        room=float(dice.uniform(0.05, 0.45)),
        view_tilt=float(dice.uniform(0.0, 0.55)),
        softness=float(dice.uniform(0.05, 0.6)),
    )


def vary_rig(rig: Rig, dice: np.random.Generator, strength: float) -> Rig:
    """The same station at another moment."""
    turn = strength * dice.normal(0, 0.05)
    tip = strength * dice.normal(0, 0.03)
    fade = strength * dice.normal(0, 0.06, len(rig.lamps))
    warm = strength * dice.normal(0, 0.015)
    lamps = []
    for lamp, change in zip(rig.lamps, fade, strict=True):
        x, y, z = lamp.direction
        azimuth, elevation = np.arctan2(y, x) + turn, np.arcsin(np.clip(z, -1, 1)) + tip
        lamps.append(replace(lamp, direction=_direction(azimuth, elevation), strength=lamp.strength * (1.0 + change)))
    blue, green, red = rig.key_bgr
    return replace(
        rig,
        lamps=tuple(lamps),
        key_bgr=(blue * (1.0 - warm), green, red * (1.0 + warm)),
        dome=rig.dome * float(np.exp(strength * dice.normal(0, 0.08))),
    )


def draw_camera(dice: np.random.Generator) -> Camera:
    """Any station's camera, its exposure still to be metered."""
    return Camera(
        exposure=1.0,
        gamma=float(dice.uniform(1.7, 2.4)),
        shoulder=float(dice.uniform(0.8, 2.2)),
        black=float(max(0.0, dice.normal(0.0, 0.02))),
        blur_px=float(np.exp(dice.uniform(np.log(0.3), np.log(1.1)))),
        focus_depth=float(dice.uniform(0.0, 1.0) ** 3),
        fringe=float(max(0.0, dice.normal(0.0, 0.0008))),
        sharpen=float(max(0.0, dice.normal(0.4, 0.5))),
        noise=float(0.0025 * np.exp(dice.uniform(0, 2.2))),
        noise_grain=float(dice.uniform(0.0, 0.8)),
        vignette=float(abs(dice.normal(0, 0.12))),
        tilt=(float(dice.normal(0, 0.08)), float(dice.normal(0, 0.08))),
        jpeg=int(dice.choice([0, int(dice.integers(70, 98))])),
        grey=bool(dice.random() < 0.15),
        focus_tilt=_draw_focus_tilt(dice),
        spot=_draw_spot(dice),
    )


def _draw_focus_tilt(dice: np.random.Generator) -> tuple[float, float]:
    """Mostly flat; close up, one side may be well out of focus."""
    if dice.random() < 0.7:
        return 0.0, 0.0
    return float(dice.normal(0, 0.5)), float(dice.normal(0, 0.5))


def _draw_spot(dice: np.random.Generator) -> tuple[float, float, float, float]:
    """Mostly without effect; else a lamp's image that may burn out."""
    x, y = (float(value) for value in dice.uniform(-1.1, 1.1, 2))
    gain = 0.0 if dice.random() < 0.75 else float(dice.uniform(0.3, 2.5))
    return x, y, float(dice.uniform(0.2, 0.9)), gain


def vary_camera(camera: Camera, dice: np.random.Generator, strength: float) -> Camera:
    """The same camera at another moment: exposure, focus, noise."""
    shift = strength * dice.normal(0, 0.03, 2)
    return replace(
        camera,
        exposure=camera.exposure * float(np.exp(strength * dice.normal(0, 0.07))),
        blur_px=float(max(0.3, camera.blur_px * np.exp(strength * dice.normal(0, 0.12)))),
        noise=camera.noise * float(np.exp(strength * dice.normal(0, 0.2))),
        spot=(camera.spot[0] + float(shift[0]), camera.spot[1] + float(shift[1]), *camera.spot[2:]),
        tilt=(camera.tilt[0] + float(shift[0]), camera.tilt[1] + float(shift[1])),
    )


def _lit_sphere(rig: Rig) -> tuple[F32, F32, F32]:
    """What mirrors of three roughnesses see, (128, 128) each, by normal x and y."""
    axis = np.linspace(-1.0, 1.0, _SPHERE_PX, dtype=np.float32)
    nx, ny = np.meshgrid(axis, axis)
    nz = np.sqrt(np.maximum(0.0, 1.0 - nx * nx - ny * ny))
    rx, ry, rz = 2 * nz * nx, 2 * nz * ny, 2 * nz * nz - 1
    grey = np.float32(rig.room) * (0.35 + 0.65 * np.clip(0.5 + 0.5 * rz, 0, 1)) + np.float32(0.25 * rig.dome) * np.clip(
        rz, 0, 1
    )
    for lamp in rig.lamps:
        x, y, z = lamp.direction
        away = 2.0 - 2.0 * (rx * x + ry * y + rz * z)
        edge = np.clip((lamp.wide * lamp.wide - away) / (0.35 * lamp.wide**2) + 0.5, 0, 1)
        grey = grey + np.float32(2.2 * lamp.strength) * (0.6 * edge + 0.5 * np.exp(-away / (2 * lamp.wide**2)))
    grey *= np.clip((rz + 0.45) / 0.5, 0.15, 1.0)
    return (
        np.asarray(cv2.GaussianBlur(grey, (0, 0), 1.0), np.float32),
        np.asarray(cv2.GaussianBlur(grey, (0, 0), 7.0), np.float32),
        np.asarray(cv2.GaussianBlur(grey, (0, 0), 20.0), np.float32),
    )


def _lit_by(height: F32, lamp: Lamp, softness: float) -> F32:
    """Share of the first lamp that reaches each point, marched at half the resolution."""
    tallest = float(height.max() - height.min())
    if tallest < 1.5:
        return np.ones_like(height)
    rows, columns = height.shape
    size = (max(1, columns // 2), max(1, rows // 2))
    ground = cv2.resize(height, size, interpolation=cv2.INTER_AREA)
    x, y, z = lamp.direction
    run = np.array([x, y]) / max(0.3, z) / 2.0
    steps = int(np.clip(tallest * float(np.hypot(*run)), 4, 14))
    lit = np.ones_like(ground)
    for rise in np.linspace(tallest / steps, tallest, steps):
        move = np.array([[1.0, 0.0, -run[0] * rise], [0.0, 1.0, -run[1] * rise]])
        blocker = cv2.warpAffine(ground, move, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        lit = np.minimum(lit, np.clip(1.0 - (blocker - ground - rise) / (1.0 + softness * rise), 0.0, 1.0))
    lit = cv2.GaussianBlur(lit, (0, 0), 0.8 + softness)
    return np.asarray(cv2.resize(lit, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)


def _sky_over(height: F32) -> F32:
    """Ambient occlusion: what stands higher all around hides the sky."""
    small = cv2.resize(height, (height.shape[1] // 2, height.shape[0] // 2), interpolation=cv2.INTER_AREA)
    hidden = np.zeros_like(small)
    for sigma in (2.0, 7.0):
        hidden += np.clip(cv2.GaussianBlur(small, (0, 0), sigma) - small, 0, None) / (4.0 * sigma)
    sky = 1.0 / (1.0 + 1.6 * hidden)
    return np.asarray(cv2.resize(sky, (height.shape[1], height.shape[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def shade(surface: Surface, rig: Rig) -> F32:
    """Linear light (H, W, 3) that leaves the surface towards the camera."""
    height = cv2.GaussianBlur(surface.height, (0, 0), 0.4)
    dx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125, borderType=cv2.BORDER_REPLICATE)
    dy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125, borderType=cv2.BORDER_REPLICATE)
    up = 1.0 / np.sqrt(1.0 + dx * dx + dy * dy)
    nx, ny = np.asarray(-dx * up, np.float32), np.asarray(-dy * up, np.float32)
    lit, sky = _lit_by(surface.height, rig.lamps[0], rig.softness), _sky_over(surface.height)
    key = np.zeros_like(up)
    for number, lamp in enumerate(rig.lamps):
        x, y, z = lamp.direction
        strength = np.float32(lamp.strength)
        part = np.maximum(nx * np.float32(x) + ny * np.float32(y) + up * np.float32(z), 0.0) * strength
        key += part * lit if number == 0 else part * (0.5 + 0.5 * lit)
    dome = sky * (0.5 + 0.5 * up) * np.float32(rig.dome)
    mirrored = _mirrored(surface, rig, nx, ny) * (0.3 + 0.7 * lit * sky)
    dull = 1.0 - surface.metal
    coat = mirrored * dull * surface.gloss * (0.04 + 0.35 * (1.0 - up) ** 3)
    seen = np.empty_like(surface.albedo)
    for channel in range(3):
        tint_key, tint_dome = np.float32(rig.key_bgr[channel]), np.float32(rig.dome_bgr[channel])
        light = dull * (key * tint_key + dome * tint_dome) + surface.metal * mirrored * tint_key
        seen[..., channel] = surface.albedo[..., channel] * light + coat * tint_key
    return seen


def _mirrored(surface: Surface, rig: Rig, nx: F32, ny: F32) -> F32:
    rows, columns = surface.height.shape
    scale = np.float32(_SPHERE_PX / 2.0 - 1.0)
    tilt = np.float32(rig.view_tilt / 2.0)
    over_x = np.linspace(-tilt, tilt, columns, dtype=np.float32)[None, :]
    over_y = np.linspace(-tilt, tilt, rows, dtype=np.float32)[:, None]
    at_x, at_y = (nx + over_x) * scale + scale, (ny + over_y) * scale + scale
    sharp, middle, wide = (
        cv2.remap(sphere, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for sphere in _lit_sphere(rig)
    )
    polish = surface.gloss
    clear = np.clip(2.0 * polish - 1.0, 0.0, 1.0)
    rough = np.clip(1.0 - 2.0 * polish, 0.0, 1.0)
    return np.asarray(clear * sharp + rough * wide + (1.0 - clear - rough) * middle, np.float32)


def develop(light: F32, height: F32, camera: Camera, dice: np.random.Generator) -> U8:
    """The picture (H, W, 3) uint8 BGR of linear light."""
    side = light.shape[0]
    seen = np.asarray(cv2.GaussianBlur(light, (0, 0), camera.blur_px), np.float32)
    if camera.focus_depth > 0.15:
        depth = np.clip(np.abs(height - np.float32(np.median(height))) / (0.12 * side), 0, 1) * camera.focus_depth
        far = cv2.GaussianBlur(light, (0, 0), camera.blur_px + 2.0)
        seen += depth[..., None] * (far - seen)
    axis = np.linspace(-1.0, 1.0, side, dtype=np.float32)
    x, y = axis[None, :], axis[:, None]
    if any(camera.focus_tilt):
        away = np.clip(np.abs(camera.focus_tilt[0] * x + camera.focus_tilt[1] * y) - 0.15, 0, 1)
        seen += away[..., None] * (cv2.GaussianBlur(seen, (0, 0), 3.0) - seen)
    if camera.fringe > 2e-4:
        for channel, sign in ((0, -1.0), (2, 1.0)):
            grow = 1.0 + sign * camera.fringe
            matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), 0.0, grow)
            plane = cv2.warpAffine(
                np.ascontiguousarray(seen[..., channel]), matrix, (side, side), borderMode=cv2.BORDER_REPLICATE
            )
            seen[..., channel] = plane
    leaning = (1.0 + camera.tilt[0] * x) * (1.0 + camera.tilt[1] * y)
    gain = (1.0 - camera.vignette * (x * x + y * y) / 2) * leaning
    if camera.spot[3]:
        across = ((x - camera.spot[0]) ** 2 + (y - camera.spot[1]) ** 2) / (2 * camera.spot[2] ** 2)
        gain = gain * (1.0 + camera.spot[3] * np.exp(-across))
    seen *= (gain * np.float32(camera.exposure))[..., None]
    if camera.grey:
        grey = cv2.transform(seen, np.array([[0.15, 0.6, 0.25]], np.float32))
        seen = np.asarray(cv2.merge([grey] * 3), np.float32)
    seen = np.asarray(np.maximum(seen, 0.0), np.float32)
    noisy = seen + _noise(seen, camera, dice)
    curve = _tone_curve(camera)
    steps = np.clip(noisy * np.float32(_CURVE_STEPS / _CURVE_END), 0, _CURVE_STEPS - 1).astype(np.uint16)
    toned = curve[steps]
    if camera.sharpen > 0.05:
        toned = toned + np.float32(camera.sharpen) * (toned - cv2.GaussianBlur(toned, (0, 0), 1.2))
    picture = np.clip(toned + 0.5, 0, 255).astype(np.uint8)
    if camera.jpeg:
        _, packed = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, camera.jpeg])
        picture = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(picture, np.uint8)


def _noise(light: F32, camera: Camera, dice: np.random.Generator) -> F32:
    """Shot and read noise; demosaicing correlates neighbours."""
    planes = 1 if camera.grey else 3
    white = dice.standard_normal((*light.shape[:2], planes), np.float32)
    if camera.noise_grain > 0.2:
        soft = cv2.GaussianBlur(white, (0, 0), camera.noise_grain).reshape(white.shape)
        white = np.asarray(soft, np.float32)
        white *= np.float32(1.0 + 2.2 * camera.noise_grain**2)
    level = np.float32(camera.noise) * np.sqrt(np.minimum(light, 2.0) + np.float32(0.05))
    return np.asarray(white * level, np.float32)


def _tone_curve(camera: Camera) -> F32:
    value = np.linspace(0.0, _CURVE_END, _CURVE_STEPS, dtype=np.float32)
    rolled = (1.0 - np.exp(-camera.shoulder * value)) / (1.0 - np.exp(-np.float32(camera.shoulder)))
    toned = np.minimum(rolled, 1.0) ** np.float32(1.0 / camera.gamma)
    return np.asarray(255.0 * (camera.black + (1.0 - camera.black) * toned), np.float32)


def bend(light: F32, height: F32, dice: np.random.Generator, pliable_px: float, pose: F32) -> tuple[F32, F32]:
    """The picture of a piece that is bent smoothly by up to about `pliable_px` and seen under `pose` (2, 3)."""
    rows, columns = height.shape
    ys, xs = np.mgrid[0:rows, 0:columns].astype(np.float32)
    at_x = pose[0, 0] * xs + pose[0, 1] * ys + pose[0, 2]
    at_y = pose[1, 0] * xs + pose[1, 1] * ys + pose[1, 2]
    if pliable_px > 0:
        at_x += np.float32(pliable_px) * grain_noise((rows, columns), dice, columns / 4)
        at_y += np.float32(pliable_px) * grain_noise((rows, columns), dice, columns / 4)
    at_x, at_y = np.asarray(at_x, np.float32), np.asarray(at_y, np.float32)
    moved = cv2.remap(light, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    tall = cv2.remap(height, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, np.float32), np.asarray(tall, np.float32)
