"""The privacy-and-diversity filter: its rules as small pure functions (FACTS.md, "Identity features and generation").

Embeddings and landmarks go in as batched arrays, verdicts and the similarities behind them come out; nothing here
reads a file, holds state or draws a number. Embeddings are rows of length one (`unit_rows`). The rules, in the order in
which a candidate meets them:

    face       exactly one face was detected, with enough probability         (an identity's first sample only)
    frontal    it faces the camera                                            (an identity's first sample only)
    quality    its raw feature is long enough, its picture sharp enough       every sample, where it is asked for
    private    no real feature is nearer than `unique`                        every sample, EVERY real feature
    unique     no other synthetic identity's reference is nearer than that    every sample
    same       the identity's reference is at least `same` near               later samples
    repeat     no accepted sample of the identity is nearer than `repeat`     later samples
    tries      the identity was completed within the tries allowed            (judged by generation.selection)

Similarity is the cosine; `absolute=True` takes its absolute value in the private and unique rules, as the original
did (a feature that points away from a person's is not like that person, so the signed cosine is our default).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from torch_utils.search import Gallery, Rows, cosines, nearest, over

FRONTAL_TOLERANCE = 1 / 3  # of the eyes' distances from the nose

Unit = Rows  # float32 [N, D], of length one


class Judged(NamedTuple):
    """A rule's verdict on N candidates and what it rests on."""

    passed: NDArray[np.bool_]  # [N]
    similarity: NDArray[np.float64]  # [N] highest similarity, -inf where there was nothing to compare with
    nearest: NDArray[np.int64]  # [N] row of the gallery that reached it, -1 where there was nothing


def unit_rows(features: ArrayLike) -> Unit:
    """Rows of [N, D] at length one, float32. Raises ValueError for a row that is zero or not finite."""
    rows = np.asarray(features, dtype=np.float64)
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    if not np.all(np.isfinite(norms)) or np.any(norms == 0):
        raise ValueError("an embedding is zero or not finite")
    return (rows / norms).astype(np.float32)


# ----------------------------------------------------------------------------
# Rule 1: one face that looks into the camera.


def shows_one_face(found: ArrayLike, probability: ArrayLike, minimum: float) -> NDArray[np.bool_]:
    """found [N]: the detector saw exactly one face; probability [N] of it; minimum: the lowest that passes."""
    return np.asarray(found, dtype=bool) & (np.asarray(probability, dtype=np.float64) >= minimum)


def is_frontal(points: ArrayLike) -> NDArray[np.bool_]:
    """points [N, 5, 2]: left eye, right eye, nose, mouth corners as x, y in pixels -> [N].

    |(lx - nx) + (rx - nx)| < (|lx - nx| + |rx - nx|) / 3: the nose stands near the middle between the eyes. Landmarks
    that are not numbers are not frontal.
    """
    x = np.asarray(points, dtype=np.float64)[..., 0]  # [N, 5]
    left, right = x[:, 0] - x[:, 2], x[:, 1] - x[:, 2]  # [N]
    return np.asarray(np.abs(left + right) < (np.abs(left) + np.abs(right)) * FRONTAL_TOLERANCE)


# ----------------------------------------------------------------------------
# The quality of a sample, where it is asked for.


def sharpness(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Variance of the Laplacian of each picture's grey levels, [N] of uint8 [N, C, H, W].

    Grey is the mean of the channels, 0 to 255; the Laplacian is the four neighbours' sum less four times the pixel,
    inside the picture's outermost pixels. It grows with contrast and resolution, so a floor holds for one generator.
    """
    if min(pictures.shape[2:]) < 3:
        return np.zeros(len(pictures))
    grey = pictures.mean(axis=1, dtype=np.float64)  # [N, H, W]
    inside = grey[:, 1:-1, 1:-1]
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return np.asarray((around - 4 * inside).var(axis=(1, 2)))


def is_good(values: ArrayLike, minimum: float) -> NDArray[np.bool_]:
    """values [N]: feature norms or sharpnesses, at least `minimum`; what is not a number is not good."""
    return np.asarray(values, dtype=np.float64) >= minimum


# ----------------------------------------------------------------------------
# Rule 2: like nobody else, neither a real person nor another synthetic one.


def is_private(embeddings: Unit, real: Gallery | Unit, unique: float, absolute: bool = False) -> Judged:
    """Every real feature at most `unique` near. embeddings [N, D], real [R, D]."""
    similarity, index = nearest(embeddings, real, absolute)
    return Judged(similarity <= unique, similarity, index)


def is_unique(
    embeddings: Unit, references: Gallery | Unit, unique: float, absolute: bool = False, own: ArrayLike | None = None
) -> Judged:
    """Every other identity's reference at most `unique` near.

    embeddings [N, D], references [M, D]; own: the row of each candidate's own identity, which does not count.
    """
    similarity, index = nearest(embeddings, references, absolute, exclude=own)
    return Judged(similarity <= unique, similarity, index)


# ----------------------------------------------------------------------------
# Rule 3: the same person. Rule 4: but another picture.


def is_same_person(embeddings: Unit, reference: Unit, same: float) -> Judged:
    """The identity's first sample at least `same` near. embeddings [N, D], reference [D]."""
    similarity = cosines(embeddings, reference[None])  # [N]
    return Judged(similarity >= same, similarity, np.zeros(len(similarity), dtype=np.int64))


def is_no_repeat(embeddings: Unit, accepted: Unit, repeat: float) -> Judged:
    """Every accepted sample of the identity at most `repeat` near. embeddings [N, D], accepted [M, D]."""
    similarity, index = nearest(embeddings, accepted)
    return Judged(similarity <= repeat, similarity, index)


# ----------------------------------------------------------------------------
# Rules 2 and 4 where what passes joins what the next is compared with.


def admit_in_order(
    embeddings: Unit,
    gallery: Gallery | Unit,
    highest: float,
    considered: ArrayLike | None = None,
    limit: int | None = None,
    absolute: bool = False,
) -> Judged:
    """Judge candidates one after another: at most `highest` near to the gallery and to those admitted before.

    embeddings [N, D], gallery [M, D]. considered [N]: candidates that may be admitted; the others are only compared.
    After `limit` admissions nobody is admitted any more. `passed` says who was admitted; `nearest` counts the gallery
    first and candidates (row + M) after it. The same as calling the rule once a candidate, in two matrix products.

    Memory: N times N. A long list goes through in blocks, each followed by `gallery.append(block[judged.passed])`;
    the verdicts do not depend on the blocks.
    """
    device = gallery.device if isinstance(gallery, Gallery) else torch.device("cpu")
    similarity, index = nearest(embeddings, gallery, absolute)  # [N], [N]
    free = similarity <= highest
    if considered is not None:
        free &= np.asarray(considered, dtype=bool)
    conflicts = over(embeddings, highest, absolute, device) & free & free[:, None]  # [N, N]
    admitted = free & ~conflicts.any(axis=1)
    for row in np.flatnonzero(free & ~admitted):  # the few that depend on others
        admitted[row] = not np.any(conflicts[row] & admitted)
    admitted[np.flatnonzero(admitted)[limit:] if limit is not None else []] = False
    joined = np.flatnonzero(admitted)
    among = Gallery.of(embeddings[joined], device)
    near, which = nearest(embeddings, among, absolute, until=np.cumsum(admitted) - admitted)
    nearer = near > similarity
    similarity[nearer], index[nearer] = near[nearer], len(gallery) + joined[which[nearer]]
    return Judged(admitted, similarity, index)
