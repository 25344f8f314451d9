"""Light and air: the sky, and what the camera makes of the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from attrs import frozen

from awml_yolox.example.solids import Colour

if TYPE_CHECKING:
    from awml_yolox.example.camera import Camera

Image = np.ndarray[Any, np.dtype[np.uint8]]
Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]


@frozen(kw_only=True)
class Light:
    """What makes things bright.

    Args:
        sky: Strength of the light from everywhere.
        sun: Strength of the light from the sun.
        sight: Metres after which the haze has swallowed two thirds of a colour.
        haze: The colour of the air.
        zenith: The colour of the sky overhead.
        cast: Strength of blue, green and red.
        lamps: Lamps and windows shine.
    """

    sky: float
    sun: float
    sight: float
    haze: Colour
    zenith: Colour
    cast: Colour = (1, 1, 1)
    lamps: bool = False


LIGHTS = {
    "sun": Light(sky=0.58, sun=0.66, sight=260, haze=(228, 214, 198), zenith=(212, 150, 86), cast=(0.94, 1, 1.05)),
    "cloud": Light(sky=0.92, sun=0.12, sight=170, haze=(208, 204, 200), zenith=(178, 170, 164)),
    "haze": Light(sky=0.95, sun=0.05, sight=55, haze=(205, 205, 203), zenith=(196, 194, 192)),
    "dusk": Light(
        sky=0.5, sun=0.0, sight=150, haze=(112, 92, 98), zenith=(84, 46, 34), cast=(1.2, 1, 0.92), lamps=True
    ),
    "rain": Light(
        sky=0.68, sun=0.0, sight=85, haze=(158, 154, 150), zenith=(132, 126, 122), cast=(1.05, 1, 0.97), lamps=True
    ),
}


def sky(camera: Camera, weather: str, seed: int) -> Image:
    """The sky above the horizon, with clouds and a distant skyline."""
    rng = np.random.default_rng([seed, 3])
    light = LIGHTS[weather]
    width, height = camera.size
    horizon = height / 2 + camera.focal * camera.turn[2, 2] / max(-camera.turn[1, 2], 1e-6)
    up = np.clip((horizon - np.arange(height)) / (0.5 * height), 0, 1)[:, None, None]
    picture = np.array(light.haze) * (1 - up**0.7) + np.array(light.zenith) * up**0.7
    picture = np.repeat(picture, width, 1)
    knots = rng.normal(0, 1, (7, 9)).astype(np.float32)
    fine = rng.normal(0, 1, (22, 28)).astype(np.float32)
    broad, small = (cv2.resize(each, (width, height), interpolation=cv2.INTER_CUBIC) for each in (knots, fine))
    clouds = broad + 0.4 * small
    cover = np.clip(clouds * 0.5 + {"sun": -0.1, "cloud": 0.25}.get(weather, 0.1), 0, 0.8)[..., None]
    bright = np.minimum(np.array(light.haze) * (1.12 if weather == "sun" else 0.93), 255)
    picture = picture * (1 - cover * up**0.3) + bright * cover * up**0.3
    return _skyline(picture, horizon, light, rng)


def _skyline(picture: Floats, horizon: float, light: Light, rng: np.random.Generator) -> Image:
    image = np.clip(picture, 0, 255).astype(np.uint8)
    x = 0
    while x < image.shape[1]:
        wide, tall = int(rng.integers(14, 50)), int(rng.integers(6, 34))
        share = rng.uniform(0.7, 0.9)
        colour = tuple(share * value for value in light.haze)
        cv2.rectangle(image, (x, int(horizon) - tall), (x + wide, int(horizon) + 2), colour, -1)
        x += wide
    return image


def develop(image: Image, glow: Image, weather: str, seed: int) -> Image:
    """Lens, sensor and rain."""
    rng = np.random.default_rng([seed, 4])
    picture: Floats = image.astype(np.float32)
    if LIGHTS[weather].lamps and glow.any():
        shine = np.where(glow[..., None] > 0, picture, 0).astype(np.float32)
        picture += (0.9 if weather == "dusk" else 0.4) * cv2.GaussianBlur(shine, (0, 0), 5)
    if weather == "rain":
        picture = _rain(picture, rng)
    picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.35, 0.85))), np.float32)
    height, width = picture.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    picture *= (1 - rng.uniform(0.02, 0.14) * (x * x + y * y)).astype(np.float32)[..., None]
    picture = (picture - 127) * np.float32(rng.uniform(0.88, 1.12)) + np.float32(127 + rng.uniform(-14, 14))
    picture *= rng.uniform(0.95, 1.05, 3).astype(np.float32)
    noise = rng.normal(0, rng.uniform(1.5, 7 if weather == "dusk" else 4.5), (height, width)).astype(np.float32)
    tinted = rng.normal(0, 1.2, (height, width, 3)).astype(np.float32)
    return np.asarray(np.clip(picture + noise[..., None] + tinted, 0, 255), np.uint8)


def _rain(picture: Floats, rng: np.random.Generator) -> Floats:
    height, width = picture.shape[:2]
    streaks = np.zeros((height, width), np.uint8)
    slant = rng.normal(0, 3)
    for x, y, length in rng.uniform((0, -10, 5), (width, height, 16), (int(rng.integers(80, 260)), 3)):
        cv2.line(
            streaks,
            (int(x), int(y)),
            (int(x + slant * length / 12), int(y + length)),
            int(rng.integers(30, 90)),
            1,
            cv2.LINE_AA,
        )
    return picture + cv2.GaussianBlur(streaks, (0, 0), 0.5).astype(np.float32)[..., None]
