"""Each verdict worked out by hand, on results that are small enough for it (outcomes.py)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import scipy.stats

from reproduction import claims
from reproduction.claims import CLAIMS, NOT_REPRODUCED, REPRODUCED, UNDECIDED, error_of_shares, greater, judge, welch
from tests.reproduction.outcomes import leak, line, outcome


def test_every_claim_has_a_criterion_figures_and_a_verdict() -> None:
    found = judge(outcome())
    assert len(found) == len(CLAIMS) == 12
    assert all(claim.claim.endswith(".") and claim.criterion and claim.values for claim in found)
    assert [claim.verdict for claim in found] == [
        UNDECIDED,  # ten people were asked for, and ten were learned from
        REPRODUCED,  # 20 <= 2 x 10, 8 <= 2 x 5
        UNDECIDED,  # alignment was not measured
        UNDECIDED,  # nor id_consistency
        REPRODUCED,  # 0 over, 7 before
        REPRODUCED,  # 0.10 < 0.20, 4 > 2
        REPRODUCED,  # 0.6 against 0.3
        REPRODUCED,  # 0.15 - 0.10 is 1.07 standard errors, sqrt(2 x 0.125 x 0.875 / 100) each; 0.45 <= 0.5 <= 0.65
        REPRODUCED,  # 0.81 against 0.78, errors of 0.01 / sqrt 3
        REPRODUCED,  # 0.81 against 0.72
        UNDECIDED,  # the others' sets are not here
        UNDECIDED,  # 0.81 against 0.80
    ]


# ----------------------------------------------------------------------------
# Differences.


def test_welch_by_hand_and_by_scipy() -> None:
    first, second = [1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 5.0]
    found = welch(first, second)  # variances 1 and 4
    assert found.difference == 0 and found.error == pytest.approx(math.sqrt(1 / 3 + 4 / 4))
    first = [2.0, 4.0, 7.0]
    statistic = scipy.stats.ttest_ind(first, second, equal_var=False).statistic
    found = welch(first, second)
    assert found.difference / found.error == pytest.approx(statistic)


def test_a_difference_must_exceed_two_standard_errors() -> None:
    """0 and 2 have variance 2: of two such pairs the difference has the error sqrt(2/2 + 2/2) = 1.414."""
    base = [0.0, 2.0]
    assert greater([2.9, 4.9], base)[1] == REPRODUCED
    assert greater([2.8, 4.8], base)[1] == UNDECIDED
    assert greater(base, [2.8, 4.8])[1] == UNDECIDED
    values, verdict = greater(base, [2.9, 4.9])
    assert verdict == NOT_REPRODUCED and values["difference"] == pytest.approx(-2.9)
    assert greater([1.0, 1.0], [1.0, 1.0])[1] == UNDECIDED
    assert greater([1.1, 1.1], [1.0, 1.0])[1] == REPRODUCED
    assert greater([5.0], base) == ({"reason": "fewer than two values to compare"}, UNDECIDED)


def test_the_error_of_two_shares_by_hand() -> None:
    """3 of 10 and 6 of 20: 9 of 30 are one share, and 0.3 x 0.7 x (1/10 + 1/20) = 0.0315."""
    assert error_of_shares(0.3, 10, 0.3, 20) == pytest.approx(math.sqrt(0.0315))
    assert error_of_shares(0.0, 10, 0.0, 20) == 0
    assert error_of_shares(0.0, 10, 0.3, 10) == pytest.approx(math.sqrt(0.15 * 0.85 * 0.2))


# ----------------------------------------------------------------------------
# Each claim's other verdicts.


@pytest.mark.parametrize(
    ("asked", "people", "real", "verdict"),
    [(100, 100, 10, REPRODUCED), (99, 99, 10, UNDECIDED), (100, 99, 10, NOT_REPRODUCED), (20, 19, 10, NOT_REPRODUCED)],
)
def test_large(asked: int, people: int, real: int, verdict: str) -> None:
    """Ten pairs each. Whoever cannot fill a small set cannot fill a large one."""
    results = outcome()
    results["recipe"] |= {"asked": {"people": asked, "pairs": 10 * asked}, "real_people": real}
    results["recipe"]["pairs"] = {"real": 100, "unfiltered": 10 * asked, "filtered": 10 * people}
    assert claims.large(results)[1] == verdict


def test_convincing() -> None:
    results = outcome()
    values, verdict = claims.convincing(results)
    assert verdict == REPRODUCED and values["vis"] == {"drawn": 20.0, "heldout": 10.0, "ratio": 2.0}
    results["quality"][1]["value"] = 10.1  # more than 2 x 5 in one spectrum is enough
    assert claims.convincing(results)[1] == NOT_REPRODUCED
    results["quality"][3]["value"] = None  # not a number
    assert claims.convincing(results)[1] == UNDECIDED
    results["quality"] = [one for one in results["quality"] if one["pictures"] == "drawn"]
    assert claims.convincing(results)[1] == UNDECIDED


@pytest.mark.parametrize(
    ("drawn", "real", "shuffled", "verdict"),
    [
        (0.35, 0.1, 3.0, REPRODUCED),
        (0.36, 0.1, 3.0, NOT_REPRODUCED),  # more than a quarter of a pixel beyond real pairs
        (0.30, 0.1, 0.5, NOT_REPRODUCED),  # more than half of what strangers are apart
    ],
)
def test_aligned(drawn: float, real: float, shuffled: float, verdict: str) -> None:
    results = outcome()
    for part, value in (("", drawn), ("_real", real), ("_shuffled", shuffled)):
        results["quality"].append(line("drawn", f"alignment100_error{part}", "vis-nir", value))
        results["quality"].append(line("drawn", f"alignment100_nmi{part}", "vis-nir", 1.0))
        results["quality"].append(line("heldout", f"alignment100_error{part}", "vis-nir", 9.0))
    assert claims.aligned(results) == ({"error": drawn, "error_real": real, "error_shuffled": shuffled}, verdict)


@pytest.mark.parametrize(("cosine", "verdict"), [(0.5, REPRODUCED), (0.49, NOT_REPRODUCED)])
def test_follows_feature(cosine: float, verdict: str) -> None:
    """Strangers at 0.1, real pictures of one person at 0.9: half the way is 0.5. NIR must come there, too."""
    results = outcome()
    for part, value in (("cosine", 0.6), ("others", 0.1), ("cosine_real", 0.9), ("eer", 0.2)):
        results["quality"].append(line("drawn", f"id_consistency100_{part}", "vis", value))
        results["quality"].append(
            line("drawn", f"id_consistency100_{part}", "nir", cosine if part == "cosine" else value)
        )
    assert claims.follows_feature(results)[1] == verdict


def test_follows_feature_where_the_model_is_blind() -> None:
    """Real pictures of one person no nearer than strangers: whatever is drawn would pass."""
    results = outcome()
    for part, value in (("cosine", 0.1), ("others", 0.2), ("cosine_real", 0.2)):
        for spectrum in ("vis", "nir"):
            results["quality"].append(line("drawn", f"id_consistency100_{part}", spectrum, value))
    values, verdict = claims.follows_feature(results)
    assert verdict == UNDECIDED and "does not know real people again in vis" in values["reason"]


def test_stops_leaks() -> None:
    results = outcome()
    own = results["privacy"]
    own["filtered"]["leakage"]["unique"] = leak(1, 0.01)
    assert claims.stops_leaks(results)[1] == NOT_REPRODUCED
    own["filtered"]["leakage"]["unique"] = own["unfiltered"]["leakage"]["unique"] = leak(0, 0.0)
    values, verdict = claims.stops_leaks(results)
    assert verdict == UNDECIDED and "nothing leaks" in values["reason"]


@pytest.mark.parametrize(
    ("eer", "fdr", "verdict"),
    [(0.1, 4.0, REPRODUCED), (0.3, 1.0, NOT_REPRODUCED), (0.1, 1.0, UNDECIDED), (0.2, 2.0, UNDECIDED)],
)
def test_separable(eer: float, fdr: float, verdict: str) -> None:
    results = outcome()
    results["people"]["filtered"] |= {"eer": eer, "fdr": fdr}
    assert claims.separable(results)[1] == verdict


def test_separable_with_too_few_people() -> None:
    results = outcome()
    results["people"]["filtered"] |= {"eer": None, "fdr": None}
    assert claims.separable(results)[1] == UNDECIDED


def test_diverse() -> None:
    results = outcome()
    people = results["people"]
    people["filtered"]["diversities"], people["unfiltered"]["diversities"] = [0.1, 0.11], [0.3, 0.31]
    assert claims.diverse(results)[1] == NOT_REPRODUCED
    people["filtered"]["diversities"] = [0.2, 0.5]
    assert claims.diverse(results)[1] == UNDECIDED


def test_private() -> None:
    def verdict(**changed: Any) -> str:
        results = outcome()
        own = results["privacy"]["filtered"]
        own["membership"] |= changed.pop("membership", {})
        own["leakage"] |= changed
        return claims.private(results)[1]

    assert verdict(**{"1e-3": leak(19, 0.19)}) == REPRODUCED  # 0.09 <= 2 sqrt(0.145 x 0.855 x 2 / 100) = 0.0996
    assert verdict(**{"1e-3": leak(21, 0.21)}) == NOT_REPRODUCED  # 0.11 > 2 sqrt(0.155 x 0.845 x 2 / 100) = 0.1024
    assert verdict(**{"1e-3": leak(1, 0.01, 0.0)}) == REPRODUCED  # one against none of a hundred is no difference
    assert verdict(**{"1e-3": leak(5, 0.05, 0.0)}) == NOT_REPRODUCED  # 0.05 > 2 sqrt(0.025 x 0.975 x 2 / 100) = 0.044
    assert verdict(membership={"low": 0.51}) == NOT_REPRODUCED
    assert verdict(membership={"low": 0.3, "auc": 0.4, "high": 0.49}) == NOT_REPRODUCED  # kept away from, it shows
    assert verdict(membership={"auc": None}) == UNDECIDED
    assert verdict(**{"1e-3": leak(0, 0.0, None)}) == UNDECIDED
    results = outcome()
    del results["privacy"]["filtered"]["leakage"]["1e-3"]
    assert claims.private(results)[1] == UNDECIDED


def test_recognition() -> None:
    results = outcome()
    values, verdict = claims.better_than_real(results)
    assert verdict == REPRODUCED and values["difference"] == pytest.approx(0.09)
    assert values["real, vis+nir"] == [0.70, 0.72, 0.74] and values["benchmarks"] == ["pairs-vis-vis"]
    results["recipe"]["decides"] = ["lfw"]
    values, verdict = claims.better_than_real(results)
    assert verdict == UNDECIDED and values["reason"] == "both are at chance"
    results["recipe"]["decides"] = ["lfw", "pairs-vis-vis"]  # each seed's mean over both: half the difference
    assert claims.better_than_real(results)[0]["difference"] == pytest.approx(0.045)
    results["recipe"]["decides"] = []
    assert claims.better_than_real(results)[1] == UNDECIDED
    results = outcome()
    results["recognition"] = [run for run in results["recognition"] if run["seed"] == 0]
    assert "fewer than two seeds" in claims.better_with_nir(results)[0]["reason"]


def test_a_set_that_was_not_filled_is_no_fair_comparison() -> None:
    results = outcome()
    results["recipe"]["pairs"]["filtered"] = 49
    values, verdict = claims.better_than_real(results)
    assert verdict == UNDECIDED and values["reason"] == "filtered has 49 of the 100 pairs that were asked for"
    assert claims.better_than_unfiltered(results)[1] == UNDECIDED
    assert "reason" not in claims.better_with_nir(results)[0]  # of one set both


def test_worse_is_not_reproduced() -> None:
    results = outcome()
    for run in results["recognition"]:
        if run["source"] == "filtered":
            run["tests"]["pairs-vis-vis"]["accuracy"] -= 0.2
    assert claims.better_than_unfiltered(results)[1] == NOT_REPRODUCED
