"""Skin of the face with its marks: melanin and blood by place, lips, brows, beard, nostrils."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from example_faces.anatomy import Person
from example_faces.camera import Camera
from example_faces.canvas import Canvas, as_band, cut, edge, window_of
from example_faces.head import layout, mouth_edges, mouth_width
from example_faces.sampling import Array, bump, lerp, noise, smoothstep
from example_faces.shots import Shot
from example_faces.spectra import hair_reflectance, skin_reflectance
from torch_utils.streams import stream

# ----------------------------------------------------------------------------
# The personal map, in base coordinates x in [-1, 1], y in [-1.3, 1.3].

_MAP_HALF_HEIGHT = 1.3
_MAP_SIZE = 224


@lru_cache(maxsize=8)
def personal_map(person: Person) -> tuple[Array, Array]:
    """Factors on the melanin and the blood of the skin by place, two textures [224, 224]: moles, freckles, mottling."""
    axis = np.linspace(-1.0, 1.0, _MAP_SIZE, dtype=np.float32)
    x, y = np.meshgrid(axis, axis * np.float32(_MAP_HALF_HEIGHT))
    at, side = layout(person), np.abs(x)
    melanin = 1.0 + 0.07 * noise(x * 7.0, y * 7.0, person.map_seed) + 0.05 * noise(x * 31.0, y * 31.0, person.map_seed)
    blood = 1.0 + 0.10 * noise(x * 9.0, y * 9.0, person.map_seed >> 3)
    blood += 0.06 * noise(x * 45.0, y * 45.0, person.map_seed >> 3)
    blood += 0.55 * bump(side, y, 0.42, at.nose_y + 0.02, 0.15, 0.15)  # cheeks
    blood += 0.50 * bump(side, y, 0.0, at.nose_y + 0.08, 0.13, 0.09)  # tip of the nose
    blood += 0.25 * bump(side, y, 0.0, at.chin_y + 0.05, 0.14, 0.10)
    blood += 0.35 * bump(side, y, at.eye_x, at.eye_y - 0.10, 0.13, 0.035)  # under the eyes
    melanin += (0.08 + 0.22 * person.age) * bump(side, y, at.eye_x - 0.02, at.eye_y - 0.09, 0.12, 0.04)
    if person.freckles > 0.0:
        spots = noise(x * 38.0, y * 38.0, person.map_seed >> 5) - 2.3 + 1.1 * person.freckles
        where = bump(side, y, 0.25, at.eye_y - 0.25, 0.35, 0.30)
        melanin += (0.9 + 0.012 / person.melanin) * person.freckles * smoothstep(0.0, 0.8, spots) * where
    rng = stream(person.map_seed, "example_faces.moles")
    for i in range(round(person.moles)):
        mx, my = rng.uniform(-0.55, 0.55), rng.uniform(at.chin_y, at.eye_y + 0.45)
        radius, dark = rng.uniform(0.009, 0.020), rng.uniform(0.15, 0.35)
        melanin += (dark / person.melanin + 0.4) * bump(x, y, mx, my, radius, radius) ** (1 + i % 2)
    return melanin.astype(np.float32), blood.astype(np.float32)


def skin_albedo(person: Person, shot: Shot, x: Array, y: Array, look: Array) -> Array:
    """Albedo of bare skin and lips at base coordinates, [4, S, S]; `look` [2, S, S]: the personal map's factors."""
    melanin = person.melanin * np.maximum(look[0], 0.2)
    blood = person.haemoglobin * np.maximum(look[1], 0.2)
    mouth = mouth_edges(person, shot, x)
    soft = 0.014
    upper = smoothstep(-soft, soft, mouth.top - y) * smoothstep(-soft, soft, y - mouth.gap_top)
    lower = smoothstep(-soft, soft, mouth.gap_bottom - y) * smoothstep(-soft, soft, y - mouth.bottom)
    lips = np.maximum(upper, lower) * (mouth.across < 1.0)
    blood = lerp(blood, person.lip_blood, 0.9 * lips)
    melanin = melanin * (1.0 + 0.15 * lips)
    return skin_reflectance(melanin, blood)


def map_coordinates(x: Array, y: Array) -> tuple[Array, Array]:
    """Base coordinates as (u, v) of the personal map."""
    return x, y * (1.0 / _MAP_HALF_HEIGHT)


# ----------------------------------------------------------------------------
# Mouth opening and nostrils.


def paint_openings(
    person: Person, shot: Shot, camera: Camera, canvas: Canvas, albedo: Array, x: Array, y: Array
) -> None:
    """The line or the opening between the lips, with teeth, and the nostrils; changes `albedo` and the canvas."""
    at = layout(person)
    air = canvas.open_air
    window = window_of((np.abs(x) < 0.45) & (np.abs(y - at.mouth_y) < 0.30))
    if window is not None:
        gap = _paint_mouth(person, shot, cut(albedo, window), air[window], x[window], y[window], camera.pixel)
        normal = cut(canvas.normal, window)
        normal += (camera.rotation[:, 2].astype(np.float32)[:, None, None] - normal) * gap  # teeth face forward
    window = window_of((np.abs(x) < person.nose_width + 0.05) & (np.abs(y - at.nose_y) < 0.12))
    if window is not None:
        side, wy = np.abs(x[window]), y[window]
        hole = bump(side, wy, 0.44 * person.nose_width, at.nose_y + 0.006, 0.19 * person.nose_width, 0.022)
        hole = np.minimum(1.3 * hole, 1.0)
        air[window] *= 1.0 - 0.7 * hole
        nostril = cut(albedo, window)
        nostril *= 1.0 - 0.7 * hole
        crease = bump(side, wy, 1.02 * person.nose_width, at.nose_y + 0.045, 0.018, 0.05)
        air[window] *= 1.0 - 0.30 * crease


