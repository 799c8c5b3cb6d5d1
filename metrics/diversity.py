"""How much the pictures differ that a network draws at one condition: a person's pictures must not be one picture.

Conditional training collapses to that (PAIN_POINTS row 12). Real people, whose pictures differ by pose, light and
expression, are the measure.
"""

from __future__ import annotations

import numpy as np
import torch

from metrics.identity import unit_rows
from metrics.observers import Detector, Observer
from metrics.pictures import GROUPS, Pictures, Rows
from metrics.registry import Result, Setting, observer, register
from metrics.rows import FEATURES, Seen
from torch_utils.spectra import SPECTRA

PIXELS, IDENTITY = "pixels", "identity"
KINDS = {PIXELS: "pixel-groups", IDENTITY: "arcface-groups"}


def pixel_distance(images: torch.Tensor) -> float:
    """Mean over all pairs of pictures uint8 [N, C, H, W], N at least 2, of the root mean square of their difference, in
    grey levels."""
    flat = images.flatten(1).double()  # [N, P]
    return float(torch.nn.functional.pdist(flat).mean()) / flat.shape[1] ** 0.5


def cosine_distance(features: np.ndarray) -> float:
    """Mean over all pairs of features [N, D], N at least 2, of one minus their cosine."""
    rows = unit_rows(features)
    first, second = np.triu_indices(len(rows), k=1)
    return float(np.square(rows[first] - rows[second]).sum(axis=1).mean() / 2)  # exactly 0 for equal ones


@observer(KINDS[PIXELS])
def pixel_groups(detector: Detector | None) -> Observer:
    """By spectrum how far the pictures of a group lie apart, a row a group."""

    def observe(pictures: Pictures) -> Rows:
        return {spectrum: np.array([pixel_distance(images)]) for spectrum, images in pictures.items()}

    return Observer(KINDS[PIXELS], "", "", "", observe, GROUPS)


@observer(KINDS[IDENTITY], of="arcface")
def arcface_groups(detector: Detector | None) -> Observer:
    """The same of a recognition model's features."""
    assert detector is not None, "the registry brings it"

    def observe(pictures: Pictures) -> Rows:
        features = {spectrum: detector.look(images)[FEATURES] for spectrum, images in pictures.items()}
        return {spectrum: np.array([cosine_distance(rows)]) for spectrum, rows in features.items()}

    return Observer(KINDS[IDENTITY], detector.name, detector.sha256, detector.resize, observe, GROUPS)


@register(
    "diversity{N}",
    needs=tuple(KINDS.values()),
    higher_is_better=True,
    parts=(PIXELS, IDENTITY, f"{PIXELS}_real", f"{IDENTITY}_real"),
)
def diversity(real: Seen, fake: Seen, setting: Setting) -> list[Result]:
    """Mean distance between two pictures of one condition. pixels: root mean square, grey levels of 255. identity: one
    minus the cosine of their features. _real: between two pictures of one real person."""
    return [
        Result(spectrum, float(rows.mean()), part + of, float(rows.std()))
        for of, seen in (("", fake), ("_real", real))
        for part, kind in KINDS.items()
        for spectrum, rows in ((name, seen.rows[kind][name]) for name in SPECTRA if name in seen.rows[kind])
    ]
