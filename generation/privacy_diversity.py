"""The privacy-and-diversity filter: five rules as small pure functions (FACTS.md, "Identity features and generation").

Embeddings and landmarks go in as batched arrays, verdicts and the similarities behind them come out; nothing here
reads a file, holds state or draws a number. Embeddings are rows of length one (`unit_rows`). The rules, in the order in
which a candidate meets them:

    face       exactly one face was detected, with enough probability         (an identity's first sample only)
    frontal    it faces the camera                                            (an identity's first sample only)
    private    no real feature is nearer than `unique`                        every sample, EVERY real feature
    unique     no other synthetic identity's reference is nearer than that    every sample
    same       the identity's reference is at least `same` near               later samples
    repeat     no accepted sample of the identity is nearer than `repeat`     later samples
    tries      the identity was completed within the tries allowed            (judged by generation.selection)

Similarity is the cosine; `absolute=True` takes its absolute value in the private and unique rules, as the original
did (a feature that points away from a person's is not like that person, so the signed cosine is our default).
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_FACE_PROBABILITY = 0.97
FRONTAL_TOLERANCE = 1 / 3  # of the eyes' distances from the nose
KEPT = "kept"

Unit = NDArray[np.float32]


class Rule(str, Enum):
    """What can refuse a candidate. The value is the verdict in manifest.jsonl and the key in summary.json."""

    FACE = "face"
    FRONTAL = "frontal"
    PRIVATE = "private"
    UNIQUE = "unique"
    SAME = "same"
    REPEAT = "repeat"
    TRIES = "tries"


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
# Exact nearest neighbour, in blocks.


def nearest(
    probes: Unit, gallery: Unit, absolute: bool = False, exclude: ArrayLike | None = None, block: int = 65536
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The gallery row most similar to each probe: (similarity [N], index [N]).

    probes [N, D], gallery [M, D], rows of length one. exclude: for each probe a gallery row that does not count, -1 for
    none. The search is exact: float32 products find the row, and its similarity is then taken in float64. With nothing
    to compare with, the similarity is -inf and the index -1. Memory: N times `block` numbers.
    """
    count = len(probes)
    best = np.full(count, -np.inf, dtype=np.float32)
    index = np.full(count, -1, dtype=np.int64)
    skipped = np.full(count, -1) if exclude is None else np.asarray(exclude, dtype=np.int64)
    rows = np.arange(count)
    for start in range(0, len(gallery), block):
        scores = probes @ gallery[start : start + block].T  # [N, B]
        if absolute:
            np.abs(scores, out=scores)
        here = (skipped >= start) & (skipped < start + scores.shape[1])
        scores[rows[here], skipped[here] - start] = -np.inf
        top = scores.argmax(axis=1)  # [N]
        better = scores[rows, top] > best
        best[better], index[better] = scores[rows, top][better], top[better] + start
    similarity = np.full(count, -np.inf)
    found = index >= 0
    if found.any():
        exact = np.einsum("nd,nd->n", probes[found].astype(np.float64), gallery[index[found]].astype(np.float64))
        similarity[found] = np.abs(exact) if absolute else exact
    return similarity, index


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
# Rule 2: like nobody else, neither a real person nor another synthetic one.


def is_private(embeddings: Unit, real: Unit, unique: float, absolute: bool = False) -> Judged:
    """Every real feature at most `unique` near. embeddings [N, D], real [R, D]."""
    similarity, index = nearest(embeddings, real, absolute)
    return Judged(similarity <= unique, similarity, index)


def is_unique(
    embeddings: Unit, references: Unit, unique: float, absolute: bool = False, own: ArrayLike | None = None
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
    similarity = embeddings.astype(np.float64) @ reference.astype(np.float64)  # [N]
    return Judged(similarity >= same, similarity, np.zeros(len(similarity), dtype=np.int64))


def is_no_repeat(embeddings: Unit, accepted: Unit, repeat: float) -> Judged:
    """Every accepted sample of the identity at most `repeat` near. embeddings [N, D], accepted [M, D]."""
    similarity, index = nearest(embeddings, accepted)
    return Judged(similarity <= repeat, similarity, index)


# ----------------------------------------------------------------------------
# Rules 2 and 4 where what passes joins what the next is compared with.


def admit_in_order(
    embeddings: Unit,
    gallery: Unit,
    highest: float,
    considered: ArrayLike | None = None,
    limit: int | None = None,
    absolute: bool = False,
) -> Judged:
    """Judge candidates one after another: at most `highest` near to the gallery and to those admitted before.

    embeddings [N, D], gallery [M, D]. considered [N]: candidates that may be admitted; the others are only compared.
    After `limit` admissions nobody is admitted any more. `passed` says who was admitted; `nearest` counts the gallery
    first and candidates (row + M) after it. The same as calling the rule once a candidate, with one matrix product.
    """
    may_join = np.ones(len(embeddings), dtype=bool) if considered is None else np.asarray(considered, dtype=bool)
    similarity, index = nearest(embeddings, gallery, absolute)  # [N], [N]
    among = embeddings.astype(np.float64) @ embeddings.astype(np.float64).T  # [N, N]
    if absolute:
        among = np.abs(among)
    admitted = np.zeros(len(embeddings), dtype=bool)
    for row in range(len(embeddings)):
        before = np.flatnonzero(admitted)
        if len(before) and among[row, before].max() > similarity[row]:
            index[row] = len(gallery) + before[among[row, before].argmax()]
            similarity[row] = among[row, before].max()
        room = limit is None or len(before) < limit
        admitted[row] = may_join[row] and room and similarity[row] <= highest
    return Judged(admitted, similarity, index)
