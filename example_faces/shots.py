"""What differs between two pictures of a person: pose, expression, gaze, light, glasses, background, sensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from torch_utils.streams import stream


@dataclass(frozen=True)
class Glasses:
    """A pair of glasses, in decimetres; `colour` is the frame's reflectance in R, G, B and NIR."""

    half_width: float
    half_height: float
    roundness: float  # 0 square lenses, 1 round ones
    rim: float
    colour: tuple[float, float, float, float]


@dataclass(frozen=True)
class Shot:
    """One sitting before the camera. Angles in radians, lengths relative to the picture's side unless said."""

    yaw: float
    pitch: float
    roll: float
    smile: float  # -0.4 a frown ... 1 a broad smile
    mouth_open: float  # 0 ... 1
    brow_raise: float  # -1 ... 1
    lid_open: float  # 0 closed, 1 at ease, 1.3 wide
    gaze_x: float  # radians off the camera
    gaze_y: float
    light: tuple[float, float, float]  # unit vector towards the room's main lamp, camera frame
    light_strength: float
    light_colour: tuple[float, float, float]
    ambient: float
    ambient_colour: tuple[float, float, float]
    exposure: float
    nir_lamp: tuple[float, float]  # offset of the NIR lamp from the lens, in units of its distance
    nir_strength: float
    glasses: Glasses | None
    background: tuple[float, float, float, float]  # reflectance in R, G, B and NIR
    background_tilt: tuple[float, float]
    clothes: tuple[float, float, float, float]
    shift: tuple[float, float]
    zoom: float
    blur: float  # standard deviation, share of the picture's side
    noise: float  # standard deviation of a grey value in [0, 1]
    sensor_seed: int


def sample_shot(seed: int, identity: int, sample: int) -> Shot:
    """Draws picture number `sample` of person `identity`; independent of who the person is."""
    rng = stream(seed, "example_faces.shot", identity, sample)
    colour_cast = rng.normal(0.0, 0.035)  # warm (+) or cool (-) after white balance
    azimuth = rng.normal(0.0, 0.55)
    elevation = np.clip(rng.normal(0.45, 0.30), -0.25, 1.1)
    smiles = rng.random() < 0.45
    opens = rng.random() < 0.25
    grey = rng.uniform(0.03, 0.75)
    return Shot(
        yaw=float(np.clip(rng.normal(0.0, 0.19), -0.55, 0.55)),
        pitch=float(np.clip(rng.normal(0.0, 0.10), -0.30, 0.30)),
        roll=float(np.clip(rng.normal(0.0, 0.035), -0.12, 0.12)),
        smile=float(rng.uniform(0.3, 1.0) if smiles else rng.uniform(-0.3, 0.25)),
        mouth_open=float(rng.uniform(0.1, 1.0) if opens else 0.0),
        brow_raise=float(np.clip(rng.normal(0.0, 0.35), -1.0, 1.0)),
        lid_open=float(np.clip(rng.normal(1.0, 0.12), 0.6, 1.25)),
        gaze_x=float(rng.normal(0.0, 0.10)),
        gaze_y=float(rng.normal(0.0, 0.05)),
        light=_direction(azimuth, float(elevation)),
        light_strength=float(rng.uniform(0.55, 1.0)),
        light_colour=(1.0 + colour_cast, 1.0, 1.0 - 1.3 * colour_cast),
        ambient=float(rng.uniform(0.32, 0.60)),
        ambient_colour=_tinted(rng, 1.0, 0.03)[:3],
        exposure=float(np.exp(rng.normal(0.0, 0.10))),
        nir_lamp=(float(rng.normal(0.0, 0.08)), float(rng.normal(0.06, 0.06))),
        nir_strength=float(np.exp(rng.normal(0.0, 0.07))),
        glasses=_sample_glasses(rng) if rng.random() < 0.12 else None,
        background=_tinted(rng, grey, 0.12 * grey),
        background_tilt=(float(rng.normal(0.0, 0.25)), float(rng.normal(0.0, 0.25))),
        clothes=_tinted(rng, float(rng.uniform(0.04, 0.6)), 0.08),
        shift=(float(rng.normal(0.0, 0.010)), float(rng.normal(0.0, 0.010))),
        zoom=float(np.exp(rng.normal(0.0, 0.022))),
        blur=float(rng.uniform(0.0020, 0.0065)),
        noise=float(rng.uniform(0.003, 0.012)),
        sensor_seed=int(rng.integers(2**31)),
    )


def _direction(azimuth: float, elevation: float) -> tuple[float, float, float]:
    x, y = np.sin(azimuth) * np.cos(elevation), np.sin(elevation)
    return float(x), float(y), float(np.cos(azimuth) * np.cos(elevation))


def _tinted(rng: np.random.Generator, grey: float, spread: float) -> tuple[float, float, float, float]:
    """A grey with a tint; the NIR value wanders off furthest, as dyes do not matter there."""
    r, g, b, n = np.clip(grey + spread * rng.normal(size=4) * (1.0, 1.0, 1.0, 2.0), 0.02, 1.2)
    return float(r), float(g), float(b), float(n)


def _sample_glasses(rng: np.random.Generator) -> Glasses:
    half_width = float(rng.uniform(0.21, 0.27))
    grey = float(rng.uniform(0.02, 0.35))
    return Glasses(
        half_width=half_width,
        half_height=half_width * float(rng.uniform(0.62, 0.95)),
        roundness=float(rng.uniform(0.3, 1.0)),
        rim=float(rng.uniform(0.010, 0.026)),
        colour=_tinted(rng, grey, 0.25 * grey),
    )
