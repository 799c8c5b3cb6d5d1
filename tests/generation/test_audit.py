"""What an audit computes: by hand, and against going through all pairs one by one."""

from __future__ import annotations

import numpy as np
import pytest

from generation.audit import (
    Seen,
    audit,
    distribution,
    diversity,
    membership_test,
    to_other_people,
    within_people,
)
from generation.privacy_diversity import unit_rows
from generation.thresholds import from_moments
from metrics import identity


def seen(rng, people, each, size=8, spread=0.5):
    """People with centres of their own; thumbnails that are noise around one face a person."""
    rows = np.repeat(rng.normal(size=(people, size)), each, axis=0) + spread * rng.normal(size=(people * each, size))
    faces = np.repeat(rng.integers(0, 200, (people, 16)), each, axis=0)
    thumbs = (faces + rng.integers(0, 50, faces.shape)).astype(np.uint8)
    names = [f"{p}_{s}.png" for p in range(people) for s in range(each)]
    return Seen(names, [name.split("_")[0] for name in names], unit_rows(rows), thumbs)


def test_everything_against_all_pairs():
    rng = np.random.default_rng(3)
    synthetic, real, heldout = seen(rng, 6, 4), seen(rng, 15, 3), seen(rng, 7, 5)
    real.thumbnails[4] = synthetic.thumbnails[9]
    found = audit(synthetic, real, heldout, from_moments(0.8, 0.1, "toy"))
    scores = synthetic.features.astype(np.float64) @ real.features.T.astype(np.float64)
    assert np.allclose(found.real.score, scores.max(axis=1)) and (found.real.row == scores.argmax(axis=1)).all()
    among = real.features.astype(np.float64) @ real.features.T
    people = np.array(real.identities)
    others = np.where(people[:, None] != people[None], among, -np.inf).max(axis=1)
    assert np.allclose(found.strangers, others)
    _, nonmated = identity.mated_nonmated(real.features, real.identities)
    assert list(found.leaks) == ["1e-2", "unique"]  # 945 scores cannot tell 1e-3
    limit = identity.fnmr_at_fmr([0.5], nonmated, 1e-2).threshold
    leak = found.leaks["1e-2"]
    assert leak.threshold == pytest.approx(limit, abs=1e-6)
    over = scores.max(axis=1) > leak.threshold
    assert leak.samples == over.sum() and leak.rate == over.mean() == identity.leakage(scores.max(axis=1), limit).rate
    assert leak.people == len(set(np.array(synthetic.identities)[over]))
    assert leak.strangers == np.mean(others > leak.threshold)
    outside = (heldout.features.astype(np.float64) @ real.features.T).max(axis=1)
    assert leak.heldout == np.mean(outside > leak.threshold)
    assert found.pixels.score[9] == pytest.approx(1) and found.pixels.row[9] == 4
    correlation = np.corrcoef(synthetic.thumbnails, real.thumbnails)[:24, 24:]
    assert np.allclose(found.pixels.score, correlation.max(axis=1), atol=1e-5)
    twins = np.corrcoef(real.thumbnails) - 2 * np.eye(45)
    assert found.real_pixels == pytest.approx(twins.max(), abs=1e-5)


def test_to_other_people_whatever_the_order():
    rng = np.random.default_rng(0)
    rows = unit_rows(rng.normal(size=(40, 6)))
    labels = [str(label) for label in rng.integers(0, 7, 40)]
    among = rows.astype(np.float64) @ rows.T
    expected = [max(among[i, j] for j in range(40) if labels[j] != labels[i]) for i in range(40)]
    assert np.allclose(to_other_people(rows, labels), expected)
    assert np.isneginf(to_other_people(rows[:3], ["a"] * 3)).all()


def test_membership_takes_equally_many_pictures_of_each():
    line = [[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [0.5, 0.5]]
    synthetic = Seen(["0_0.png"], ["0"], unit_rows(np.eye(2)[:1]), np.zeros((1, 4), np.uint8))
    real = Seen(list("abcde"), ["x", "x", "y", "y", "z"], unit_rows(np.array(line)), np.zeros((5, 4), np.uint8))
    held = Seen(list("abcd"), ["v", "v", "w", "w"], unit_rows(np.array(line[2:4] * 2)), np.zeros((4, 4), np.uint8))
    found = membership_test(synthetic, real, held)
    assert found.pictures == 2 and len(found.members) == 2 == len(found.outsiders)  # z has one picture only
    assert found.members[0] == pytest.approx(1) and found.area is not None and found.area.auc == 0.75
    assert "no held-out people" in membership_test(synthetic, real, None).note
    alone = Seen(held.names[:2], held.identities[:2], held.features[:2], held.thumbnails[:2])
    assert membership_test(synthetic, real, alone).area is None


def test_diversity_is_the_mean_over_pairs():
    one = seen(np.random.default_rng(1), 3, 5)
    rows = np.arange(5)
    pairs = [(i, j) for i in range(5) for j in range(i)]
    unit, grey = one.features.astype(np.float64), one.thumbnails.astype(np.float64)
    found = diversity(one, rows)
    assert found is not None and found.cosine == pytest.approx(1 - np.mean([unit[i] @ unit[j] for i, j in pairs]))
    squares = [np.mean((grey[i] - grey[j]) ** 2) for i, j in pairs]
    assert found.pixels == pytest.approx(np.sqrt(np.mean(squares)))
    assert diversity(one, rows[:1]) is None
    each = [diversity(one, np.flatnonzero(np.array(one.identities) == str(person))) for person in range(3)]
    assert distribution(one).diversity == pytest.approx(np.mean([d for d in each if d], axis=0))


def test_pairs_of_every_nth_person_where_there_are_too_many():
    many = seen(np.random.default_rng(2), 7, 4)
    part = [row for row, name in enumerate(many.identities) if name in "036"]
    found, mated = (
        distribution(many, 10),
        identity.mated_nonmated(many.features[part], [many.identities[r] for r in part]),
    )
    assert (found.mated.total, found.nonmated.total) == (3 * 6, 3 * 16)
    assert (found.mated.mean, found.nonmated.mean) == pytest.approx([np.mean(scores) for scores in mated])
    assert found.diversity == distribution(many).diversity and distribution(many, 28).mated.total == 7 * 6


def test_within_people():
    rows = unit_rows(np.array([[1, 0], [1, 0.1], [0, 1], [1, 0.01]]))
    found = within_people(rows, ["a", "a", "b", "c"])
    assert found.row.tolist() == [1, 0, -1, -1] and found.score[0] == found.score[1] and np.isneginf(found.score[2])


def test_a_small_set_has_figures_as_far_as_it_can():
    rng = np.random.default_rng(0)
    one, real = seen(rng, 1, 1), seen(rng, 4, 2)
    figures = audit(one, real).synthetic_set.figures()
    assert figures["eer"] is None and figures["diversity_cosine"] is None and figures["mated_scores"] == 0
    with pytest.raises(ValueError, match="only one person"):
        audit(real, one)
