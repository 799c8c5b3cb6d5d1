"""The rules: a case worked out by hand for each, and admission in order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generation import privacy_diversity as rules
from torch_utils.search import nearest


def at_angles(*degrees):
    """Unit vectors in the plane: the cosine of two is that of the angle between them."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


# ----------------------------------------------------------------------------
# Each rule by hand. cos 60 = 0.5, cos 45 = 0.707, cos 30 = 0.866.


def test_face_rule_needs_one_face_and_its_probability():
    passed = rules.shows_one_face([True, True, False], [0.97, 0.96, 0.99], 0.97)
    assert passed.tolist() == [True, False, False]


def test_frontal_rule():
    def landmarks(left, right, nose):
        return [[left, 10], [right, 10], [nose, 20], [left, 30], [right, 30]]

    # Eyes at 20 and 40. Nose at 30: 0 < 20/3. At 33: |-13 + 7| = 6 < 20/3. At 34: |-14 + 6| = 8, not < 20/3.
    # Nose outside the eyes at 50: |-30 - 10| = 40, not < 40/3. All at one place: 0 is not < 0.
    cases = [(20, 40, 30), (20, 40, 33), (20, 40, 34), (20, 40, 26), (20, 40, 50), (5, 5, 5), (np.nan, 40, 30)]
    verdicts = rules.is_frontal([landmarks(*case) for case in cases])
    assert verdicts.tolist() == [True, True, False, False, False, False, False]


def test_sharpness_by_hand():
    # One bright pixel of 16 in the middle of 5 x 5: the nine inner Laplacians are -64 there, 16 beside it, 0 across.
    picture = np.zeros((1, 3, 5, 5), dtype=np.uint8)
    picture[:, :, 2, 2] = 16
    laplacians = np.array([0, 16, 0, 16, -64, 16, 0, 16, 0])
    assert rules.sharpness(picture) == pytest.approx([laplacians.var()])
    # Grey is the mean of the channels; a plane has no Laplacian; a picture without an inside has no sharpness.
    picture[:, 1:] = 0
    assert rules.sharpness(picture) == pytest.approx([laplacians.var() / 9])
    plane = np.broadcast_to(np.arange(8, dtype=np.uint8), (2, 1, 8, 8))
    assert rules.sharpness(plane).tolist() == [0, 0]
    assert rules.sharpness(plane[..., :2]).tolist() == [0, 0]


def test_quality_rule():
    assert rules.is_good([19.9, 20.0, 25.0, np.nan], 20.0).tolist() == [False, True, True, False]


def test_private_rule_looks_at_every_real_feature():
    real = at_angles(0, 10, 100)
    judged = rules.is_private(at_angles(61, 160, 69), real, unique=0.5)
    # 61 is 51 from 10 (0.629) and 39 from 100 (0.777); 160 is 60 from 100 (0.5, allowed); 69 is 31 from 100 (0.857).
    np.testing.assert_allclose(judged.similarity, np.cos(np.radians([39, 60, 31])), atol=1e-7)
    assert judged.nearest.tolist() == [2, 2, 2]
    assert judged.passed[[0, 2]].tolist() == [False, False]
    assert rules.is_private(at_angles(160), real, unique=0.501).passed.all()


def test_absolute_similarity_is_the_originals_way():
    opposite = at_angles(180)
    assert rules.is_private(opposite, at_angles(0), unique=0.5).passed.all()
    judged = rules.is_private(opposite, at_angles(0), unique=0.5, absolute=True)
    assert not judged.passed.any() and judged.similarity[0] == pytest.approx(1)


def test_unique_rule_leaves_the_own_reference_out():
    references = at_angles(0, 90)
    judged = rules.is_unique(at_angles(20, 50), references, unique=0.7, own=[0, 0])
    np.testing.assert_allclose(judged.similarity, np.cos(np.radians([70, 40])), atol=1e-7)
    assert judged.passed.tolist() == [True, False] and judged.nearest.tolist() == [1, 1]


def test_same_person_rule():
    judged = rules.is_same_person(at_angles(29, 31), at_angles(0)[0], same=np.cos(np.radians(30)))
    assert judged.passed.tolist() == [True, False]


