"""Pictures of example people: one pair, or a whole dataset in order on several processes."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from dnnlib.workers import map_in_order
from example_faces.anatomy import Person, sample_person
from example_faces.body import paint_background, paint_body, paint_ears, paint_glasses
from example_faces.camera import Camera, Hit, cast, frame
from example_faces.canvas import Canvas, blank
from example_faces.eyes import paint_eyes
from example_faces.hair import LongHair, paint_scalp_hair
from example_faces.head import head_surface
from example_faces.sampling import Array, Lookup, noise
from example_faces.shading import occlusion, shade_nir, shade_vis
from example_faces.shots import Shot, sample_shot
from example_faces.skin import map_coordinates, paint_beard, paint_brows, paint_openings, personal_map, skin_albedo
from torch_utils.streams import stream

Pair = dict[str, np.ndarray]
MIN_RESOLUTION, MAX_RESOLUTION = 16, 1024

# ----------------------------------------------------------------------------
# The scene.


def _paint_face(person: Person, shot: Shot, camera: Camera, hit: Hit, base_radius: Array, canvas: Canvas) -> None:
    """The head with all that grows on it."""
    under = hit.lookup(base_radius)
    x, y = under * hit.u, under * hit.v
    melanin, blood = personal_map(person)
    look = Lookup(*map_coordinates(x, y), len(melanin))
    albedo = skin_albedo(person, shot, x, y, np.stack([look(melanin), look(blood)]))
    oily = 0.30 + 0.15 * noise(x * 5.0, y * 5.0, person.map_seed >> 9)
    canvas.paint(hit.coverage, albedo, hit.normal, hit.depth, oily)
    # Marks and organs change the albedo of the head alone; the canvas gets it at the end.
    paint_openings(person, shot, camera, canvas, albedo, x, y)
    paint_brows(person, shot, albedo, x, y)
    beard = paint_beard(person, shot, albedo, x, y)
    paint_eyes(person, shot, camera, canvas, x, y, albedo)
    hair = paint_scalp_hair(person, hit, albedo, x, y)
    canvas.albedo += (albedo - canvas.albedo) * hit.coverage
    hairy = hair if beard is None else np.maximum(hair, 0.7 * beard)
    canvas.gloss *= 1.0 - 0.8 * hairy * hit.coverage
    canvas.strand += (hairy - canvas.strand) * hit.coverage


def _paint_scene(person: Person, shot: Shot, samples: int) -> tuple[Canvas, Camera]:
    """All layers from back to front."""
    surface = head_surface(person, shot, int(np.clip(samples, 112, 224)))
    camera = frame(person, shot, surface, samples)
    hit = cast(camera, surface)
    canvas = blank(samples)
    long_hair = LongHair(person, camera)
    paint_background(shot, camera, canvas)
    long_hair.paint_behind(canvas)
    paint_body(person, shot, camera, canvas)
    paint_ears(person, camera, canvas)
    _paint_face(person, shot, camera, hit, surface.base.radius, canvas)
    long_hair.paint_beside(canvas, hit.depth, hit.coverage)
    paint_glasses(person, shot, camera, canvas)
    return canvas, camera


# ----------------------------------------------------------------------------
# The sensor.


def _develop(linear: Array, shot: Shot, resolution: int, oversampling: int, purpose: str) -> np.ndarray:
    """Linear light [C, S, S] -> uint8 [H, W, C]: lens blur, pixels, noise, a soft shoulder and the sRGB curve."""
    sigma = shot.blur * linear.shape[1]
    blurred = ndimage.gaussian_filter(linear, (0.0, sigma, sigma), truncate=2.5)
    channels = len(blurred)
    pixels = blurred.reshape(channels, resolution, oversampling, resolution, oversampling).mean(axis=(2, 4))
    pixels = np.maximum(pixels, 0.0)
    pixels = np.where(pixels > 0.7, 0.7 + 0.3 * np.tanh((pixels - 0.7) * (1.0 / 0.45)), pixels)
    grey = pixels ** np.float32(1.0 / 2.2)
    rng = stream(shot.sensor_seed, f"example_faces.sensor.{purpose}", resolution)
    grain = rng.standard_normal(grey.shape, dtype=np.float32)
    grey = grey + np.float32(shot.noise) * grain
    return np.clip(np.rint(grey * 255.0), 0, 255).astype(np.uint8).transpose(1, 2, 0)


def render_pair(person: Person, shot: Shot, resolution: int) -> Pair:
    """Renders one picture in both spectra: {'vis': uint8 [H, W, 3], 'nir': uint8 [H, W, 1]}, aligned to the pixel."""
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        raise ValueError(f"resolution {resolution} is outside {MIN_RESOLUTION} ... {MAX_RESOLUTION}")
    oversampling = 3 if resolution < 48 else 2
    canvas, camera = _paint_scene(person, shot, resolution * oversampling)
    sky = occlusion(canvas, camera.pixel)
    linear = {"vis": shade_vis(canvas, shot, camera.pixel, sky), "nir": shade_nir(canvas, shot, sky)}
    return {name: _develop(light, shot, resolution, oversampling, name) for name, light in linear.items()}


# ----------------------------------------------------------------------------
# Datasets.

_CHUNK = 8  # pictures of one person that one process renders in a row


def _render_chunk(seed: int, identity: int, first: int, count: int, resolution: int) -> list[Pair]:
    person = sample_person(seed, identity)
    shots = (sample_shot(seed, identity, sample) for sample in range(first, first + count))
    return [render_pair(person, shot, resolution) for shot in shots]


def chunks_of(identities: int, samples: int, first_identity: int) -> Iterator[tuple[int, int, int]]:
    """(identity, first sample, count) of the pieces of work, in order."""
    for identity in range(first_identity, first_identity + identities):
        for first in range(0, samples, _CHUNK):
            yield identity, first, min(_CHUNK, samples - first)


def render_dataset(
    seed: int, identities: int, samples: int, resolution: int, first_identity: int = 0, workers: int = 2
) -> Iterator[tuple[int, int, Pair]]:
    """Yields (identity, sample, pair) in order; the same bytes whatever `workers`."""
    for identity, first, pairs in map_chunks(
        _render_chunk, seed, identities, samples, resolution, first_identity, workers
    ):
        for offset, pair in enumerate(pairs):
            yield identity, first + offset, pair


def map_chunks(job, seed, identities, samples, resolution, first_identity, workers, *more):
    """Runs job(seed, identity, first, count, resolution, *more) over all chunks, in order, few ahead of the reader."""
    run = functools.partial(_run_chunk, job, seed, resolution, more)
    return map_in_order(run, chunks_of(identities, samples, first_identity), workers, fork=True)


def _run_chunk(job, seed, resolution, more, chunk):
    """(identity, first sample, what the job gives)."""
    identity, first, count = chunk
    return identity, first, job(seed, identity, first, count, resolution, *more)
