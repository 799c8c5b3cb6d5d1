"""From raw captures to a dataset: each pair is read, its face found, aligned and written, or refused by name.

The files that are there are the state: each is whole (dnnlib.files), so a killed run goes on where it stopped, and the
bytes of the result depend on neither interruptions nor workers.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from arcface.alignment import FILTERS, TEMPLATES, PointsFault, Similarity, fit, share_outside, warp
from arcface.captures import NO_PARTNER, Capture, Captures
from arcface.detection import FaceDetector
from dnnlib.errors import UserError
from dnnlib.files import (
    FolderLock,
    StrPath,
    atomic_write_bytes,
    atomic_write_json,
    claim_folder,
    make_folder,
    sha256_bytes,
)
from dnnlib.progress import progress
from dnnlib.workers import map_in_order
from torch_utils.description import DESCRIPTION, describe
from torch_utils.image_tree import (
    CAPTURES,
    ImageTree,
    content_digest,
    encode_png,
    exif_orientation,
    refuse_among_pictures,
)
from torch_utils.packing import write_zip
from torch_utils.spectra import SPECTRA

MARKER = "prepare.json"  # what the folder's pictures were made from
FAILURES = "failures.csv"
VERSION = 1  # raised whenever the same captures give other pictures
UNALIGNED = "none"
MIN_RESOLUTION, MAX_RESOLUTION = 16, 2048

UNREADABLE = "unreadable"
SIZES = "sizes do not fit"
ORIENTATION = "only one is turned by EXIF"
OUTSIDE = "reaches beyond the picture"


@dataclass(frozen=True)
class Settings:
    """How pairs become pictures.

    align: a template's name or 'none'. max_outside: share of an aligned square that may lie beyond the picture.
    register: NIR is detected by itself. detector: where its weights are; None: the installed ones.
    """

    resolution: int = 256
    align: str = "portrait"
    filter: str = "lanczos"
    min_probability: float = 0.9
    max_outside: float = 0.25
    register: bool = False
    detector: str | None = None

    def check(self) -> None:
        """Raises UserError for values that cannot be."""
        if not MIN_RESOLUTION <= self.resolution <= MAX_RESOLUTION:
            raise UserError(f"--resolution: {self.resolution} is outside {MIN_RESOLUTION} to {MAX_RESOLUTION} pixels")
        for option, share in (("--min-probability", self.min_probability), ("--max-outside", self.max_outside)):
            if not 0 <= share <= 1:
                raise UserError(f"{option}: {share} is outside 0 to 1")
        if self.register and self.align == UNALIGNED:
            raise UserError("--register: brings faces onto a template, which --align none does not; leave one out")
        if self.detector is not None and self.align == UNALIGNED:
            raise UserError("--detector: finds faces, which --align none does not look for; leave one out")
        assert self.align in (*TEMPLATES, UNALIGNED) and self.filter in FILTERS


class Failure(NamedTuple):
    """Why a pair is not in the dataset. side: a spectrum, or 'both'. reason: one of few. detail: in words, or empty."""

    identity: str
    sample: str
    vis: str
    nir: str
    side: str
    reason: str
    detail: str = ""


class Outcome(NamedTuple):
    """What became of one pair: hashes of its files, (name in the dataset, SHA-256), or the failure."""

    hashes: list[tuple[str, str]]
    failure: Failure | None


@dataclass(frozen=True)
class Prepared:
    """What was written, and how many pairs failed for each reason."""

    pairs: int
    identities: int
    failures: Counter[str]
    failures_file: Path

    def summary(self) -> str:
        """One line for people, without where it lies."""
        total = sum(self.failures.values())
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.failures.most_common())
        told = f"; {total} not: {reasons} ({self.failures_file})" if total else ""
        return f"{self.pairs} pairs of {self.identities} people prepared{told}"


class _Refused(Exception):
    """Ends the work on one pair: side, reason, detail."""


# ----------------------------------------------------------------------------
# One pair, in a worker.


@dataclass
class Worker:
    """What a process needs to work on pairs."""

    trees: dict[str, ImageTree]
    folder: Path
    settings: Settings
    detector: FaceDetector | None

    def work(self, capture: Capture) -> Outcome:
        """Writes one pair, or finds it written, or says why it cannot be."""
        paths = {name: self.folder / spectrum.folder / capture.file_name for name, spectrum in SPECTRA.items()}
        try:
            if not all(path.is_file() for path in paths.values()):
                for spectrum, pixels in self.aligned(capture).items():
                    atomic_write_bytes(paths[spectrum], encode_png(pixels))
        except _Refused as refused:
            return Outcome([], Failure(*capture, *refused.args))
        return Outcome(
            [(f"{path.parent.name}/{path.name}", sha256_bytes(path.read_bytes())) for path in paths.values()], None
        )

    def aligned(self, capture: Capture) -> dict[str, np.ndarray]:
        """uint8 [R, R, C] by spectrum."""
        pixels: dict[str, np.ndarray] = {}
        turned: dict[str, int | None] = {}
        for spectrum in SPECTRA:
            tree, name = self.trees[spectrum], getattr(capture, spectrum)
            try:
                data = tree.read(name)
                pixels[spectrum] = tree.decode_bytes(data, name, SPECTRA[spectrum].mode)
            except UserError as error:
                raise _Refused(spectrum, UNREADABLE, str(error)) from error
            turned[spectrum] = exif_orientation(data, CAPTURES)
        if not self.settings.register:
            _check_registered(pixels, turned)
        settings = self.settings
        return {
            spectrum: warp(pixels[spectrum], transform, settings.resolution, settings.filter)
            for spectrum, transform in self._transforms(pixels).items()
        }

    def _transforms(self, pixels: dict[str, np.ndarray]) -> dict[str, Similarity]:
        """From each spectrum's pixels to the template's, or to a centred square."""
        resolution = self.settings.resolution
        if self.settings.align == UNALIGNED:
            return {spectrum: _centred(array, resolution) for spectrum, array in pixels.items()}
        target = TEMPLATES[self.settings.align].at(resolution)
        points = {"vis": self._points("vis", pixels["vis"])}
        if self.settings.register:
            points["nir"] = self._points("nir", pixels["nir"])
        else:  # the same places, in NIR's own pixels
            ratio = np.divide(pixels["nir"].shape[1::-1], pixels["vis"].shape[1::-1])  # x, y
            points["nir"] = (points["vis"] + 0.5) * ratio - 0.5
        transforms = {}
        for spectrum, places in points.items():
            transform = fit(places, target)
            if isinstance(transform, PointsFault):
                raise _Refused(spectrum, transform.value)
            share = share_outside(transform, pixels[spectrum].shape, resolution)
            if share > self.settings.max_outside:
                raise _Refused(spectrum, OUTSIDE, f"{share:.0%} of the square; --align arcface takes less room")
            transforms[spectrum] = transform
        return transforms

    def _points(self, spectrum: str, pixels: np.ndarray) -> np.ndarray:
        assert self.detector is not None, "alignment needs a detector"
        (found,) = self.detector.detect([np.ascontiguousarray(pixels.transpose(2, 0, 1))])
        if found.points is None:
            raise _Refused(spectrum, found.reason)
        return found.points.astype(np.float64)


def _check_registered(pixels: dict[str, np.ndarray], turned: dict[str, int | None]) -> None:
    """One transform serves both spectra only where both pictures show the same field of view."""
    if None in turned.values() and any(value not in (None, 1) for value in turned.values()):
        who = next(spectrum for spectrum, value in turned.items() if value is None)
        raise _Refused(
            who, ORIENTATION, f"{SPECTRA[who].folder} has no EXIF orientation; turn the pictures or --register"
        )
    (height, width), (other_height, other_width) = (pixels[spectrum].shape[:2] for spectrum in SPECTRA)
    if abs(other_height * width / height - other_width) > 1.0 + 0.5 * other_width / width:
        raise _Refused(
            "nir", SIZES, f"VIS is {width}x{height}, NIR {other_width}x{other_height}; --register goes without"
        )


def _centred(pixels: np.ndarray, resolution: int) -> Similarity:
    """The largest centred square, brought to the resolution."""
    height, width = pixels.shape[:2]
    scale = resolution / min(height, width)
    shift = resolution / 2 - 0.5 - scale * (np.array([width, height]) / 2 - 0.5)
    return Similarity(np.column_stack([scale * np.eye(2), shift]))


_worker: Worker | None = None


def start_worker(trees: dict[str, ImageTree], folder: Path, settings: Settings) -> None:
    """Gives this process its worker; one thread, because the order of sums must not depend on how many there are."""
    global _worker
    torch.set_num_threads(1)
    detector = None
    if settings.align != UNALIGNED:
        detector = FaceDetector.load(settings.detector, min_probability=settings.min_probability)
    _worker = Worker(trees, folder, settings, detector)


def work(capture: Capture) -> Outcome:
    """Worker.work of this process's worker."""
    assert _worker is not None, "start_worker comes first"
    return _worker.work(capture)


