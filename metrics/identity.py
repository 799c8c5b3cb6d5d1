"""Identity metrics on similarity scores, in the words of ISO/IEC 19795-1.

A *mated* score compares two pictures of one person, a *non-mated* score pictures of two people. A comparison matches
when its score is at least the threshold, so

    FMR(t)  = share of non-mated scores >= t      (false match rate, falls with t)
    FNMR(t) = share of mated scores     <  t      (false non-match rate, rises with t)

Everything here is a pure function on float64 arrays; features become scores in `mated_nonmated`, in blocks, so memory
is bounded by the scores that are asked for and not by a similarity matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scores = NDArray[np.float64]
FMRS = {"1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4}  # at which FNMR is told, by their text


class Curve(NamedTuple):
    """Both error rates at every threshold where one of them changes."""

    thresholds: Scores  # [T] ascending, the last one is +inf (nothing matches)
    fmr: Scores  # [T] from 1 down to 0
    fnmr: Scores  # [T] from 0 up to 1


class OperatingPoint(NamedTuple):
    """One point of the curve: the threshold and the error rates there."""

    threshold: float
    fmr: float
    fnmr: float


class Leakage(NamedTuple):
    """How many synthetic samples match a real person, and how close the closest one comes."""

    rate: float  # share of the samples whose score to some real feature is over the threshold
    highest: float  # the highest score of all


# ----------------------------------------------------------------------------------------------------------------------
# Features to scores.


def unit_rows(features: ArrayLike) -> Scores:
    """Scale every row of features [N, D] to length one, in float64.

    Raises ValueError for rows that are zero or not finite: they have no direction, so no cosine.
    """
    rows = np.asarray(features, dtype=np.float64)  # [N, D]
    if rows.ndim != 2:
        raise ValueError(f"features must be [N, D], not {rows.shape}")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)  # [N, 1]
    if not np.all(np.isfinite(norms)) or np.any(norms == 0):
        raise ValueError("a feature is zero or not finite")
    return rows / norms


def mated_nonmated(features: ArrayLike, labels: Sequence[object] | NDArray, block: int = 1024) -> tuple[Scores, Scores]:
    """Cosine of every unordered pair of features, split into mated and non-mated.

    features: [N, D], any lengths but zero. labels: N identities, compared for equality.
    Returns (mated [P], nonmated [Q]) with P + Q = N (N - 1) / 2, in the order of the pairs (i, j > i).
    Raises ValueError if the counts differ or a feature has no direction.
    """
    rows = unit_rows(features)  # [N, D]
    if len(labels) != len(rows):
        raise ValueError(f"{len(rows)} features but {len(labels)} labels")
    _, codes = np.unique(np.asarray([str(label) for label in labels]), return_inverse=True)  # [N]
    mated: list[Scores] = [np.empty(0)]
    nonmated: list[Scores] = [np.empty(0)]
    for start in range(0, len(rows), block):
        stop = min(start + block, len(rows))
        scores = rows[start:stop] @ rows[start:].T  # [B, N - start]
        upper = np.arange(len(rows) - start)[None, :] > np.arange(stop - start)[:, None]  # [B, N - start]
        same = codes[start:stop, None] == codes[None, start:]  # [B, N - start]
        mated.append(scores[upper & same])
        nonmated.append(scores[upper & ~same])
    return np.clip(np.concatenate(mated), -1, 1), np.clip(np.concatenate(nonmated), -1, 1)


def mated_nonmated_across(
    first: tuple[ArrayLike, Sequence[str], Sequence[str]],
    second: tuple[ArrayLike, Sequence[str], Sequence[str]],
    block: int = 1024,
) -> tuple[Scores, Scores]:
    """Cosine of every feature of one spectrum with every one of another, split into mated and non-mated.

    first, second: features [N, D] and [M, D], each with its identities and the names of its pictures. Pictures of one
    name are one moment seen twice and are not compared: pose and expression would be all the same.
    Returns (mated [P], nonmated [Q]). Raises ValueError if the counts differ or a feature has no direction.
    """
    rows, columns = unit_rows(first[0]), unit_rows(second[0])
    for features, (_, identities, names) in ((rows, first), (columns, second)):
        if not len(features) == len(identities) == len(names):
            raise ValueError(f"{len(features)} features, {len(identities)} identities and {len(names)} names")
    people = np.unique([*first[1], *second[1]], return_inverse=True)[1]  # [N + M]
    moments = np.unique([*first[2], *second[2]], return_inverse=True)[1]  # [N + M]
    mated: list[Scores] = [np.empty(0)]
    nonmated: list[Scores] = [np.empty(0)]
    for part in (slice(start, start + block) for start in range(0, len(rows), block)):
        scores = np.clip(rows[part] @ columns.T, -1, 1)  # [B, M]
        same, at_once = (codes[: len(rows)][part, None] == codes[None, len(rows) :] for codes in (people, moments))
        mated.append(scores[same & ~at_once])
        nonmated.append(scores[~same])
    return np.concatenate(mated), np.concatenate(nonmated)


# ----------------------------------------------------------------------------------------------------------------------
# Error rates.


def fmr_at(nonmated: ArrayLike, threshold: ArrayLike) -> Scores:
    """False match rate at each threshold: the share of non-mated scores at or over it."""
    ordered = _sorted_scores(nonmated, "non-mated")
    below = np.searchsorted(ordered, np.asarray(threshold, dtype=np.float64), side="left")
    return np.asarray((len(ordered) - below) / len(ordered))


def fnmr_at(mated: ArrayLike, threshold: ArrayLike) -> Scores:
    """False non-match rate at each threshold: the share of mated scores under it."""
    ordered = _sorted_scores(mated, "mated")
    below = np.searchsorted(ordered, np.asarray(threshold, dtype=np.float64), side="left")
    return np.asarray(below / len(ordered))


def fmr_fnmr_at(mated: ArrayLike, nonmated: ArrayLike, threshold: float) -> OperatingPoint:
    """Both error rates at one threshold."""
    return OperatingPoint(float(threshold), float(fmr_at(nonmated, threshold)), float(fnmr_at(mated, threshold)))


def roc(mated: ArrayLike, nonmated: ArrayLike) -> Curve:
    """FMR and FNMR at every distinct score and at +inf; tied scores make one point. A DET curve is the same data."""
    ordered_mated = _sorted_scores(mated, "mated")
    ordered_nonmated = _sorted_scores(nonmated, "non-mated")
    thresholds = np.append(np.unique(np.concatenate([ordered_mated, ordered_nonmated])), np.inf)  # [T]
    return Curve(thresholds, fmr_at(ordered_nonmated, thresholds), fnmr_at(ordered_mated, thresholds))


def eer(mated: ArrayLike, nonmated: ArrayLike) -> float:
    """Equal error rate.

    The curves are steps and seldom meet. Of the two neighbouring thresholds where FMR - FNMR changes its sign, the one
    with the smaller sum of errors counts, and the rate is the mean of both errors there (FVC2000, Maio et al. 2002).
    """
    return eer_of(roc(mated, nonmated))


def eer_of(curve: Curve) -> float:
    """`eer` of scores whose curve is there already: of many millions, sorting is the work."""
    after = int(np.argmax(curve.fmr <= curve.fnmr))  # first threshold where the curves have met or crossed
    before = max(after - 1, 0)
    if curve.fmr[after] == curve.fnmr[after]:
        before = after
    sums = curve.fmr + curve.fnmr
    return float(min(sums[before], sums[after]) / 2)


def fnmr_at_fmr(mated: ArrayLike, nonmated: ArrayLike, fmr: float) -> OperatingPoint:
    """The lowest threshold whose false match rate is at most `fmr`, with the error rates there.

    With fewer than 1 / fmr non-mated scores the threshold lies over all of them. It is one of the scores, or +inf.
    """
    return point_at_fmr(roc(mated, nonmated), fmr)


def point_at_fmr(curve: Curve, fmr: float) -> OperatingPoint:
    """`fnmr_at_fmr` of scores whose curve is there already."""
    if not 0 <= fmr <= 1:
        raise ValueError(f"fmr must lie in [0, 1], not {fmr}")
    index = int(np.argmax(curve.fmr <= fmr))
    return OperatingPoint(float(curve.thresholds[index]), float(curve.fmr[index]), float(curve.fnmr[index]))


def points_at_fmrs(curve: Curve, nonmated: int) -> dict[str, OperatingPoint]:
    """`point_at_fmr` of each of FMRS that so many non-mated scores, those of the curve, can tell."""
    return {text: point_at_fmr(curve, fmr) for text, fmr in FMRS.items() if nonmated * fmr >= 1 - 1e-9}


def fnmr_at_fmrs(curve: Curve, nonmated: int) -> dict[str, float | None]:
    """FNMR at each of FMRS; None at those that the non-mated scores are too few for."""
    points = points_at_fmrs(curve, nonmated)
    return {text: points[text].fnmr if text in points else None for text in FMRS}


def det(curve: Curve, mated: int, nonmated: int) -> tuple[Scores, Scores]:
    """FMR and FNMR as normal deviates [T], what a DET plot draws (Martin et al. 1997): scores that are distributed
    normally lie on a line.

    mated, nonmated: how many scores the curve is of. Beyond the smallest FMR that they can show there is no point; a
    share of 0 or 1, which has no deviate, is half a comparison away from it.
    """
    from scipy.special import ndtri

    shown = curve.fmr > 0
    rates = ((curve.fmr[shown], 0.5 / nonmated), (curve.fnmr[shown], 0.5 / mated))
    fmr, fnmr = (ndtri(np.clip(rate, least, 1 - least)) for rate, least in rates)
    return fmr, fnmr


def histogram(scores: ArrayLike, bins: int = 200, low: float = -1, high: float = 1) -> NDArray[np.int64]:
    """How many scores lie in each of `bins` classes of equal width from `low` to `high`, which belongs to the last.
    What lies beyond counts to the first and the last, so that none is lost."""
    values = np.clip(np.asarray(scores, dtype=np.float64).ravel(), low, high)
    return np.histogram(values, bins=bins, range=(low, high))[0].astype(np.int64)


def error_rates(mated: Scores, nonmated: Scores) -> dict[str, float]:
    """Rates by name: EER, FNMR at each of FMRS, both errors at the filter's threshold, mean - 2 sd of the mated scores,
    and the moments of both kinds of scores. An FMR that the non-mated scores are too few to tell is left out."""
    curve, point = roc(mated, nonmated), fmr_fnmr_at(mated, nonmated, mated.mean() - 2 * mated.std())
    return {
        "eer": eer_of(curve),
        **{f"fnmr_at_fmr_{text}": at.fnmr for text, at in points_at_fmrs(curve, len(nonmated)).items()},
        "mated_mean": float(mated.mean()),
        "mated_sd": float(mated.std()),
        "nonmated_mean": float(nonmated.mean()),
        "nonmated_sd": float(nonmated.std()),
        "fmr_at_mean_minus_2sd": point.fmr,
        "fnmr_at_mean_minus_2sd": point.fnmr,
    }


# ----------------------------------------------------------------------------------------------------------------------
# Separability and leakage.


def fdr(mated: ArrayLike, nonmated: ArrayLike) -> float:
    """Fisher discriminant ratio (mu_m - mu_n)^2 / (var_m + var_n), population variances; inf if both are constant."""
    genuine = _sorted_scores(mated, "mated")
    impostor = _sorted_scores(nonmated, "non-mated")
    distance = (genuine.mean() - impostor.mean()) ** 2
    spread = genuine.var() + impostor.var()
    if spread == 0:
        return 0.0 if distance == 0 else float("inf")
    return float(distance / spread)


def d_prime(mated: ArrayLike, nonmated: ArrayLike) -> float:
    """Sensitivity index d' = |mu_m - mu_n| / sqrt((var_m + var_n) / 2) = sqrt(2 FDR)."""
    return float(np.sqrt(2 * fdr(mated, nonmated)))


def leakage(real_similarity: ArrayLike, threshold: float) -> Leakage:
    """Share of synthetic samples over the threshold to any real feature, and the highest score.

    real_similarity: [N], for each synthetic sample its highest score to any real feature. A score equal to the
    threshold is not over it (the filter's rule allows it).
    """
    scores = _sorted_scores(real_similarity, "real similarity")
    return Leakage(float(np.mean(scores > threshold)), float(scores[-1]))


def _sorted_scores(scores: ArrayLike, name: str) -> Scores:
    """Flat ascending float64 copy; an empty or non-finite list is refused by name."""
    values = np.sort(np.asarray(scores, dtype=np.float64).ravel())
    if len(values) == 0:
        raise ValueError(f"there is no {name} score")
    if not np.all(np.isfinite(values)):
        raise ValueError(f"a {name} score is not finite")
    return values
