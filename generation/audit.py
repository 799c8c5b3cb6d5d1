"""An audit: what a finished set of synthetic pictures gives away of real people, and how good its people are.

Everything here is computed from embeddings and thumbnails, exactly and over all pairs (`identity`: of 100,000 synthetic
pictures at most), in bounded memory; files are in
generation.audit_files, words in generation.audit_report.

    leakage     share of samples that match some real picture at the real set's FMR of 1e-2, 1e-3, 1e-4. A sample is
                compared with MANY pictures, so a stranger would match some, too: the same share is told of real people
                against all others, and of held-out people, and only what goes beyond it is a leak.
    membership  whether people whom the generator has learned from are nearer to the synthetic set than held-out ones
    duplicates  pictures that are nearly the same, pixel by pixel, as a real one or as another of the same person
    identity    mated and non-mated scores of the synthetic set beside the real one's
    diversity   how much the pictures of one person differ
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from generation.privacy_diversity import Unit
from generation.thresholds import Thresholds, fmr_points
from metrics.identity import eer_of
from metrics.membership import Area, membership
from metrics.score_counts import ScoreCounts, count_scores, curve_of, fdr_of
from torch_utils.search import Gallery, nearest
from torch_utils.thumbnails import Thumbnails, correlated

# Measured on 3,000 rendered faces at 64 pixels: two different pictures, of one person or two, were 0.973 alike at most;
# the same picture after JPEG at quality 60, noise of 8 grey levels or halving was 0.997 at least. Shifted by a pixel or
# cut anew it can be below 0.97: that is for the eyes, and for the recognition model.
DUPLICATE = 0.98
MOST_PAIRED = 100_000  # synthetic pictures: their pairs take some minutes, those of a million ten hours
FEWEST_PEOPLE = 2  # of a kind, for a membership test

Numbers = NDArray[np.float64]


@dataclass
class Seen:
    """A dataset as the audit sees it; all of length N."""

    names: list[str]
    identities: list[str]
    features: Unit  # [N, D]
    thumbnails: Thumbnails  # [N, T]


class Nearest(NamedTuple):
    """For each of N pictures its nearest one among others."""

    score: Numbers  # [N], -inf where there is no other
    row: NDArray[np.int64]  # [N], -1 there


class Leak(NamedTuple):
    """At one threshold."""

    threshold: float
    samples: int  # over it
    rate: float  # of the samples
    people: int  # with at least one such sample
    strangers: float  # the same rate of real people against all other real people
    heldout: float | None  # and of held-out people; None without such


class Diversity(NamedTuple):
    """How much two pictures of one person differ, on average over the people with several."""

    cosine: float  # 1 - mean cosine of their features
    pixels: float  # root mean square difference of their thumbnails, in grey levels of 255


@dataclass
class Distribution:
    """Scores within one dataset."""

    mated: ScoreCounts
    nonmated: ScoreCounts
    diversity: Diversity | None  # None: nobody has two pictures

    def figures(self) -> dict[str, float | int | None]:
        """None for what needs more people or more pictures of one."""
        mated, nonmated = self.mated, self.nonmated
        both = mated.total > 0 and nonmated.total > 0
        ratio = fdr_of(mated, nonmated) if both else None
        ratio = None if ratio is not None and not np.isfinite(ratio) else ratio
        return {
            "mated_scores": mated.total,
            "mated_mean": mated.mean if mated.total else None,
            "mated_sd": mated.sd if mated.total else None,
            "nonmated_scores": nonmated.total,
            "nonmated_mean": nonmated.mean if nonmated.total else None,
            "nonmated_sd": nonmated.sd if nonmated.total else None,
            "eer": eer_of(curve_of(mated, nonmated)) if both else None,
            "fdr": ratio,
            "d_prime": None if ratio is None else float(np.sqrt(2 * ratio)),
            "diversity_cosine": None if self.diversity is None else self.diversity.cosine,
            "diversity_pixels": None if self.diversity is None else self.diversity.pixels,
        }


@dataclass
class Membership:
    """The test, and the scores of the people behind it; `area` is None where it could not be made, `note` says why."""

    area: Area | None
    members: Numbers
    outsiders: Numbers
    pictures: int  # of each person
    note: str = ""


@dataclass
class Findings:
    """All that an audit found. Rows are the synthetic samples."""

    real: Nearest  # nearest real picture by the recognition model
    strangers: Numbers  # [R] of each real picture the highest score to any other person's
    leaks: dict[str, Leak]  # by the text of the FMR; `unique`: the filter's threshold
    membership: Membership
    pixels: Nearest  # nearest real picture by its pixels
    own_pixels: Nearest  # nearest other sample of the same person by its pixels
    real_pixels: float  # highest likeness between the pixels of two real pictures
    synthetic_set: Distribution
    real_set: Distribution
    outside: Numbers | None  # of each held-out picture the highest score to a real one; None without such


def audit(
    synthetic: Seen, real: Seen, heldout: Seen | None = None, thresholds: Thresholds | None = None, device: Any = "cpu"
) -> Findings:
    """All of it. thresholds: those that the filter had. Raises ValueError where the real set has one person only."""
    real_set, gallery = distribution(real), Gallery.of(real.features, device)
    if not real_set.nonmated.total:
        raise ValueError("there is only one person in it, so nobody can be told apart")
    to_real = Nearest(*nearest(synthetic.features, gallery))
    strangers = to_other_people(real.features, real.identities, device)
    outside = None if heldout is None else nearest(heldout.features, gallery)[0]
    points = fmr_points(real_set.mated, real_set.nonmated)
    limits = {text: point.threshold for text, point in points.items()}
    if thresholds is not None:
        limits["unique"] = thresholds.unique
    leaks = {name: _leak(to_real.score, synthetic, limit, strangers, outside) for name, limit in limits.items()}
    theirs, pixels = Gallery.of(correlated(real.thumbnails), device), correlated(synthetic.thumbnails)
    twins, _ = nearest(correlated(real.thumbnails), theirs, exclude=np.arange(len(real.names)))
    return Findings(
        real=to_real,
        strangers=strangers,
        leaks=leaks,
        membership=membership_test(synthetic, real, heldout, device),
        pixels=Nearest(*nearest(pixels, theirs)),
        own_pixels=within_people(pixels, synthetic.identities),
        real_pixels=float(twins.max()),
        synthetic_set=distribution(synthetic, MOST_PAIRED),
        real_set=real_set,
        outside=outside,
    )


# ----------------------------------------------------------------------------
# Real people.


def _leak(scores: Numbers, synthetic: Seen, limit: float, strangers: Numbers, outside: Numbers | None) -> Leak:
    over = scores > limit
    people = len({synthetic.identities[row] for row in np.flatnonzero(over)})
    others = None if outside is None else float(np.mean(outside > limit))
    return Leak(limit, int(over.sum()), float(over.mean()), people, float(np.mean(strangers > limit)), others)


def to_other_people(features: Unit, identities: Sequence[str], device: Any = "cpu") -> Numbers:
    """Of each picture [N] the highest score to a picture of somebody else; -inf where there is nobody else.

    People are brought one after another, so that a picture's strangers are the rows before its person's first and, with
    the order turned round, those before its person's last.
    """
    codes = np.unique(np.asarray(identities), return_inverse=True)[1]  # [N]
    order = np.argsort(codes, kind="stable")
    highest = np.full(len(order), -np.inf)
    for turned in (order, order[::-1]):
        own = codes[turned]
        first = np.concatenate([[0], np.flatnonzero(np.diff(own)) + 1])  # rows where a person begins
        begins = first[np.searchsorted(first, np.arange(len(own)), side="right") - 1]
        rows = np.ascontiguousarray(features[turned])
        score, _ = nearest(rows, Gallery.of(rows, device), until=begins)
        highest[turned] = np.maximum(highest[turned], score)
    return highest


def membership_test(synthetic: Seen, real: Seen, heldout: Seen | None, device: Any = "cpu") -> Membership:
    """Each person's highest score to any synthetic sample, over equally many pictures of each: more would find more."""
    nobody: Numbers = np.empty(0)
    if heldout is None:
        return Membership(None, nobody, nobody, 0, "no held-out people were given")
    counts = [np.unique(seen.identities, return_counts=True)[1] for seen in (real, heldout)]
    pictures = int(min(np.median(count) for count in counts))
    gallery = Gallery.of(synthetic.features, device)
    scores = [_highest_each(nearest(s.features, gallery)[0], s.identities, pictures) for s in (real, heldout)]
    if min(len(kind) for kind in scores) < FEWEST_PEOPLE:
        return Membership(None, scores[0], scores[1], pictures, "there are too few people with so many pictures")
    return Membership(membership(members=scores[0], outsiders=scores[1]), scores[0], scores[1], pictures)


