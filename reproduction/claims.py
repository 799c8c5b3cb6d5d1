"""The claims of the paper's abstract, each with a criterion, and what the figures say: pure functions of results.

The criteria were written before the miniature was measured. Where a difference of means decides, it must exceed two
standard errors (Welch's, of means with variances of their own); what lies within them is undecided, as is what was not
measured. Of three seeds each, chance alone exceeds them in one comparison of six to nine (4 to 2 degrees of freedom).

    reproduced        the criterion holds
    not reproduced    its contrary holds
    undecided         neither, or there is nothing to judge by; `values` says why
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from reproduction.results import Results, accuracies, figures, unfilled
from torch_utils.spectra import SPECTRA

REPRODUCED, NOT_REPRODUCED, UNDECIDED = "reproduced", "not reproduced", "undecided"
ERRORS = 2.0  # standard errors that a difference must exceed
FARTHER = 2.0  # times the distance of other real people's pictures that drawn ones may have
SHIFT = 0.25  # pixels that drawn pairs may lie apart beyond real ones
SHUFFLED = 0.5  # of the error between pictures of different pairs that pairs may have at most
FOLLOWS = 0.5  # of the way from strangers to real pictures of one person that drawn ones must come
RATE = "1e-3"  # false match rate at which synthetic people are held against real ones
CHANCE = 0.5  # accuracy on pairs of which half are of one person; area under the curve of a membership test
LARGE = 10  # times as many people as the generator learned from make a large dataset


class Claim(NamedTuple):
    """As it stands in claims.json."""

    claim: str
    criterion: str
    values: dict[str, Any]
    verdict: str


Judgement = tuple[dict[str, Any], str]


def judge(results: Results) -> list[Claim]:
    """All claims, in the order of the abstract."""
    return [Claim(claim, criterion, *decide(results)) for claim, criterion, decide in CLAIMS]


# ----------------------------------------------------------------------------
# What decides.


class Difference(NamedTuple):
    """Between two means. error: its standard error."""

    difference: float
    error: float


def welch(first: Sequence[float], second: Sequence[float]) -> Difference:
    """first minus second, of two samples with variances of their own (Welch 1947). Two values each are the least."""
    error = math.sqrt(sum(statistics.variance(values) / len(values) for values in (first, second)))
    return Difference(statistics.fmean(first) - statistics.fmean(second), error)


def greater(first: Sequence[float], second: Sequence[float]) -> Judgement:
    """Whether the mean of `first` is the greater one by more than ERRORS standard errors."""
    if min(len(first), len(second)) < 2:
        return nothing("fewer than two values to compare")
    found = welch(first, second)
    values = {"difference": found.difference, "standard_error": found.error}
    if abs(found.difference) <= ERRORS * found.error:
        return values, UNDECIDED
    return values, REPRODUCED if found.difference > 0 else NOT_REPRODUCED


def error_of_shares(first: float, first_number: int, second: float, second_number: int) -> float:
    """Standard error of the difference of two shares, of so many each, if both are samples of one and the same."""
    common = (first * first_number + second * second_number) / (first_number + second_number)
    return math.sqrt(max(common * (1 - common), 0.0) * (1 / first_number + 1 / second_number))


def nothing(why: str) -> Judgement:
    return {"reason": why}, UNDECIDED


def holds(truth: bool) -> str:
    return REPRODUCED if truth else NOT_REPRODUCED


# ----------------------------------------------------------------------------
# Synthesis.


def large(results: Results) -> Judgement:
    recipe, made = results["recipe"], results["datasets"]["filtered"]
    wanted, real = recipe["asked"]["people"], recipe["real_people"]
    values = {"people": made["identities_kept"], "asked": wanted, "pairs": made["pairs_kept"], "real_people": real}
    if unfilled(results, ["filtered"]):
        return values, NOT_REPRODUCED
    if wanted < LARGE * real:
        return {**values, "reason": "fewer people were asked for"}, UNDECIDED
    return values, REPRODUCED


def convincing(results: Results) -> Judgement:
    drawn, other = figures(results, "fd_arcface"), figures(results, "fd_arcface", "heldout")
    wanted = [f"/{name}" for name in SPECTRA]
    if not set(wanted) <= drawn.keys() & other.keys():
        return nothing("no pictures of held-out people to compare with")
    values = {
        name: {"drawn": drawn[f"/{name}"], "heldout": other[f"/{name}"], "ratio": _ratio(drawn, other, f"/{name}")}
        for name in SPECTRA
    }
    return values, holds(all(drawn[key] <= FARTHER * other[key] for key in wanted))


def _ratio(drawn: dict[str, float], other: dict[str, float], key: str) -> float | None:
    return drawn[key] / other[key] if other[key] > 0 else None


def aligned(results: Results) -> Judgement:
    found = {key.split("/")[0]: value for key, value in figures(results, "alignment").items()}
    names = ("error", "error_real", "error_shuffled")
    if not set(names) <= found.keys():
        return nothing("the metric `alignment` was not measured")
    drawn, real, shuffled = (found[name] for name in names)
    return {name: found[name] for name in names}, holds(drawn <= real + SHIFT and drawn <= SHUFFLED * shuffled)


def follows_feature(results: Results) -> Judgement:
    found = figures(results, "id_consistency")
    names = ("cosine", "others", "cosine_real")
    if not all(f"{name}/{spectrum}" in found for name in names for spectrum in SPECTRA):
        return nothing("the metric `id_consistency` was not measured")
    values: dict[str, Any] = {}
    values |= {spectrum: {name: found[f"{name}/{spectrum}"] for name in names} for spectrum in SPECTRA}
    blind = [spectrum for spectrum, own in values.items() if own["cosine_real"] <= own["others"]]
    if blind:
        return {**values, "reason": f"the recognition model does not know real people again in {blind[0]}"}, UNDECIDED
    return values, holds(
        all(own["cosine"] - own["others"] >= FOLLOWS * (own["cosine_real"] - own["others"]) for own in values.values())
    )


# ----------------------------------------------------------------------------
# The filter.


def stops_leaks(results: Results) -> Judgement:
    over = {source: own["leakage"]["unique"] for source, own in results["privacy"].items()}
    values = {
        source: {"over_threshold": leak["samples"], "rate": leak["rate"], "threshold": leak["threshold"]}
        for source, leak in over.items()
    }
    if over["filtered"]["samples"]:
        return values, NOT_REPRODUCED
    if not over["unfiltered"]["samples"]:
        return {**values, "reason": "nothing leaks without the filter either"}, UNDECIDED
    return values, REPRODUCED


def separable(results: Results) -> Judgement:
    people = results["people"]
    names = ("eer", "fdr", "d_prime")
    values = {source: {name: people[source][name] for name in names} for source in people}
    before, after = people["unfiltered"], people["filtered"]
    if None in (before["eer"], after["eer"], before["fdr"], after["fdr"]):
        return {**values, "reason": "too few people or pictures for error rates"}, UNDECIDED
    better, worse = after["eer"] < before["eer"], after["eer"] > before["eer"]
    if better and after["fdr"] > before["fdr"]:
        return values, REPRODUCED
    return values, NOT_REPRODUCED if worse and after["fdr"] < before["fdr"] else UNDECIDED


def diverse(results: Results) -> Judgement:
    people = results["people"]
    values, verdict = greater(people["filtered"]["diversities"], people["unfiltered"]["diversities"])
    return {source: people[source]["diversity_cosine"] for source in people} | values, verdict


# ----------------------------------------------------------------------------
# Privacy.


def private(results: Results) -> Judgement:
    own = results["privacy"]["filtered"]
    leak, member = own["leakage"].get(RATE), own["membership"]
    if leak is None:
        return nothing(f"the real set has too few pictures of strangers for a false match rate of {RATE}")
    values = {
        "highest_real_similarity": own["highest_real_similarity"],
        "matches": leak["rate"],
        "matches_of_heldout_people": leak["heldout"],
        "membership_auc": member["auc"],
        "membership_interval": [member["low"], member["high"]],
    }
    if leak["heldout"] is None or member["auc"] is None:
        return {**values, "reason": "no held-out people to compare with"}, UNDECIDED
    room = ERRORS * error_of_shares(leak["rate"], own["people"], leak["heldout"], member["outsiders"])
    hidden = member["low"] <= CHANCE <= member["high"]  # whoever is farther than strangers shows, too
    return values | {"room": room}, holds(leak["rate"] <= leak["heldout"] + room and hidden)


# ----------------------------------------------------------------------------
# Recognition.


def _better(results: Results, first: tuple[str, str], second: tuple[str, str]) -> Judgement:
    """Of two (source, spectra), by each seed's mean over the benchmarks that decide."""
    decides = results["recipe"]["decides"]
    scores = {pair: accuracies(results, *pair, decides) for pair in (first, second)}
    values: dict[str, Any] = {"benchmarks": decides}
    values |= {f"{source}, {spectra}": own for (source, spectra), own in scores.items()}
    if min(len(own) for own in scores.values()) < 2:
        return {**values, "reason": "fewer than two seeds with these benchmarks"}, UNDECIDED
    short = unfilled(results, [first[0], second[0]])
    if short and first[0] != second[0]:
        return {**values, "reason": short}, UNDECIDED
    if not any(greater(own, [CHANCE, CHANCE])[1] == REPRODUCED for own in scores.values()):
        return {**values, "reason": "both are at chance"}, UNDECIDED
    found, verdict = greater(scores[first], scores[second])
    return values | found, verdict


