"""Verification: are two pictures of one person? Benchmarks of pairs -> cosine scores, with the flip test.

The flip test sums the features of a picture and of its mirror image before the cosine, as the standard benchmarks
do (FACTS.md, "Identity metrics"). What the scores are worth is metrics/verification.py's business.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arcface.alignment import Template
from arcface.benchmarks import Benchmark
from arcface.embed import embed_source
from arcface.weights import RecognitionModel
from dnnlib.errors import UserError


@dataclass(frozen=True, eq=False)
class BenchmarkScores:
    """Scores of one benchmark's pairs. scores: float64 [P], higher is more alike; same: bool [P]; folds: int64 [P] or
    None for contiguous tenths; pictures: how many different ones, aligned like this, were embedded, in so many seconds.
    """

    name: str
    spectra: str
    scores: np.ndarray
    same: np.ndarray
    folds: np.ndarray | None
    pictures: int
    seconds: float
    alignment: Template | None


def score_benchmarks(
    model: RecognitionModel,
    benchmarks: Sequence[Benchmark],
    flip: bool = True,
    batch_size: int = 64,
    show_progress: bool = False,
    workers: int | None = None,
) -> list[BenchmarkScores]:
    """Scores of all benchmarks, each different picture of one embedded once, streamed from where it lies.

    workers: processes that read pictures, as `embed_source` has them.

    Raises UserError for a picture that cannot be read, and for a model that gives no direction (NaN, zero).
    """
    return [_score(model, benchmark, flip, batch_size, show_progress, workers) for benchmark in benchmarks]


def _score(
    model: RecognitionModel, benchmark: Benchmark, flip: bool, batch_size: int, show_progress: bool, workers: int | None
) -> BenchmarkScores:
    began = time.perf_counter()
    pictures = benchmark.pictures
    features = embed_source(model, pictures, batch_size, workers, flip, show_progress, benchmark.alignment)
    try:
        scores = pair_scores(features, benchmark.first, benchmark.second)
    except ValueError as error:
        raise UserError(f"{benchmark.name}: {error}; the model is not sound") from error
    seconds = time.perf_counter() - began
    return BenchmarkScores(
        benchmark.name,
        benchmark.spectra,
        scores,
        benchmark.same,
        benchmark.folds,
        len(pictures),
        seconds,
        benchmark.alignment,
    )


def pair_scores(features: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of features[first[i]] with features[second[i]]: [N, C], int [P], int [P] -> float64 [P].

    Raises:
        ValueError: a row of zeros or NaN, which has no direction.
    """
    rows = np.asarray(features, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)  # [N, 1]
    sound = np.isfinite(lengths) & (lengths > 0)
    if not sound.all():
        raise ValueError(f"feature {int(np.argmin(sound))} has no direction")
    unit = rows / lengths
    return np.clip(np.einsum("pc,pc->p", unit[first], unit[second]), -1, 1)
