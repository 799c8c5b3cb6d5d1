"""Hair: its colour and strands on the head, and the volume of long hair behind and beside the face."""

from __future__ import annotations

import numpy as np

from example_faces.anatomy import Person
from example_faces.camera import Camera, Hit
from example_faces.canvas import Canvas, as_band
from example_faces.head import hair_inside
from example_faces.sampling import Array, noise, smoothstep
from example_faces.spectra import hair_reflectance

_LONG = 0.45  # hair shorter than this hangs nowhere


def _strands(person: Person, across: Array, along: Array) -> Array:
    """Brightness of the strands: fine noise across them, slow along; wavier for curlier hair."""
    wave = person.hair_curl * noise(across * 5.0, along * 6.0, person.map_seed >> 1)
    fine = noise(across * 34.0 + 1.6 * wave, along * (2.5 + 7.0 * person.hair_curl), person.map_seed)
    broad = noise(across * 11.0 + wave, along * 1.7, person.map_seed >> 6)
    return np.clip(1.0 + 0.20 * fine + 0.16 * broad + 0.10 * wave, 0.35, 1.8)


def hair_colour(person: Person) -> Array:
    """Albedo of the hair, [4, 1, 1]."""
    return as_band(hair_reflectance(person.hair_eumelanin, person.hair_pheomelanin))


def paint_scalp_hair(person: Person, hit: Hit, albedo: Array, x: Array, y: Array) -> Array:
    """Hair on the head over the skin `albedo`; returns its coverage [S, S]."""
    sine = np.clip(hit.u / np.sqrt(np.maximum(1.0 - hit.v * hit.v, 1e-3)), -1.0, 1.0)
    behind = smoothstep(0.02, -0.10, hit.z)
    inside = hair_inside(person, x, y, sine, behind)
    across = 1.3 * sine + 0.25 * x
    strands = _strands(person, across, y - 0.3 * hit.z)
    ragged = 0.022 * noise(across * 55.0, y * 3.0, person.map_seed >> 7)
    shorn = 0.75 + 0.25 * min(person.hair_length * 8.0, 1.0)
    coverage = shorn * smoothstep(-0.03, 0.05, inside + ragged)
    albedo += (hair_colour(person) * strands - albedo) * coverage
    return coverage


class LongHair:
    """A vertical elliptic column of hair around the neck, open at the face."""

    def __init__(self, person: Person, camera: Camera) -> None:
        self.person = person
        self.length = (person.hair_length - _LONG) / (1.0 - _LONG)
        if self.length <= 0.0:
            return
        self.half_width = person.head_width + 0.4 * person.hair_volume + 0.03 + 0.07 * self.length
        self.half_depth = 0.62
        self.end = -0.35 - 1.35 * self.length
        self._intersect(camera)

    def _intersect(self, camera: Camera) -> None:
        """Rays against the column (x/a)^2 + ((z - z0)/b)^2 = 1 of the head frame."""
        a, b = 1.0 / self.half_width, 1.0 / self.half_depth
        x0, y0, z0 = camera.to_head(np.zeros_like(camera.x))
        wavy = 1.0 + (0.015 + 0.035 * self.person.hair_curl) * noise(x0 * 2.0 + 7.0, y0 * 5.0, self.person.map_seed)
        wavy = wavy * (1.0 - 0.40 * smoothstep(0.30, 1.15, y0) - 0.10 * smoothstep(-0.5, -1.5, y0))
        px, pz = x0 * a / wavy, (z0 + 0.22) * b / wavy
        dx, dz = float(camera.rotation[2, 0]) * a / wavy, float(camera.rotation[2, 2]) * b / wavy
        aa, bb, cc = dx * dx + dz * dz, px * dx + pz * dz, px * px + pz * pz - 1.0
        root = bb * bb - aa * cc
        self.depth = (-bb + np.sqrt(np.maximum(root, 0.0))) / aa
        x, y, z = camera.to_head(self.depth)
        ends = self.end + 0.06 * noise(x * 12.0, z * 9.0, self.person.map_seed >> 8)
        self.coverage = (
            np.clip(root * (0.5 * self.half_width / (aa * camera.pixel)), 0.0, 1.0)
            * smoothstep(-0.03, 0.04, y - ends)
            * (y < 1.2)
        )
        normal = camera.turn(x * a * a, np.full_like(x, 0.05), (z + 0.22) * b * b)
        self.normal = normal / np.sqrt((normal * normal).sum(axis=0) + 1e-6)
        self.x, self.z = x, z
        azimuth = np.arctan2(x, z + 0.22)
        self.albedo = hair_colour(self.person) * _strands(self.person, azimuth * 0.9, y)

    def paint_behind(self, canvas: Canvas) -> None:
        """The far side, seen dark behind neck and ears."""
        if self.length > 0.0:
            canvas.paint(self.coverage, self.albedo * 0.45, self.normal, -0.8, 0.0)
            np.maximum(canvas.strand, 0.5 * self.coverage, out=canvas.strand)

    def paint_beside(self, canvas: Canvas, face_depth: Array, face_coverage: Array) -> None:
        """The locks beside the face, where they are nearer than it or beyond its outline."""
        if self.length <= 0.0:
            return
        opening = 0.50 + 0.20 * (1.0 - self.length)
        beside = smoothstep(opening, opening + 0.10, np.abs(self.x))
        in_front = np.clip((self.depth - face_depth) * 25.0 + 0.5, 0.0, 1.0)
        nearer = 1.0 + (in_front - 1.0) * face_coverage
        coverage = self.coverage * beside * nearer
        canvas.paint(coverage, self.albedo, self.normal, self.depth, 0.0)
        np.maximum(canvas.strand, coverage, out=canvas.strand)
