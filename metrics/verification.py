"""What the scores of a verification benchmark are worth: accuracy in folds, error rates, a DET plot.

The protocol of LFW's View 2, which the .bin sets share: for each fold the threshold that is best on all others is
tested on it; the accuracy is the mean over the folds, its sd the population's. A pair is taken to be of one person
where its score is at least the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnnlib.files import StrPath, atomic_path
from metrics.identity import det, eer_of, fnmr_at_fmrs, roc

FOLDS = 10


@dataclass(frozen=True)
class Verification:
    """The figures of one benchmark. fnmr: by the text of the FMR; None where the non-mated pairs are too few for it."""

    accuracy: float
    accuracy_sd: float
    fold_accuracies: tuple[float, ...]
    thresholds: tuple[float, ...]
    eer: float
    fnmr: dict[str, float | None]
    mated: int
    nonmated: int

    def figures(self) -> dict[str, float | None]:
        """By the metric's name, as in metrics.jsonl."""
        rates = {f"fnmr_at_fmr_{text}": value for text, value in self.fnmr.items()}
        return {"accuracy": self.accuracy, "accuracy_sd": self.accuracy_sd, "eer": self.eer, **rates}

    def notes(self) -> list[str]:
        """What a reader of the figures must know, a sentence each."""
        unknown = [text for text, value in self.fnmr.items() if value is None]
        notes = []
        if unknown:
            notes.append(f"{self.nonmated} non-mated pairs are too few for FNMR at FMR {', '.join(unknown)}")
        if len(self.fold_accuracies) < FOLDS:
            notes.append(f"{len(self.fold_accuracies)} folds instead of {FOLDS}")
        return notes


def verify(scores: ArrayLike, same: ArrayLike, folds: ArrayLike | None = None) -> Verification:
    """All figures of one benchmark.

    Args:
        scores: float [P], higher is more alike.
        same: bool [P].
        folds: int [P], the fold of each pair. None: contiguous tenths, or a fold a pair of fewer than ten.

    Raises:
        ValueError: scores that are not finite, pairs of one kind only, fewer than two folds.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    if values.ndim != 1 or values.shape != truth.shape:
        raise ValueError(f"scores and same must be [P] both, not {values.shape} and {truth.shape}")
    if not truth.any() or truth.all():
        raise ValueError(f"all {len(truth)} pairs are of {'one person' if truth.any() else 'two people'}")
    if not np.isfinite(values).all():
        raise ValueError("a score is not finite")
    parts = contiguous_folds(len(values)) if folds is None else np.unique(np.asarray(folds), return_inverse=True)[1]
    accuracies, thresholds = fold_accuracies(values, truth, parts)
    mated, nonmated = values[truth], values[~truth]
    curve = roc(mated, nonmated)
    return Verification(
        accuracy=float(accuracies.mean()),
        accuracy_sd=float(accuracies.std()),
        fold_accuracies=tuple(accuracies.tolist()),
        thresholds=tuple(thresholds.tolist()),
        eer=eer_of(curve),
        fnmr=fnmr_at_fmrs(curve, len(nonmated)),
        mated=len(mated),
        nonmated=len(nonmated),
    )


# ----------------------------------------------------------------------------
# Folds.


def contiguous_folds(count: int) -> NDArray[np.int64]:
    """The fold of each of `count` pairs: tenths in their order, of sizes that differ by one at most."""
    folds = min(FOLDS, count)
    return np.arange(count) * folds // max(count, 1)


def fold_accuracies(
    scores: NDArray[np.float64], same: NDArray[np.bool_], folds: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy on each fold with the threshold that is best on the others, and that threshold: [F], [F].

    scores, same, folds: [P]; folds from 0 on without gaps.
    """
    order = np.argsort(scores, kind="stable")
    scores, same, folds = scores[order], same[order], folds[order]
    count = int(folds.max()) + 1
    if count < 2:
        raise ValueError("fewer than two folds")
    thresholds = np.array([best_threshold(scores[folds != fold], same[folds != fold]) for fold in range(count)])
    correct = (scores >= thresholds[folds]) == same
    return np.bincount(folds, weights=correct) / np.bincount(folds), thresholds


def best_threshold(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """The threshold of the highest accuracy on ascending scores.

    Candidates lie midway between neighbouring different scores, and at -inf and +inf; of several that are equally good
    the middle one counts (the lower of two).
    """
    begins = np.flatnonzero(np.append(True, scores[1:] > scores[:-1]))  # of each run of equal scores
    below = np.append(begins, len(scores))  # [K + 1] scores under each candidate
    mated_below = np.append(0, np.cumsum(same))[below]
    right = (below - mated_below) + (same.sum() - mated_below)  # non-mated below, mated above
    best = np.flatnonzero(right == right.max())
    chosen = int(best[(len(best) - 1) // 2])
    if chosen == 0:
        return -np.inf
    if chosen == len(begins):
        return np.inf
    low, high = scores[begins[chosen] - 1], scores[begins[chosen]]
    middle = low + (high - low) / 2
    return float(middle if middle > low else high)


# ----------------------------------------------------------------------------
# DET plot.

DET_TICKS = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
DET_LIMITS = (5e-5, 0.85)


def draw_det(path: StrPath, curves: Sequence[tuple[str, ArrayLike, ArrayLike]]) -> None:
    """A PNG with FNMR over FMR, both on the scale of the normal deviate (Martin et al. 1997), one line a benchmark.

    curves: label, scores [P] and same [P] each. Beyond the smallest FMR that a benchmark's pairs can show, 1 / its
    non-mated pairs, there is no line.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from scipy.special import ndtri

    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    low, high = ndtri(DET_LIMITS)
    axes.plot([low, high], [low, high], color="0.75", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    axes.annotate("equal error", (ndtri(0.45), ndtri(0.5)), color="0.55", fontsize=8, rotation=45, ha="center")
    for label, scores, same in curves:
        values, truth = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
        mated, nonmated = values[truth], values[~truth]
        curve = roc(mated, nonmated)
        x, y = det(curve, len(mated), len(nonmated))
        axes.plot(x, y, drawstyle="steps-post", linewidth=1.6, label=f"{label} (EER {eer_of(curve):.2%})")
    texts = [f"{100 * tick:g} %" for tick in DET_TICKS]
    for axis, name in ((axes.xaxis, "false match rate"), (axes.yaxis, "false non-match rate")):
        axis.set_ticks(ndtri(DET_TICKS), texts, fontsize=9)
        axis.set_label_text(name)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.grid(color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    with atomic_path(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
