"""Whether a recognition model takes the two pictures of a pair for one person, and a drawn picture for the person whose
feature was asked for: each cosine beside those of strangers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metrics.identity import eer_of, unit_rows
from metrics.people import people_of, siblings_of
from metrics.registry import BOTH, Result, Setting, register
from metrics.rows import FEATURES, Seen
from metrics.score_counts import ScoreCounts, curve_of, fdr_of
from torch_utils.spectra import SPECTRA

VISIBLE = next(iter(SPECTRA))  # whose features are conditions
MOST_OTHERS = 4096  # strangers that each picture is compared with, at most: the first
BLOCK = 1024

Features = NDArray[np.floating]


class OwnOthers(NamedTuple):
    """Cosines of what belongs together, and of what does not."""

    own: ScoreCounts
    others: ScoreCounts


def own_and_others(first: Features, second: Features, people: NDArray[np.int64]) -> OwnOthers:
    """Cosine of row i with row i, and with rows of other people: [N, D], [N, D] and a number for each person [N].

    Of other people the first MOST_OTHERS rows of `second` count. Memory: a block. Raises ValueError for a row that is
    zero or not finite.
    """
    ours, theirs = unit_rows(first), unit_rows(second)
    found = OwnOthers(ScoreCounts(_rounded((ours * theirs).sum(axis=1))), ScoreCounts())
    columns = slice(0, MOST_OTHERS)
    for part in (slice(start, start + BLOCK) for start in range(0, len(ours), BLOCK)):
        strangers = people[part, None] != people[None, columns]  # [B, M]
        found.others.add(_rounded((ours[part] @ theirs[columns].T)[strangers]))
    return found


def _rounded(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums in another order differ in the last digits; pictures that are all alike must not be told apart by them."""
    return np.round(cosines, 12)


# ----------------------------------------------------------------------------
# VIS against NIR.

PAIRED = ("apart", "pair", "others", "eer")


@register(
    "cross_id{N}", needs=("arcface",), both=True, higher_is_better=True, parts=(*PAIRED, *(f"{p}_real" for p in PAIRED))
)
def cross_id(real: Seen, fake: Seen, setting: Setting) -> list[Result]:
    """pair: mean cosine between the VIS and the NIR picture of a pair. others: between the VIS picture of one and the
    NIR picture of somebody else. apart: d' between the two, below 0 where strangers are closer; a network
    that draws everybody alike has none.
    eer: of telling the one from the other."""
    results = []
    for of, seen in (("", fake), ("_real", real)):
        vis, nir = (seen.rows["arcface"][f"{spectrum}/{FEATURES}"] for spectrum in SPECTRA)
        found = own_and_others(vis, nir, people_of(seen.labels))
        results += [Result(BOTH, found.own.mean, "pair" + of, found.own.sd), *_beside_others(BOTH, found, of)]
    return results


def _beside_others(spectrum: str, found: OwnOthers, of: str = "") -> list[Result]:
    """What strangers are needed for; nothing where there are none."""
    own, others = found
    if not others.total:
        return []
    apart = float(np.copysign(np.sqrt(2 * fdr_of(own, others)), own.mean - others.mean))
    rate = eer_of(curve_of(own, others))
    known = [Result(spectrum, apart, "apart" + of)] if np.isfinite(apart) else []
    return [*known, Result(spectrum, others.mean, "others" + of, others.sd), Result(spectrum, rate, "eer" + of)]


# ----------------------------------------------------------------------------
# Condition against picture.


@register(
    "id_consistency{N}",
    needs=("arcface",),
    conditions=True,
    higher_is_better=True,
    parts=("cosine", "others", "apart", "eer", "cosine_real"),
)
def id_consistency(real: Seen, fake: Seen, setting: Setting) -> list[Result]:
    """cosine: mean, between a drawn picture and the feature that it was drawn for. others: and features that it was not
    drawn for. apart, eer: of the two, as in cross_id. cosine_real: between a real picture and the VIS feature of
    another picture of the same person, which is what a condition is: no network need come closer."""
    conditions, results = fake.labels["conditions"], []
    asked, ours = people_of(fake.labels), real.by_spectrum("arcface")
    own, others = siblings_of(people_of(real.labels))
    for spectrum, features in fake.by_spectrum("arcface").items():
        found = own_and_others(features, conditions, asked)
        results += [Result(spectrum, found.own.mean, "cosine", found.own.sd), *_beside_others(spectrum, found)]
        if len(own) and VISIBLE in ours:
            cosines = (unit_rows(ours[spectrum][own]) * unit_rows(ours[VISIBLE][others])).sum(axis=1)
            results.append(Result(spectrum, float(cosines.mean()), "cosine_real", float(cosines.std())))
    return results