# ----------------------------------------------------------------------------
# All pairs.


def prepare(
    trees: dict[str, ImageTree],
    found: Captures,
    dest: StrPath,
    settings: Settings,
    layout: str = "generic",
    workers: int = 2,
    show: bool = True,
) -> Prepared:
    """Writes a dataset of all pairs into a folder or, at the end, a zip.

    Args:
        trees: raw pictures by spectrum.
        layout: how they were paired, for the record.

    Raises:
        UserError: unusable settings, a destination that holds anything else, or no pair that could be prepared.
    """
    settings.check()
    if workers < 1:
        raise UserError(f"--workers: {workers} is too few; 1 or more is needed")
    if not (found.may_be_registered or settings.register or settings.align == UNALIGNED):
        raise UserError(f"--layout: {layout} holds VIS and NIR pictures of different moments; --register is needed")
    target = Path(dest)
    zipped = target.suffix.lower() == ".zip" and not target.is_dir()
    folder = target.with_name(f"{target.name}.work") if zipped else target
    parameters = _parameters(trees, found, settings, layout)
    failures_file = target.with_suffix(f".{FAILURES}") if zipped else folder / FAILURES
    if zipped and target.exists():
        raise UserError(f"--dest: {target}: exists already; remove it, or name another")
    refuse_among_pictures(folder, "--dest")
    make_folder(folder.parent, "--dest")
    claim_folder(folder, MARKER, parameters, "a prepared dataset")
    lock = FolderLock()
    lock.take(folder, "--dest")
    try:
        outcomes = _work_on_all(trees, found.pairs, folder, settings, workers, show)
        failures = [outcome.failure for outcome in outcomes if outcome.failure is not None] + _without_partner(found)
        atomic_write_bytes(failures_file, _as_csv(failures))
        counts: Counter[str] = Counter(failure.reason for failure in failures)
        kept = [capture for capture, outcome in zip(found.pairs, outcomes, strict=True) if outcome.failure is None]
        if not kept:
            reason, count = Counter(o.failure.reason for o in outcomes if o.failure is not None).most_common(1)[0]
            raise UserError(
                f"--vis: none of {len(found.pairs)} pairs could be prepared, {count} for: {reason}; "
                f"{failures_file} tells all"
            )
        identities = len({capture.identity for capture in kept})
        hashes = [pair for outcome in outcomes for pair in outcome.hashes]
        description = _description(
            settings, identities, len(kept), hashes, {"prepare": parameters, "failures": dict(sorted(counts.items()))}
        )
        atomic_write_json(folder / DESCRIPTION, description)
        if zipped:
            packed = [DESCRIPTION, *sorted(name for name, _ in hashes)]
            write_zip(target, ((name, (folder / name).read_bytes()) for name in packed))
    finally:
        lock.close()
    if zipped:
        shutil.rmtree(folder)
    return Prepared(len(kept), identities, counts, failures_file)


