"""The surface of a head: distance from its origin by direction, a star-shaped surface.

Directions (x, y, z)/r of the front half fill the unit disk of (u, v) = (x/r, y/r); the back half mirrors the front.
Two layers: the `base`, a smooth superellipsoid of the person's proportions, and the `relief`, which adds nose, lips,
sockets, cheeks, chin and hair. Features of relief and colour are placed in the base's coordinates
(x, y) = base * (u, v), decimetres.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from example_faces.anatomy import Person
from example_faces.sampling import Array, bump, noise, smoothstep
from example_faces.shots import Shot

# ----------------------------------------------------------------------------
# Where things are on the base.


@dataclass(frozen=True)
class Layout:
    """Heights of the features of one face (see Person for the units)."""

    eye_x: float
    eye_y: float
    nose_y: float  # where the nose meets the upper lip
    mouth_y: float  # the line between the lips
    chin_y: float


def layout(person: Person) -> Layout:
    """Places the features of a face by the person's proportions."""
    span = person.eye_height + person.face_length
    nose = person.eye_height - person.nose_length * span
    mouth = nose - person.mouth_height * (nose + person.face_length)
    return Layout(person.eye_distance, person.eye_height, nose, mouth, 0.25 * mouth - 0.75 * person.face_length)


@dataclass(frozen=True)
class Mouth:
    """The edges of the lips at some places: top and gap_top bound the upper lip, gap_bottom and bottom the lower."""

    across: Array  # |x| / half width
    envelope: Array  # 1 in the middle, 0 from the corners on
    top: Array
    gap_top: Array
    gap_bottom: Array
    bottom: Array


def mouth_width(person: Person, shot: Shot) -> float:
    """Half width of the mouth with this expression."""
    return person.mouth_width * (1.0 + 0.20 * shot.smile - 0.10 * shot.mouth_open)


def mouth_corner_y(person: Person, shot: Shot) -> float:
    """Height of the corners of the mouth."""
    return layout(person).mouth_y + 0.065 * shot.smile - 0.02 * shot.mouth_open


def mouth_edges(person: Person, shot: Shot, x: Array) -> Mouth:
    """The edges of the lips at horizontal places x."""
    across = np.minimum(np.abs(x) * (1.0 / mouth_width(person, shot)), 1.3)
    inside = np.minimum(across, 1.0)
    envelope = 1.0 - inside * inside
    corner = mouth_corner_y(person, shot)
    line = corner + (layout(person).mouth_y - corner) * envelope
    thin = 1.0 - 0.22 * max(shot.smile, 0.0)
    bow = 1.0 - 0.24 * np.exp(-((x * (1.0 / 0.045)) ** 2))  # Cupid's bow
    gap_top = line + 0.015 * shot.mouth_open * envelope
    gap_bottom = line - 0.15 * shot.mouth_open * envelope
    return Mouth(
        across,
        envelope,
        gap_top + person.upper_lip * thin * bow * envelope * (1.3 - 0.3 * envelope),
        gap_top,
        gap_bottom,
        gap_bottom - person.lower_lip * thin * envelope**0.75,
    )


# ----------------------------------------------------------------------------
# The base.


@dataclass(frozen=True)
class Base:
    """A person's base and the relief that no expression changes, float32 [N, N] over the disk."""

    size: int
    u: Array
    v: Array
    radius: Array
    x: Array
    y: Array
    relief: Array


def _base_radius(person: Person, u: Array, v: Array) -> Array:
    """Solves F(r * direction) = 1 for r, F a superellipsoid whose breadth changes with the height. Float [N, N]."""
    w = np.sqrt(np.maximum(1.0 - u * u - v * v, 0.0))
    up = v >= 0.0
    height = np.where(up, person.head_height, person.face_length)
    squareness = np.where(up, 2.4, person.jaw_squareness)
    radius = np.ones_like(u)
    for _ in range(9):
        y = radius * v
        breadth = person.head_width * (
            1.0
            - (1.0 - person.jaw_width) * smoothstep(-0.10, -0.95, y)
            - (1.0 - person.forehead_width) * smoothstep(0.10, 0.65, y)
        )
        depth = person.face_depth * (1.0 + 0.03 * smoothstep(0.1, 0.6, y))
        ring = (np.abs(radius * u) / breadth) ** 2.35 + (radius * w / depth) ** 2.35
        level = (ring ** (squareness / 2.35) + (np.abs(y) / height) ** squareness) ** (1.0 / squareness)
        radius = radius / level
    return radius


