"""The fold protocol against a brute-force one, rates against scikit-learn, and cases by hand."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_curve

from metrics.identity import fnmr_at_fmr
from metrics.verification import best_threshold, contiguous_folds, draw_det, verify


def test_by_hand() -> None:
    # Tested on pair 0: 0.8 mated; 0.1, 0.3 non-mated: best anywhere in (0.3, 0.8], so 0.55; and so on.
    result = verify([0.9, 0.1, 0.8, 0.3], [1, 0, 1, 0])
    np.testing.assert_allclose(result.thresholds, [0.55, 0.55, 0.6, 0.45])
    assert result.fold_accuracies == (1, 1, 1, 1) and (result.accuracy, result.accuracy_sd, result.eer) == (1, 0, 0)
    assert result.fnmr == {"1e-2": None, "1e-3": None, "1e-4": None} and (result.mated, result.nonmated) == (2, 2)
    assert result.notes() == [
        "2 non-mated pairs are too few for FNMR at FMR 1e-2, 1e-3, 1e-4",
        "4 folds instead of 10",
    ]


def test_mean_and_sd_over_given_folds_by_hand() -> None:
    # On fold 9, -inf and inf are best, half right: the lower counts, which is half right on fold 7. Fold 7 says 0.5,
    # by which both of fold 9 are wrong.
    result = verify([0.9, 0.1, 0.4, 0.6], [True, False, True, False], folds=[7, 7, 9, 9])
    assert result.thresholds == (-np.inf, 0.5) and result.fold_accuracies == (0.5, 0.0)
    assert (result.accuracy, result.accuracy_sd) == (0.25, 0.25)


def test_of_equally_good_thresholds_the_middle_one_counts() -> None:
    scores = np.array([0.0, 1.0, 2.0, 3.0])
    assert best_threshold(scores, np.array([False, False, True, True])) == 1.5
    assert best_threshold(scores, np.array([True, True, False, False])) == -np.inf  # as good as +inf: the lower
    assert best_threshold(scores, np.array([True, False, True, False])) == 1.5  # -inf, 1.5 and inf are
    assert best_threshold(scores, np.zeros(4, bool)) == np.inf
    assert best_threshold(scores, np.ones(4, bool)) == -np.inf
    tiny = np.nextafter(1.0, 2)
    assert best_threshold(np.array([1.0, tiny]), np.array([False, True])) == tiny


def brute_force(scores: list[float], same: list[bool], folds: list[int]) -> list[float]:
    accuracies = []
    for fold in sorted(set(folds)):
        train = [(s, t) for s, t, f in zip(scores, same, folds, strict=True) if f != fold]
        test = [(s, t) for s, t, f in zip(scores, same, folds, strict=True) if f == fold]
        values = sorted({s for s, _ in train})
        middles = [(a + b) / 2 for a, b in itertools.pairwise(values)]
        candidates = [-np.inf, *middles, np.inf]
        right = [sum((s >= c) == t for s, t in train) for c in candidates]
        best = [c for c, count in zip(candidates, right, strict=True) if count == max(right)]
        threshold = best[(len(best) - 1) // 2]
        accuracies.append(sum((s >= threshold) == t for s, t in test) / len(test))
    return accuracies


pairs = st.lists(st.tuples(st.integers(-5, 5).map(lambda n: n / 4), st.booleans()), min_size=2, max_size=60)


@settings(max_examples=150, deadline=None)
@given(pairs)
def test_folds_like_brute_force_with_ties(drawn: list[tuple[float, bool]]) -> None:
    scores, same = [s for s, _ in drawn], [t for _, t in drawn]
    if len(set(same)) < 2:
        with pytest.raises(ValueError, match="pairs are of"):
            verify(scores, same)
        return
    folds = contiguous_folds(len(scores)).tolist()
    result = verify(scores, same)
    assert list(result.fold_accuracies) == pytest.approx(brute_force(scores, same, folds), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(pairs, st.sampled_from([0.5, 0.2, 0.1, 0.01]))
def test_error_rates_like_scikit_learn(drawn: list[tuple[float, bool]], fmr: float) -> None:
    scores, same = np.array([s for s, _ in drawn]), np.array([t for _, t in drawn])
    if same.all() or not same.any():
        return
    their_fmr, their_tpr, _ = roc_curve(same, scores, drop_intermediate=False)
    allowed = their_fmr <= fmr + 1e-12
    assert fnmr_at_fmr(scores[same], scores[~same], fmr).fnmr == pytest.approx(1 - their_tpr[allowed].max())
    rates = list(zip(their_fmr[::-1].round(12), (1 - their_tpr[::-1]).round(12), strict=True))  # thresholds ascend
    after = next(place for place, (false, missed) in enumerate(rates) if false <= missed)
    nearest = rates[after : after + 1] if rates[after][0] == rates[after][1] else rates[max(after - 1, 0) : after + 1]
    assert verify(scores, same).eer == pytest.approx(min(sum(pair) / 2 for pair in nearest), abs=1e-9)


def test_a_public_set_of_6000_pairs() -> None:
    rng = np.random.default_rng(0)
    same = np.tile(np.repeat([True, False], 300), 10)
    result = verify(rng.normal(same * 2.0, 1), same)
    assert len(result.fold_accuracies) == 10 and result.fnmr["1e-3"] is not None and result.fnmr["1e-4"] is None
    assert result.accuracy == pytest.approx(0.8413, abs=0.015)  # Phi(1), the best that two normals 2 sd apart allow
    assert result.eer == pytest.approx(0.1587, abs=0.015)
    assert {"accuracy", "accuracy_sd", "eer", "fnmr_at_fmr_1e-2"} <= set(result.figures())


def test_contiguous_tenths() -> None:
    assert np.bincount(contiguous_folds(6000)).tolist() == [600] * 10
    assert contiguous_folds(23).tolist() == sorted(contiguous_folds(23)) and max(np.bincount(contiguous_folds(23))) == 3
    assert contiguous_folds(4).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("scores", "same", "folds", "words"),
    [
        ([0.1, 0.2], [1, 1], None, "all 2 pairs are of one person"),
        ([0.1, 0.2], [0, 0], None, "all 2 pairs are of two people"),
        ([], [], None, "all 0 pairs"),
        ([0.1, np.nan], [0, 1], None, "not finite"),
        ([0.1, 0.2], [0, 1], [3, 3], "fewer than two folds"),
        ([0.1], [0, 1], None, "must be"),
    ],
)
def test_what_has_no_figures(scores: list, same: list, folds: list | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        verify(scores, same, folds)


def test_det_plot(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    same = rng.random(500) < 0.5
    curves = [("a", rng.normal(same * 2.0), same), ("perfect", same.astype(float), same)]
    draw_det(tmp_path / "det.png", curves)
    with Image.open(tmp_path / "det.png") as image:
        assert image.format == "PNG" and image.width > 600 and np.asarray(image).std() > 5
