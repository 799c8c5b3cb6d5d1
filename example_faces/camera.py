"""Pose, framing and rays: where the head is seen from, and what each sample of the picture hits.

The camera frame has x to the right, y up and z towards the camera; rays are parallel (a long lens). Framing is the
alignment of face recognition: the five landmarks (eyes, nose tip, corners of the mouth) are brought as near to a
template as scale and shift can, so a residual roll stays in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from example_faces.anatomy import Person
from example_faces.head import HeadSurface, layout, mouth_corner_y, mouth_width, surface_point
from example_faces.sampling import Array, Lookup
from example_faces.shots import Shot

TEMPLATE_NAME = "example_faces_5_points"
TEMPLATE = np.array([[0.347, 0.41], [0.653, 0.41], [0.5, 0.592], [0.378, 0.757], [0.622, 0.757]])  # share of the side


@dataclass(frozen=True)
class Camera:
    """A posed, framed view. rotation: head frame -> camera frame. x, y [S, S]: the rays in the camera frame."""

    rotation: np.ndarray
    x: Array
    y: Array
    pixel: float  # distance of two rays, decimetres

    def to_head(self, depth: Array) -> tuple[Array, Array, Array]:
        """The points at `depth` (camera z) along the rays, in the head frame."""
        r = self.rotation
        return tuple(  # type: ignore[return-value]
            float(r[0, k]) * self.x + float(r[1, k]) * self.y + float(r[2, k]) * depth for k in range(3)
        )

    def turn(self, nx: Array, ny: Array, nz: Array) -> Array:
        """Vectors of the head frame, turned into the camera frame, [3, ...]."""
        r = self.rotation
        return np.stack([float(r[k, 0]) * nx + float(r[k, 1]) * ny + float(r[k, 2]) * nz for k in range(3)])


def rotation_of(shot: Shot) -> np.ndarray:
    """Roll after pitch after yaw, [3, 3]. Positive yaw turns the face to the viewer's right, positive pitch up."""
    cy, sy = np.cos(shot.yaw), np.sin(shot.yaw)
    cp, sp = np.cos(shot.pitch), np.sin(shot.pitch)
    cr, sr = np.cos(shot.roll), np.sin(shot.roll)
    yaw = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    pitch = np.array([[1.0, 0.0, 0.0], [0.0, cp, sp], [0.0, -sp, cp]])
    roll = np.array([[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]])
    return roll @ pitch @ yaw


def landmarks(person: Person, shot: Shot, surface: HeadSurface) -> np.ndarray:
    """Eyes (the viewer's left first), nose tip and corners of the mouth in the head frame, float64 [5, 3]."""
    at = layout(person)
    corner_x, corner_y = mouth_width(person, shot), mouth_corner_y(person, shot)
    places = [(-at.eye_x, at.eye_y), (at.eye_x, at.eye_y), (0.0, at.nose_y + 0.085)]
    places += [(-corner_x, corner_y), (corner_x, corner_y)]
    return np.stack([surface_point(surface, x, y) for x, y in places])


def frame(person: Person, shot: Shot, surface: HeadSurface, samples: int) -> Camera:
    """Aligns the view to the template (least squares in scale and shift), then shifts and zooms by the shot's rest."""
    rotation = rotation_of(shot)
    seen = (landmarks(person, shot, surface) @ rotation.T)[:, :2] * (1.0, -1.0)  # y down, as in pictures
    centre, target = seen.mean(axis=0), TEMPLATE.mean(axis=0)
    scale = ((seen - centre) * (TEMPLATE - target)).sum() / ((seen - centre) ** 2).sum()  # sides a decimetre
    scale *= shot.zoom
    places = (np.arange(samples) + 0.5) / samples
    x = (places - target[0] - shot.shift[0]) / scale + centre[0]
    y = -((places - target[1] - shot.shift[1]) / scale + centre[1])
    grid_x, grid_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return Camera(rotation, grid_x, grid_y, float(1.0 / (scale * samples)))


def project(person: Person, shot: Shot, surface: HeadSurface) -> np.ndarray:
    """The five landmarks in the picture, as shares of its side from its upper left corner, float64 [5, 2]."""
    rotation = rotation_of(shot)
    seen = (landmarks(person, shot, surface) @ rotation.T)[:, :2] * (1.0, -1.0)
    centre, target = seen.mean(axis=0), TEMPLATE.mean(axis=0)
    scale = shot.zoom * ((seen - centre) * (TEMPLATE - target)).sum() / ((seen - centre) ** 2).sum()
    return (seen - centre) * scale + target + np.array(shot.shift)


# ----------------------------------------------------------------------------
# Rays against the head.