@lru_cache(maxsize=4)
def base_of(person: Person, size: int) -> Base:
    """The base of a person as textures of size x size."""
    axis = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)  # v up with the row
    length = np.sqrt(u * u + v * v)
    inside = np.minimum(1.0, 1.0 / np.maximum(length, 1e-6))  # corners repeat the rim
    radius = _base_radius(person, u * inside, v * inside).astype(np.float32)
    x, y = radius * u * inside, radius * v * inside
    return Base(size, u, v, radius, x, y, _fixed_relief(person, x, y).astype(np.float32))


# ----------------------------------------------------------------------------
# The relief.


def _fixed_relief(person: Person, x: Array, y: Array) -> Array:
    """Forehead, sockets, nose, cheeks, chin: what no expression changes."""
    at, side = layout(person), np.abs(x)
    relief = person.brow_ridge * bump(side, y, 0.24, at.eye_y + 0.17, 0.20, 0.07)
    relief -= person.eye_depth * bump(side, y, at.eye_x - 0.03, at.eye_y + 0.03, 0.15, 0.10)
    relief -= 0.04 * bump(side, y, 0.11, at.eye_y, 0.05, 0.08)  # inner corners
    relief += 0.055 * bump(side, y, at.eye_x, at.eye_y, 0.10, 0.065)  # eyeballs behind the lids
    relief += person.cheekbones * bump(side, y, 0.50, at.eye_y - 0.24, 0.14, 0.10)
    relief += person.cheek_fullness * bump(side, y, 0.44, 0.5 * (at.nose_y + at.mouth_y), 0.15, 0.20)
    relief -= 0.05 * bump(side, y, 0.68, at.eye_y + 0.25, 0.10, 0.18)  # temples
    relief += 0.065 * bump(side, y, 0.0, at.mouth_y + 0.02, 0.27, 0.19)  # the arch of the teeth
    relief += (0.06 + person.chin_projection) * bump(side, y, 0.0, at.chin_y, person.chin_width, 0.11)
    relief -= 0.05 * bump(side, y, 0.0, 0.55 * at.mouth_y + 0.45 * at.chin_y, 0.16, 0.05)  # over the chin
    relief -= 0.018 * bump(side, y, 0.0, 0.5 * (at.nose_y + at.mouth_y) + 0.02, 0.028, 0.07)  # philtrum
    return relief + _nose(person, at, side, y)


def _nose(person: Person, at: Layout, side: Array, y: Array) -> Array:
    """Bridge, tip and wings; the underside ends at the nose's base."""
    down = np.clip((at.eye_y + 0.06 - y) * (1.0 / (at.eye_y + 0.06 - at.nose_y)), 0.0, 1.0)  # 0 root ... 1 base
    profile = (
        person.nose_bridge * smoothstep(-0.05, 0.55, down) + (person.nose_tip - 0.6 * person.nose_bridge) * down**2.2
    )
    underside = smoothstep(at.nose_y - 0.05, at.nose_y + 0.07, y)
    breadth = person.nose_bridge_width + (0.36 * person.nose_width - 0.4 * person.nose_bridge_width) * down**2
    ridge = 1.0 / (1.0 + (side * (1.0 / breadth)) ** 2 * 0.9) ** 1.6
    nose = profile * ridge * smoothstep(at.eye_y + 0.14, at.eye_y - 0.04, y) * underside
    tip_y, wing_y = at.nose_y + 0.075, at.nose_y + 0.055
    nose += 0.06 * bump(side, y, 0.0, tip_y, 0.36 * person.nose_width, 0.055)
    wings = bump(side, y, 0.70 * person.nose_width, wing_y, 0.25 * person.nose_width, 0.055)
    return nose + 0.10 * wings * smoothstep(at.nose_y - 0.03, at.nose_y + 0.03, y)


