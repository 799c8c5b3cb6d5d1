"""Eyes: lids around a sphere with sclera, iris and pupil, and the reflection of the lamps on the cornea."""

from __future__ import annotations

import numpy as np

from example_faces.anatomy import Person
from example_faces.camera import Camera
from example_faces.canvas import Canvas, Window, as_band, cut, edge, window_of
from example_faces.head import layout
from example_faces.sampling import Array, smoothstep
from example_faces.shots import Shot
from example_faces.spectra import hair_reflectance, iris_reflectance

_EYEBALL = 0.125  # radius
_IRIS = 0.062
_PUPIL = 0.027
_SCLERA = (0.66, 0.61, 0.57, 0.62)


def paint_eyes(person: Person, shot: Shot, camera: Camera, canvas: Canvas, x: Array, y: Array, skin: Array) -> None:
    """Paints both eyes into the albedo `skin` [4, S, S] and the canvas; x, y: base coordinates of the samples."""
    at = layout(person)
    for side in (-1.0, 1.0):
        near = (np.abs(x * side - at.eye_x) < 0.30) & (np.abs(y - at.eye_y) < 0.24)
        window = window_of(near)
        if window is not None:
            local = _Local(person, shot, side, x[window], y[window])
            coverage = local.opening(camera.pixel)
            _paint_lids(person, local, cut(skin, window), canvas.open_air[window], camera.pixel)
            _paint_ball(person, shot, camera, local, coverage, cut(skin, window), canvas, window)


class _Local:
    """Coordinates of one eye: `out` towards the temple, `up` across the lids, both from the middle of the eye."""

    def __init__(self, person: Person, shot: Shot, side: float, x: Array, y: Array) -> None:
        at = layout(person)
        cos, sin = np.float32(np.cos(person.eye_tilt)), np.float32(np.sin(person.eye_tilt))
        dx, dy = x * side - at.eye_x, y - at.eye_y
        self.side = side
        self.out, self.up = cos * dx + sin * dy, cos * dy - sin * dx
        self.across = self.out * (1.0 / person.eye_width)  # -1 inner corner, 1 outer corner
        inside = np.clip(1.0 - self.across**2, 0.0, 1.0)
        open_ = shot.lid_open * (1.0 - 0.25 * max(shot.smile, 0.0))
        self.upper = person.eye_opening * open_ * 1.15 * inside**0.72 * (1.0 - 0.18 * self.across)
        self.lower = -0.62 * person.eye_opening * (0.6 + 0.4 * shot.lid_open) * inside**0.8 * (1.0 + 0.15 * self.across)

    def opening(self, pixel: float) -> Array:
        """Coverage of the opening between the lids."""
        inside = np.abs(self.across) < 1.0
        return edge(self.upper - self.up, pixel) * edge(self.up - self.lower, pixel) * inside


def _paint_lids(person: Person, eye: _Local, skin: Array, air: Array, pixel: float) -> None:
    """Lashes, the crease of the upper lid and the furrow under the lower one."""
    thin = max(0.011, 0.55 * pixel)
    reach = smoothstep(1.18, 0.95, np.abs(eye.across - 0.04))
    upper = np.exp(-(((eye.up - eye.upper - 0.004) * (1.0 / thin)) ** 2)) * reach * (0.75 + 0.2 * eye.across)
    lower = np.exp(-(((eye.up - eye.lower + 0.003) * (1.0 / thin)) ** 2)) * reach * 0.28
    lash = as_band(hair_reflectance(max(person.hair_eumelanin, 0.55), person.hair_pheomelanin)) * 0.5
    skin += (lash - skin) * np.clip(np.maximum(upper, lower), 0.0, 0.9)
    crease_y = eye.upper + 0.016 + 0.034 * person.lid_fold * np.clip(1.0 - 0.5 * eye.across**2, 0.0, 1.0)
    crease = np.exp(-(((eye.up - crease_y) * (1.0 / 0.014)) ** 2)) * smoothstep(1.25, 0.8, np.abs(eye.across))
    air *= 1.0 - (0.12 + 0.34 * person.lid_fold) * crease
    bag = np.exp(-(((eye.up - eye.lower + 0.055) * (1.0 / 0.022)) ** 2)) * smoothstep(1.2, 0.6, np.abs(eye.across))
    air *= 1.0 - (0.06 + 0.14 * person.age) * bag