def test_repeat_rule():
    judged = rules.is_no_repeat(at_angles(31, 29), at_angles(0, 180), repeat=np.cos(np.radians(30)))
    assert judged.passed.tolist() == [True, False]


def test_a_similarity_at_the_threshold_passes():
    """FACTS.md: at most mean - 2 sd and mean + sd, at least mean - 2 sd."""
    one, other = at_angles(20), at_angles(63)
    exact = float(nearest(one, other)[0][0])
    under, over = np.nextafter(exact, -1), np.nextafter(exact, 1)
    for ceiling in (rules.is_private, rules.is_unique, rules.is_no_repeat):
        assert ceiling(one, other, exact).passed[0] and not ceiling(one, other, under).passed[0]
    assert (
        rules.is_same_person(one, other[0], exact).passed[0] and not rules.is_same_person(one, other[0], over).passed[0]
    )
    both = np.concatenate([one, other])
    assert rules.admit_in_order(both, both[:0], exact).passed.tolist() == [True, True]
    assert rules.admit_in_order(both, both[:0], under).passed.tolist() == [True, False]


def test_nothing_to_compare_with_passes():
    nothing = np.empty((0, 2), dtype=np.float32)
    judged = rules.is_private(at_angles(0), nothing, unique=0.5)
    assert judged.passed.all() and judged.similarity[0] == -np.inf and judged.nearest[0] == -1
    alone = rules.is_unique(at_angles(0), at_angles(0), unique=0.5, own=[0])
    assert alone.passed.all() and alone.nearest[0] == -1


def test_admission_in_order_by_hand():
    # Gallery at 0. 20 is too near (limit 30); 40 joins; 60 is now too near 40; 75 joins; 120 would, but two are in.
    limit = np.cos(np.radians(30))
    judged = rules.admit_in_order(at_angles(20, 40, 60, 75, 120), at_angles(0), limit, limit=2)
    assert judged.passed.tolist() == [False, True, False, True, False]
    assert judged.nearest.tolist() == [0, 0, 2, 2, 4]
    # Who is not considered does not join, so 60 may.
    judged = rules.admit_in_order(at_angles(40, 60), at_angles(0), limit, considered=[False, True])
    assert judged.passed.tolist() == [False, True]


def test_embeddings_without_direction_are_refused():
    with pytest.raises(ValueError, match="zero or not finite"):
        rules.unit_rows([[0.0, 0.0]])
    with pytest.raises(ValueError, match="zero or not finite"):
        rules.unit_rows([[np.nan, 1.0]])


# ----------------------------------------------------------------------------
# Against plain loops.


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.floats(-0.5, 0.9), st.booleans())
def test_admission_equals_one_rule_call_a_candidate(seed, highest, absolute):
    rng = np.random.default_rng(seed)
    candidates, gallery = rules.unit_rows(rng.normal(size=(9, 4))), rules.unit_rows(rng.normal(size=(3, 4)))
    judged = rules.admit_in_order(candidates, gallery, highest, absolute=absolute)
    grown = gallery
    for row in range(9):
        similarity, _ = nearest(candidates[row : row + 1], grown, absolute)
        assert judged.similarity[row] == pytest.approx(similarity[0], abs=1e-6)
        if judged.passed[row]:
            grown = np.concatenate([grown, candidates[row : row + 1]])
    among = grown[3:].astype(float) @ grown.astype(float).T
    among[np.arange(len(among)), np.arange(len(among)) + 3] = -1
    assert not len(among) or (np.abs(among) if absolute else among)[among > -1].max() <= highest + 1e-6


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.floats(-0.5, 0.9), st.floats(0, 0.4))
def test_a_stricter_threshold_never_lets_more_pass(seed, unique, stricter):
    rng = np.random.default_rng(seed)
    a, b = rules.unit_rows(rng.normal(size=(10, 4))), rules.unit_rows(rng.normal(size=(10, 4)))
    loose, strict = rules.is_private(a, b, unique), rules.is_private(a, b, unique - stricter)
    assert not np.any(strict.passed & ~loose.passed)