def better_than_unfiltered(results: Results) -> Judgement:
    return _better(results, ("filtered", "vis+nir"), ("unfiltered", "vis+nir"))


def better_than_real(results: Results) -> Judgement:
    return _better(results, ("filtered", "vis+nir"), ("real", "vis+nir"))


def better_than_others(results: Results) -> Judgement:
    return nothing(
        "the competing synthetic sets (SFace, DigiFace, IDiff-Face, DCFace, ...) are not here, and their published "
        "figures are of other backbones and losses"
    )


def better_with_nir(results: Results) -> Judgement:
    return _better(results, ("filtered", "vis+nir"), ("filtered", "vis"))


ACCURACY = (
    f"the mean accuracy over the seeds, on the visible benchmarks that decide, is higher by more than {ERRORS:g} "
    "standard errors (Welch), and not both are at chance"
)
CLAIMS: tuple[tuple[str, str, Callable[[Results], Judgement]], ...] = (
    (
        "Recognition datasets of both spectra can be generated at a large scale.",
        "the filtered set has all the people and pairs that were asked for, and at least "
        f"{LARGE} times as many people as the generator learned from; undecided where fewer were asked for",
        large,
    ),
    (
        "The dual-branch network draws convincing visible and near-infrared pictures.",
        f"in each spectrum, fd_arcface of drawn pictures to the real ones is at most {FARTHER:g} times that of as many "
        "pictures of held-out real people",
        convincing,
    ),
    (
        "The two pictures of a pair are aligned, pixel by pixel.",
        f"the registration error of drawn pairs is at most that of real pairs and {SHIFT:g} pixels, and at most "
        f"{SHUFFLED:g} times that of shuffled pairs",
        aligned,
    ),
    (
        "The identity of what is drawn follows the identity feature.",
        f"in each spectrum, the mean cosine between a drawn picture and its own condition is at least {FOLLOWS:g} of "
        "the way from that to others' conditions to that between real pictures of one person; conditions are features "
        "of the real people",
        follows_feature,
    ),
    (
        "The filter keeps samples that breach somebody's privacy out of the dataset.",
        "no sample of the filtered set is above the filter's threshold to any real picture, and some of the unfiltered "
        "set are; by the recognition model that the filter sees with",
        stops_leaks,
    ),
    (
        "The filter makes identities better separable.",
        "the filtered set's EER is lower and its FDR higher than the unfiltered set's, by the recognition model that "
        "the filter sees with; undecided if only one is",
        separable,
    ),
    (
        "The filter makes the pictures of an identity more diverse.",
        "the mean over people of 1 - cosine within a person is higher in the filtered set than in the unfiltered one, "
        f"by more than {ERRORS:g} standard errors (Welch)",
        diverse,
    ),
    (
        "The privacy of the real people is preserved.",
        f"at the real set's FMR {RATE}, the share of filtered samples that match a real person is at most that of "
        f"held-out real people and {ERRORS:g} standard errors of their difference (as if each person had one sample), "
        "and the 95 % interval of the membership test's AUC holds 0.5",
        private,
    ),
    ("Recognition trained on filtered pairs is better than on unfiltered ones.", ACCURACY, better_than_unfiltered),
    ("Recognition trained on synthetic pairs is better than on a small real set.", ACCURACY, better_than_real),
    (
        "Recognition trained on synthetic pairs is better than on competing synthetic sets.",
        "as above, against models trained on those sets by the same command",
        better_than_others,
    ),
    (
        "Training on visible and near-infrared pictures is better on visible benchmarks than on visible ones alone.",
        ACCURACY,
        better_with_nir,
    ),
)