def _work_on_all(
    trees: dict[str, ImageTree], pairs: list[Capture], folder: Path, settings: Settings, workers: int, show: bool
) -> list[Outcome]:
    threads = torch.get_num_threads()
    outcomes = []
    bar: tqdm[Any] = progress(desc="prepare", total=len(pairs), unit="pair", show=show)
    try:
        with bar:
            for outcome in map_in_order(work, pairs, min(workers, len(pairs)), start_worker, (trees, folder, settings)):
                outcomes.append(outcome)
                bar.update()
    finally:
        torch.set_num_threads(threads)
    return outcomes


def _parameters(trees: dict[str, ImageTree], found: Captures, settings: Settings, layout: str) -> dict[str, Any]:
    """All that the result depends on. The detector is known by its weights, captures by names."""
    listed = json.dumps([found.pairs, found.alone])
    options: dict[str, Any] = asdict(settings)
    options["detector"] = None
    if settings.align != UNALIGNED:
        options["detector"] = f"mtcnn {FaceDetector.load(settings.detector).fingerprint}"
    return {
        "version": VERSION,
        **{spectrum: str(tree.path) for spectrum, tree in trees.items()},
        "layout": layout,
        **options,
        "captures": sha256_bytes(listed.encode()),
    }


def _description(
    settings: Settings, identities: int, images: int, hashes: list[tuple[str, str]], source: dict[str, Any]
) -> dict[str, Any]:
    """dataset.json."""
    template = TEMPLATES.get(settings.align)
    return {
        **describe(settings.resolution, identities, images),
        "resize": settings.filter,
        **({"alignment": settings.align} if template is None else template.record()),
        "content_digest": content_digest(hashes),
        "source": source,
    }


def _without_partner(found: Captures) -> list[Failure]:
    empty = dict.fromkeys(SPECTRA, "")
    return [
        Failure("", "", **{**empty, spectrum: name}, side=spectrum, reason=NO_PARTNER)
        for spectrum, names in found.alone.items()
        for name in names
    ]


def _as_csv(failures: Iterable[Failure]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(Failure._fields)
    writer.writerows(failures)
    return buffer.getvalue().encode("utf-8", "surrogateescape")