def _paint_mouth(person: Person, shot: Shot, albedo: Array, air: Array, x: Array, y: Array, pixel: float) -> Array:
    """Returns the coverage of the gap between the lips."""
    mouth = mouth_edges(person, shot, x)
    gap = edge(mouth.gap_top - y, pixel) * edge(y - mouth.gap_bottom, pixel) * (mouth.across < 1.0)
    inside = as_band((0.10, 0.035, 0.03, 0.09))
    albedo += (inside - albedo) * gap
    if shot.mouth_open > 0.0:
        teeth_bottom = mouth.gap_top - (0.05 + 0.03 * max(shot.smile, 0.0))
        columns = 0.86 + 0.14 * np.abs(np.cos(x * (np.pi / 0.075)))
        teeth = gap * edge(y - teeth_bottom, pixel) * smoothstep(0.95, 0.7, mouth.across)
        albedo += (as_band((0.62, 0.58, 0.50, 0.55)) * columns - albedo) * teeth
        air *= 1.0 - 0.55 * gap * (1.0 - teeth) - 0.25 * teeth
    middle = 0.5 * (mouth.gap_top + mouth.gap_bottom)
    line = np.exp(-(((y - middle) * (1.0 / max(0.013, 0.8 * pixel))) ** 2)) * smoothstep(1.06, 0.9, mouth.across)
    albedo *= 1.0 - 0.35 * line
    air *= 1.0 - 0.62 * line * (1.0 - gap * (shot.mouth_open > 0.15))
    under = np.exp(-(((y - mouth.bottom + 0.03) * (1.0 / 0.03)) ** 2)) * mouth.envelope
    air *= 1.0 - 0.16 * under
    return gap


# ----------------------------------------------------------------------------
# Brows and beard.


def paint_brows(person: Person, shot: Shot, albedo: Array, x: Array, y: Array) -> None:
    """Hairs of the brows over the skin."""
    at = layout(person)
    centre_y = at.eye_y + person.brow_height + 0.035 * shot.brow_raise
    window = window_of((np.abs(x) < 0.75) & (np.abs(y - centre_y) < 0.22))
    if window is None:
        return
    wx, wy = x[window], y[window]
    along = (np.abs(wx) - at.eye_x - 0.005) * (1.0 / person.brow_length)  # -1 inner end, 1 outer end
    middle = centre_y + person.brow_tilt * person.brow_length * along
    middle = middle + person.brow_arch * (1.0 - (along - 0.25) ** 2) - 0.5 * person.brow_arch
    middle = middle + 0.02 * shot.brow_raise * along
    thickness = person.brow_thickness * np.clip(0.95 - 0.45 * along, 0.25, 1.2)
    across = np.abs(wy - middle) / thickness
    strands = 0.80 + 0.20 * noise((wx + 0.5 * wy) * 70.0, (wy - middle) * 24.0, person.map_seed)
    density = smoothstep(1.25, 0.45, across) * smoothstep(1.12, 0.75, np.abs(along)) * strands * person.brow_density
    brow = as_band(hair_reflectance(person.hair_eumelanin, person.hair_pheomelanin)) * 0.72
    skin = cut(albedo, window)
    skin += (brow - skin) * np.clip(density, 0.0, 1.0)


def paint_beard(person: Person, shot: Shot, albedo: Array, x: Array, y: Array) -> Array | None:
    """Beard and moustache over the skin; returns how much of each place they hide, or None for a shaven person."""
    if person.beard == 0.0 and person.moustache == 0.0:
        return None
    at, side = layout(person), np.abs(x)
    mouth = mouth_edges(person, shot, x)
    lips = smoothstep(-0.02, 0.02, mouth.top - y) * smoothstep(-0.02, 0.02, y - mouth.bottom) * (mouth.across < 1.0)
    cheek_line = at.mouth_y + 0.02 + 0.62 * np.maximum(side - 0.22, 0.0) ** 1.3
    ragged = 0.03 * noise(x * 26.0, y * 26.0, person.map_seed >> 2)
    below = smoothstep(-0.05, 0.05, cheek_line - y + ragged)
    beard = person.beard * below
    down = np.clip((at.nose_y - y) * (1.0 / (at.nose_y - at.mouth_y)), 0.0, 1.3)  # 0 under the nose, 1 at the lips
    strip = smoothstep(0.0, 0.35, down + 0.8 * ragged) * smoothstep(-0.06, 0.02, y - mouth.gap_top + 0.03)
    reach = (0.62 + 0.50 * down) * mouth_width(person, shot) + ragged
    moustache = person.moustache * strip * smoothstep(1.25, 0.85, side / reach)
    density = np.maximum(beard, moustache) * (1.0 - 0.95 * lips)
    strands = 0.78 + 0.22 * noise(x * 60.0, y * 26.0, person.map_seed >> 4)
    density = np.clip(density * strands * 1.1, 0.0, 0.96)
    hair = as_band(hair_reflectance(person.hair_eumelanin, person.hair_pheomelanin)) * (0.72 + 0.25 * strands)
    albedo += (hair - albedo) * density
    return density