def _expressed_relief(person: Person, shot: Shot, x: Array, y: Array) -> Array:
    """Lips, cheeks and folds with this picture's expression."""
    at, side = layout(person), np.abs(x)
    mouth = mouth_edges(person, shot, x)
    width, smile = mouth_width(person, shot), max(shot.smile, 0.0)
    soft = np.sqrt(mouth.envelope)
    upper, lower = 0.5 * (mouth.top + mouth.gap_top), 0.5 * (mouth.gap_bottom + mouth.bottom)
    relief = 0.026 * soft * np.exp(-(((y - upper) * (1.6 / person.upper_lip)) ** 2))
    relief += 0.032 * soft * np.exp(-(((y - lower) * (1.6 / person.lower_lip)) ** 2))
    gap = 0.5 * (mouth.gap_top + mouth.gap_bottom)
    half_gap = 0.5 * (mouth.gap_top - mouth.gap_bottom) + 0.012
    relief -= 0.035 * (mouth.across < 1.0) * np.exp(-(((y - gap) / half_gap) ** 2))
    relief -= 0.02 * bump(side, y, width, mouth_corner_y(person, shot), 0.03, 0.03)
    relief += 0.045 * smile * bump(side, y, 0.36, at.nose_y + 0.06, 0.12, 0.09)  # raised cheeks
    # The fold from the wing of the nose past the corner of the mouth.
    down = np.clip((at.nose_y + 0.05 - y) * (1.0 / (at.nose_y + 0.05 - at.mouth_y)), -0.2, 1.4)
    fold_x = person.nose_width + 0.04 + (width + 0.06 - person.nose_width) * down
    depth = (0.004 + 0.012 * person.age + 0.014 * smile) * smoothstep(-0.15, 0.15, down) * smoothstep(1.05, 0.5, down)
    return relief - depth * np.exp(-(((side - fold_x) * (1.0 / 0.040)) ** 2))


# ----------------------------------------------------------------------------
# Hair on the head.


def hair_inside(person: Person, x: Array, y: Array, sine: Array, behind: Array | float) -> Array:
    """How far a place of the base lies inside the hair (negative: bare skin), decimetres.

    `sine` is the sine of the azimuth (0 the nose, +-1 the ears), `behind` 1 where the place is behind the ears.
    """
    side = np.abs(sine)
    line = person.hairline_height - person.hairline_recession * bump(side, y, 0.48, y, 0.15, 1.0)
    if person.hair_fringe > 0.0:
        brow = person.eye_height + person.brow_height + 0.06
        swept = 0.5 + 0.5 * smoothstep(0.0, 0.5, np.abs(sine - 0.35 * person.hair_parting))
        drop = person.hair_fringe * (person.hairline_height - brow) * swept
        line = line - drop * smoothstep(0.80, 0.55, side)
    sideburn = 0.30 - 0.50 * min(person.hair_length * 2.5, 1.0)
    line = line + (sideburn - line) * smoothstep(0.70, 0.93, side)
    line = line + (-0.55 - line) * behind
    return y - line


def hair_thickness(person: Person, x: Array, y: Array, sine: Array) -> Array:
    """Thickness of the hair over the base."""
    inside = hair_inside(person, x, y, sine, 0.0)
    long = min(person.hair_length * 2.2, 1.0)
    thick = 0.015 + person.hair_volume * long * (0.55 + 0.45 * smoothstep(0.3, 0.9, y))
    parting = 0.35 * bump(x, y, 0.3 * person.hair_parting, 1.1, 0.05, 0.35)
    curl = 0.30 * person.hair_curl * noise(x * (9.0 - 3.0 * person.hair_length), y * 7.0, person.map_seed)
    flat = 1.0 - 0.6 * smoothstep(0.55, 0.95, np.abs(sine))  # hair lies close at the temples
    return thick * flat * smoothstep(-0.02, 0.22, inside) * (1.0 - parting + curl)


# ----------------------------------------------------------------------------
# The whole.


@dataclass(frozen=True)
class HeadSurface:
    """Textures [N, N] of the finished surface: radius and its slopes along u and v; and the base under it."""

    base: Base
    radius: Array
    slope_u: Array
    slope_v: Array


def head_surface(person: Person, shot: Shot, size: int) -> HeadSurface:
    """The head of a person with this picture's expression."""
    base = base_of(person, size)
    cosine = np.sqrt(np.maximum(1.0 - base.v * base.v, 1e-4))
    sine = np.clip(base.u / cosine, -1.0, 1.0)
    relief = base.relief + _expressed_relief(person, shot, base.x, base.y)
    radius = (base.radius + relief + hair_thickness(person, base.x, base.y, sine)).astype(np.float32)
    slope_v, slope_u = np.gradient(radius, np.float32(2.0 / (size - 1)))
    return HeadSurface(base, radius, slope_u, slope_v)


def surface_point(surface: HeadSurface, x: float, y: float) -> np.ndarray:
    """The point of the surface over the place (x, y) of the base, head frame, float64 [3]."""
    base = surface.base
    index = int(np.argmin((base.x - x) ** 2 + (base.y - y) ** 2 + 10.0 * (base.u**2 + base.v**2 > 1.0)))
    u, v = float(base.u.flat[index]), float(base.v.flat[index])
    radius, under = float(surface.radius.flat[index]), float(base.radius.flat[index])
    u, v = x / under, y / under
    return radius * np.array([u, v, np.sqrt(max(1.0 - u * u - v * v, 0.0))])