def _highest_each(scores: Numbers, identities: Sequence[str], pictures: int) -> Numbers:
    """Of each person with so many pictures the highest score of the first so many."""
    people = rows_of_people(identities).values()
    return np.array([scores[own[:pictures]].max() for own in people if len(own) >= pictures], dtype=np.float64)


# ----------------------------------------------------------------------------
# Within a dataset.


def rows_of_people(identities: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Identity -> its rows, in order."""
    people: dict[str, list[int]] = {}
    for row, identity in enumerate(identities):
        people.setdefault(identity, []).append(row)
    return {identity: np.asarray(rows, dtype=np.int64) for identity, rows in people.items()}


def within_people(rows: NDArray[np.float32], identities: Sequence[str]) -> Nearest:
    """Of each row the nearest other one of the same person."""
    score = np.full(len(rows), -np.inf)
    index = np.full(len(rows), -1, dtype=np.int64)
    for own in rows_of_people(identities).values():
        found, which = nearest(rows[own], rows[own], exclude=np.arange(len(own)))
        score[own], index[own] = found, np.where(which < 0, -1, own[which])
    return Nearest(score, index)


def distribution(seen: Seen, most: int | None = None) -> Distribution:
    """Scores of all pairs of pictures, and what differs within a person.

    most: of more pictures the pairs of every n-th person alone, for their number grows with the square.
    """
    people = list(rows_of_people(seen.identities).values())
    spread = [found for own in people if (found := diversity(seen, own))]
    mean = Diversity(*np.mean(spread, axis=0).tolist()) if spread else None
    rows = np.concatenate(people[:: 1 if most is None else -(-len(seen.names) // most)])
    return Distribution(*count_scores(seen.features[rows], np.asarray(seen.identities)[rows]), mean)


def diversity(seen: Seen, rows: NDArray[np.int64]) -> Diversity | None:
    """Of one person's pictures; None for a single one.

    Both are means over all pairs without going through them: of n rows of length one with the sum s, the mean cosine
    is (s.s - n) / (n (n - 1)), and the mean square difference of two values is twice their unbiased variance.
    """
    count = len(rows)
    if count < 2:
        return None
    total = seen.features[rows].astype(np.float64).sum(axis=0)
    cosine = (float(total @ total) - count) / (count * (count - 1))
    variance = seen.thumbnails[rows].astype(np.float64).var(axis=0, ddof=1).mean()
    return Diversity(1 - cosine, float(np.sqrt(2 * variance)))