def _paint_ball(
    person: Person,
    shot: Shot,
    camera: Camera,
    eye: _Local,
    coverage: Array,
    skin: Array,
    canvas: Canvas,
    window: Window,
) -> None:
    """Sclera, iris, pupil and the lamps' reflections inside the lids."""
    # The eyes look at the camera, but for the shot's gaze; the camera lies at R^T (0, 0, 1) in the head frame.
    gaze_x = 0.85 * camera.rotation[2, 0] + np.sin(shot.gaze_x)
    gaze_y = 0.85 * camera.rotation[2, 1] + np.sin(shot.gaze_y)
    gx = float(np.clip(_EYEBALL * gaze_x * eye.side, -0.06, 0.06))
    gy = float(np.clip(_EYEBALL * gaze_y, -0.02, 0.02)) + 0.006
    dx, dy = eye.out - gx, eye.up - gy
    distance = np.sqrt(dx * dx + dy * dy)
    soft = max(0.006, 0.8 * camera.pixel)

    ball = np.empty_like(skin)
    pink = 0.10 * smoothstep(0.55, 1.0, np.abs(eye.across))
    ball[:] = as_band(_SCLERA) * (1.0 - pink * as_band((0.3, 1.6, 1.6, 0.3)))
    angle = np.arctan2(dy, dx)
    phase = person.map_seed % 63 * 0.1
    fibres = 1.0 + 0.14 * np.sin(23.0 * angle + phase) + 0.10 * np.sin(41.0 * angle + 2.0 * phase)
    ring = 0.70 + 0.40 * np.exp(-(((distance - 0.034) * (1.0 / 0.013)) ** 2))
    limbus = 1.0 - 0.55 * smoothstep(0.045, _IRIS, distance)
    iris = as_band(iris_reflectance(person.iris_melanin)) * (fibres * ring * limbus)
    ball += (iris - ball) * smoothstep(_IRIS + soft, _IRIS - soft, distance)
    ball += (0.012 - ball) * smoothstep(_PUPIL + soft, _PUPIL - soft, distance)
    skin += (ball - skin) * coverage

    # The lids shade the ball; the ball is a sphere of its own.
    shade = 1.0 - 0.50 * np.exp((eye.up - eye.upper) * (1.0 / 0.028)) - 0.10 * np.abs(eye.across)
    air = canvas.open_air[window]
    air += (np.clip(shade, 0.3, 1.0) - air) * coverage
    nx, ny = eye.out * (eye.side / _EYEBALL), eye.up * (1.0 / _EYEBALL)
    nz = np.sqrt(np.clip(1.0 - nx * nx - ny * ny, 0.05, 1.0))
    normal = cut(canvas.normal, window)
    normal += (camera.turn(nx, ny, nz) - normal) * (0.85 * coverage)
    gloss = canvas.gloss[window]
    gloss += (0.15 - gloss) * coverage

    # Reflections on the cornea: half-way between the lamp and the camera, on a smaller sphere.
    lamps = (shot.light[:2], shot.nir_lamp)
    for bands, (lx, ly) in zip((slice(0, 3), slice(3, 4)), lamps, strict=True):
        spot_x, spot_y = gx + 0.045 * lx * eye.side, gy + 0.045 * ly
        spot = (eye.out - spot_x) ** 2 + (eye.up - spot_y) ** 2
        glint = 1.6 * coverage * np.exp(-spot * (1.0 / (2.0 * 0.0095**2)))
        skin[bands] += glint