@dataclass(frozen=True)
class Hit:
    """What the rays find of the head, all [S, S]; the normal [3, S, S] in the camera frame."""

    coverage: Array
    depth: Array
    normal: Array
    u: Array
    v: Array
    z: Array  # head frame
    lookup: Lookup


_BOUND = 1.62  # no head reaches further from its origin
_COARSE_STEPS, _FINE_STEPS, _GRAZING_STEPS = 18, 4, 12
_SURE = 0.55  # a ray that ends nearer than this is under the nose or the brow, not past the outline
_BEHIND = -0.55  # where a ray has missed the head


def _gap(camera: Camera, surface: HeadSurface, depth: Array) -> Array:
    """Signed radial distance to the surface at `depth` along the rays."""
    x, y, z = camera.to_head(depth)
    radius = np.sqrt(x * x + y * y + z * z)
    inverse = 1.0 / np.maximum(radius, 1e-3)
    return radius - Lookup(x * inverse, y * inverse, surface.base.size)(surface.radius)


def _coarse_depth(camera: Camera, surface: HeadSurface) -> Array:
    """Marches every fourth ray from the bounding sphere; returns [S, S], made a little too near everywhere."""
    samples = len(camera.x)
    keep = np.arange(2, samples, 4)
    rough = Camera(camera.rotation, camera.x[np.ix_(keep, keep)], camera.y[np.ix_(keep, keep)], 4.0 * camera.pixel)
    depth = np.sqrt(np.maximum(_BOUND**2 - rough.x**2 - rough.y**2, 0.0))
    for _ in range(_COARSE_STEPS):
        depth -= np.clip(0.7 * _gap(rough, surface, depth), -0.05, 0.5)
        np.maximum(depth, _BEHIND, out=depth)
    depth = ndimage.maximum_filter(depth, 3) + np.float32(0.5 * camera.pixel)
    spread = np.minimum(np.arange(samples) // 4, len(keep) - 1)
    return depth[np.ix_(spread, spread)]


def _finish_grazing(camera: Camera, surface: HeadSurface, depth: Array, nearest: Array) -> None:
    """Marches on the few rays that run along the surface and have not met it yet; changes depth and nearest."""
    late = np.flatnonzero((nearest > 0.4 * camera.pixel) & (depth > _BEHIND + 0.02))
    few = Camera(camera.rotation, camera.x.ravel()[late], camera.y.ravel()[late], camera.pixel)
    here, closest = depth.ravel()[late], nearest.ravel()[late]
    for _ in range(_GRAZING_STEPS):
        gap = _gap(few, surface, here)
        np.minimum(closest, gap, out=closest)
        here = np.maximum(here - 0.85 * gap - np.float32(0.1 * camera.pixel), np.float32(_BEHIND))
    depth.ravel()[late], nearest.ravel()[late] = here, closest


def cast(camera: Camera, surface: HeadSurface) -> Hit:
    """Intersects all rays with the head: a march from the coarse solution, then one Newton step along the ray."""
    depth = _coarse_depth(camera, surface)
    nearest = np.full_like(depth, 9.0)
    for _ in range(_FINE_STEPS):
        gap = _gap(camera, surface, depth)
        np.minimum(nearest, gap, out=nearest)
        depth = np.maximum(depth - 0.75 * gap - np.float32(0.2 * camera.pixel), np.float32(_BEHIND))
    _finish_grazing(camera, surface, depth, nearest)
    for last in (False, True):
        x, y, z = camera.to_head(depth)
        radius = np.sqrt(x * x + y * y + z * z)
        inverse = 1.0 / np.maximum(radius, 1e-3)
        u, v, w = x * inverse, y * inverse, z * inverse
        lookup = Lookup(u, v, surface.base.size)
        gap = radius - lookup(surface.radius)
        np.minimum(nearest, gap, out=nearest)
        # Gradient of |p| - R(u, v): the radial direction less R's slopes along the surface.
        slope_u, slope_v = lookup(surface.slope_u), lookup(surface.slope_v)
        along = slope_u * u + slope_v * v
        gradient = camera.turn(
            u - (slope_u - along * u) * inverse, v - (slope_v - along * v) * inverse, w + along * w * inverse
        )
        if not last:
            depth = depth - np.clip(gap / np.maximum(gradient[2], 0.3), -0.05, 0.05)
    normal = gradient / np.sqrt((gradient * gradient).sum(axis=0) + 1e-6)
    coverage = np.clip(1.3 - nearest * (1.0 / camera.pixel), 0.0, 1.0)
    coverage = np.maximum(coverage, depth > _SURE)
    return Hit(coverage, depth, normal, u, v, z, lookup)
