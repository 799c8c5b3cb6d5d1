"""Light on the canvas, once for each spectrum: the room's lamps for VIS, a lamp beside the lens for NIR."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from example_faces.canvas import Canvas
from example_faces.sampling import Array, shifted, smoothstep
from example_faces.shots import Shot

_BLEED = (
    0.30,
    0.14,
    0.09,
    0.34,
)  # how far light wraps round skin's edges in R, G, B, NIR: scattering under the surface
_SHADOW_REACH = (0.05, 0.10, 0.16, 0.24, 0.34, 0.48)  # decimetres


def occlusion(canvas: Canvas, pixel: float) -> Array:
    """Share of the sky that a place sees, from how far it lies under its neighbourhood; [S, S]."""
    result = canvas.open_air.copy()
    for radius, strength in ((0.07, 2.2), (0.22, 0.9)):
        size = max(3, 2 * round(radius / pixel) + 1)
        sunk = ndimage.uniform_filter(canvas.depth, size) - canvas.depth
        result *= 1.0 - np.clip(strength * sunk, 0.0, 0.6)
    return result


def cast_shadow(canvas: Canvas, direction: tuple[float, float, float], pixel: float) -> Array:
    """1 in the light, 0 in full shadow: steps over the depth buffer towards the lamp; [S, S]."""
    lit = np.ones_like(canvas.depth)
    for reach in _SHADOW_REACH:
        dx, dy, rise = (reach * c for c in direction)
        over = shifted(canvas.depth, -round(dy / pixel), round(dx / pixel)) - canvas.depth - rise
        soft = 0.03 + 0.18 * reach
        lit *= 1.0 - 0.75 * smoothstep(0.01, 0.01 + soft, over) * smoothstep(0.9, 0.6, over)
    return lit


def _facing(canvas: Canvas, direction: tuple[float, float, float]) -> Array:
    x, y, z = (float(c) for c in direction)
    return x * canvas.normal[0] + y * canvas.normal[1] + z * canvas.normal[2]


def _wrapped(cosine: Array, wrap: float | Array) -> Array:
    return np.clip((cosine + wrap) * (1.0 / (1.0 + wrap)), 0.0, 1.0)


def _highlight(canvas: Canvas, direction: tuple[float, float, float]) -> Array:
    """Skin's oily sheen (Blinn) and the sheen along strands of hair (Kajiya and Kay), [S, S]."""
    half = np.array(direction) + np.array((0.0, 0.0, 1.0))
    x, y, z = half / np.linalg.norm(half)
    cosine = np.maximum(_facing(canvas, (x, y, z)), 0.0)
    fresnel = 0.05 + 0.5 * (1.0 - np.clip(canvas.normal[2], 0.0, 1.0)) ** 4
    skin = canvas.gloss * (2.0 * cosine**22 + 0.6 * cosine**6) * fresnel * 1.6
    # A strand lies in the surface, running down it: its direction is (0, -1, 0) less the normal's part.
    tangent_y = -1.0 + canvas.normal[1] ** 2
    along = (tangent_y * y + canvas.normal[1] * (x * canvas.normal[0] + z * canvas.normal[2])) / np.sqrt(
        -tangent_y + 1e-3
    )
    across = np.sqrt(np.clip(1.0 - along * along, 0.0, 1.0))
    return skin + 0.05 * canvas.strand * across**24 * np.maximum(cosine, 0.0)


def shade_vis(canvas: Canvas, shot: Shot, pixel: float, sky: Array) -> Array:
    """Linear R, G, B [3, S, S]."""
    shadow = cast_shadow(canvas, shot.light, pixel)
    cosine = _facing(canvas, shot.light)
    fill = _wrapped(_facing(canvas, (-0.6 * shot.light[0], 0.1, 0.8)), 0.3)
    hemisphere = 0.72 + 0.28 * canvas.normal[1] * 0.8
    sheen = _highlight(canvas, shot.light) * shadow * sky
    picture = np.empty((3, *canvas.depth.shape), np.float32)
    for band in range(3):
        wrap = _BLEED[band] * (1.0 - 0.6 * canvas.strand)
        soft_shadow = 1.0 - (1.0 - shadow) * (0.92 - 0.6 * _BLEED[band])
        direct = shot.light_strength * shot.light_colour[band] * _wrapped(cosine, wrap) * soft_shadow
        ambient = shot.ambient * shot.ambient_colour[band] * (hemisphere * 0.8 + 0.35 * fill)
        bounce = sky + (1.0 - sky) * 0.35 * canvas.albedo[band]  # light between skin and skin
        lamp = shot.light_strength * shot.light_colour[band]
        light = (direct * (0.45 + 0.55 * sky) + ambient * bounce) * 1.15
        picture[band] = canvas.albedo[band] * (light * canvas.lit + 1.0 - canvas.lit) + lamp * sheen * canvas.lit
    return picture * np.float32(shot.exposure)


def shade_nir(canvas: Canvas, shot: Shot, sky: Array) -> Array:
    """Linear NIR [1, S, S]: the lamp beside the lens, whatever the room's light; its light falls off with distance."""
    lx, ly = shot.nir_lamp
    length = float(np.sqrt(lx * lx + ly * ly + 1.0))
    lamp = (lx / length, ly / length, 1.0 / length)
    cosine = _wrapped(_facing(canvas, lamp), _BLEED[3] * 0.6)
    falloff = 1.0 + 0.16 * (canvas.depth - 0.8)
    light = (0.88 * cosine * falloff * (0.5 + 0.5 * sky) + 0.10 * sky) * canvas.lit
    wall = 0.55 * (1.0 - canvas.lit)
    picture = canvas.albedo[3] * (light + wall) + 0.55 * _highlight(canvas, lamp) * sky * canvas.lit
    return (picture * np.float32(shot.nir_strength))[None]
