"""A verification benchmark in one file: pictures and a list of pairs -> InsightFace's .bin, aligned or as they are."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from PIL import Image

from arcface.alignment import ARCFACE_TEMPLATE, PointsFault, fit, warp
from arcface.benchmarks import read_list, write_bin
from arcface.detection import Detection
from dnnlib.errors import UserError
from dnnlib.files import StrPath, atomic_write_json, sha256_file
from dnnlib.progress import progress
from torch_utils.image_tree import encode_png
from torch_utils.packing import record_path


class Detector(Protocol):
    """What finds a face: FaceDetector, or a test's stand-in."""

    def detect(self, images: list[np.ndarray]) -> list[Detection]: ...


def pack_benchmark(
    data: StrPath,
    pairs: StrPath,
    dest: StrPath,
    resolution: int = 112,
    detector: Detector | None = None,
    show_progress: bool = True,
) -> int:
    """Writes DEST and, beside it, a .json that says what it was made of. Returns the number of pairs.

    detector: finds the five points that are brought onto ArcFace's template; None: square pictures are taken as they
    are and resized.

    Raises:
        UserError: a picture that is missing, broken, not square or without a face; nothing is written then.
    """
    if not 16 <= resolution <= 1024:
        raise UserError(f"--resolution: {resolution} pixels; 16 to 1024")
    benchmark = read_list(pairs, data, "--pairs", "--data")
    encoded = []
    names = progress(benchmark.pictures.names, desc="pack", unit="picture", show=show_progress)
    for index, name in enumerate(names):
        try:
            pixels = benchmark.pictures.decode(index)
        except UserError as error:
            raise UserError(f"--data: {error}") from error
        where = f"--data: {data}/{name}"
        encoded.append(
            encode_png(
                _resized(pixels, resolution, where)
                if detector is None
                else _aligned(pixels, resolution, detector, where)
            )
        )
    sides = zip(benchmark.first, benchmark.second, strict=True)
    write_bin(dest, [(encoded[first], encoded[second]) for first, second in sides], benchmark.same.tolist())
    atomic_write_json(
        record_path(dest),
        {
            "format": "bin",
            "source": str(data),
            "pairs": str(pairs),
            "pairs_sha256": sha256_file(pairs),
            "spectra": benchmark.spectra,
            "images": len(encoded),
            "resolution": resolution,
            "alignment": None if detector is None else ARCFACE_TEMPLATE.name,
        },
    )
    return len(benchmark.same)


def _resized(pixels: np.ndarray, resolution: int, where: str) -> np.ndarray:
    height, width = pixels.shape[:2]
    if height != width:
        raise UserError(f"{where}: {width}x{height} is not square; --align finds the face, or crop it")
    if width == resolution:
        return pixels
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
    resized = np.asarray(image.resize((resolution, resolution), Image.Resampling.LANCZOS))
    return resized.reshape(resolution, resolution, -1)


def _aligned(pixels: np.ndarray, resolution: int, detector: Detector, where: str) -> np.ndarray:
    (found,) = detector.detect([np.ascontiguousarray(pixels.transpose(2, 0, 1))])
    if found.points is None:
        raise UserError(f"{where}: {found.reason}; leave its pairs out, or cut the pictures yourself and omit --align")
    transform = fit(found.points.astype(np.float64), ARCFACE_TEMPLATE.at(resolution))
    if isinstance(transform, PointsFault):
        raise UserError(f"{where}: {transform.value}; leave its pairs out, or cut the pictures yourself")
    return warp(pixels, transform, resolution)
