"""Exact nearest neighbours: against a double loop in float64, with ties, in any tiles, and in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_utils import search
from torch_utils.search import Gallery, cosines, nearest, over


def units(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def crowded(rng, count, size):
    """Rows of which many are equal, and many others within a float32 rounding of one another."""
    rows = units(rng.normal(size=(max(count, 1), size)))
    copies = rows[rng.integers(0, max(1, count // 3), size=max(count, 1))]
    return units(copies + rng.choice([0, 0, 1e-7, -1e-7], size=copies.shape))[:count]


def check(probes, gallery, absolute, exclude=None, until=None):
    """The definition: the highest exact cosine that counts, and the first row that reaches it."""
    similarity, index = nearest(probes, gallery, absolute, exclude, until)
    for row, probe in enumerate(probes):
        scores = cosines(gallery, probe[None]) if len(gallery) else np.empty(0)
        scores = np.abs(scores) if absolute else scores
        allowed = np.ones(len(gallery), dtype=bool)
        if exclude is not None and exclude[row] >= 0:
            allowed[exclude[row]] = False
        if until is not None:
            allowed[until[row] :] = False
        if not allowed.any():
            assert (similarity[row], index[row]) == (-np.inf, -1)
            continue
        assert similarity[row] == scores[allowed].max()
        assert index[row] == np.flatnonzero(allowed & (scores == similarity[row]))[0]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(0, 20), st.booleans(), st.sampled_from([2, 7, 64]))
def test_nearest_is_the_first_of_the_highest(seed, probes, count, absolute, size):
    rng = np.random.default_rng(seed)
    gallery = crowded(rng, count, size)
    exclude = rng.integers(-1, count, size=probes) if count else np.full(probes, -1)
    until = rng.integers(0, count + 1, size=probes)
    both = np.concatenate([gallery, units(rng.normal(size=(probes, size)))])
    wanted = both[rng.integers(0, len(both), size=probes)]
    whole = (dict(search.PROBES), dict(search.SCORES), search.RESCORED)
    try:
        for tiles in (whole, ({"cpu": 3}, {"cpu": 12}, 2 * size)):
            search.PROBES, search.SCORES, search.RESCORED = tiles
            check(wanted, gallery, absolute)
            check(wanted, gallery, absolute, exclude)
            check(wanted, gallery, absolute, exclude, until)
    finally:
        search.PROBES, search.SCORES, search.RESCORED = whole


def test_cosines_are_those_of_float64():
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 24, 511, 512):
        a, b = units(rng.normal(size=(5, size))), units(rng.normal(size=(5, size)))
        wanted = (a.astype(np.float64) * b).sum(axis=1)
        np.testing.assert_allclose(cosines(a, b), wanted, atol=1e-15)
        np.testing.assert_array_equal(cosines(a, b), cosines(b, a))


def test_slack_is_more_than_products_are_wrong_by():
    rng = np.random.default_rng(0)
    a, b = units(rng.uniform(size=(200, 512))), units(rng.uniform(size=(200, 512)))  # all of one sign: rounding adds up
    with search.full_float32():
        rough = (torch.from_numpy(a) @ torch.from_numpy(b).T).numpy()
    error = np.abs(rough - a.astype(np.float64) @ b.T.astype(np.float64)).max()
    assert 0 < 2 * error < search.slack(512) < 1e-4


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(0, 15), st.booleans(), st.booleans())
def test_over_is_the_strict_comparison(seed, count, absolute, at_a_score):
    rng = np.random.default_rng(seed)
    rows = crowded(rng, count, 8)
    pairs = np.array([cosines(rows, row[None]) for row in rows]).reshape(count, count)
    pairs = np.abs(pairs) if absolute else pairs
    highest = float(rng.choice(pairs.ravel())) if at_a_score and count else float(rng.uniform(-1, 1))
    np.testing.assert_array_equal(over(rows, highest, absolute), np.tril(pairs > highest, -1))


def test_a_gallery_grows():
    rows = units(np.random.default_rng(0).normal(size=(50, 6)))
    gallery = Gallery(6, capacity=4)
    for start in range(0, 50, 7):
        gallery.append(rows[start : start + 7])
    assert len(gallery) == 50
    np.testing.assert_array_equal(gallery.rows.numpy(), rows)
    assert len(gallery._store) <= 2 * 50
    check(rows[:5], rows, False, exclude=np.arange(5))
    np.testing.assert_array_equal(nearest(rows, gallery)[1], np.arange(50))
    gallery.append(rows[:0])
    assert len(gallery) == 50


def test_a_gallery_of_an_array_is_left_alone():
    rows = units(np.eye(3))
    rows.flags.writeable = False
    gallery = Gallery.of(rows)
    gallery.append(units([[1, 1, 1]]))
    assert len(gallery) == 4 and rows.shape == (3, 3)
    np.testing.assert_array_equal(rows, np.eye(3))


def test_equal_rows_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(search, "RESCORED", 4096)
    largest = 0
    dot = search._dot

    def watched(first, second):
        nonlocal largest
        largest = max(largest, first.numel(), second.numel())
        return dot(first, second)

    monkeypatch.setattr(search, "_dot", watched)
    rows = np.repeat(units(np.ones((1, 16))), 300, axis=0)
    similarity, index = nearest(rows[:20], rows)
    assert (index == 0).all() and similarity == pytest.approx(1) and 0 < largest <= 4096


@pytest.mark.parametrize("row", [[2.0, 0.0], [np.nan, 0.0], [0.0, 0.0]])
def test_rows_of_another_length_are_refused(row):
    right, wrong = units(np.eye(2)), np.array([row], dtype=np.float32)
    for call in (lambda: nearest(wrong, right), lambda: nearest(right, wrong), lambda: Gallery(2).append(wrong)):
        with pytest.raises(ValueError, match="length one"):
            call()


def test_threads_and_precision_do_not_matter():
    rng = np.random.default_rng(0)
    probes, gallery = crowded(rng, 40, 512), crowded(rng, 300, 512)
    wanted = nearest(probes, gallery)
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        torch.set_num_threads(2)
        torch.set_float32_matmul_precision("medium")
        found = nearest(probes, gallery)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_the_same():
    rng = np.random.default_rng(0)
    probes, gallery = crowded(rng, 500, 512), crowded(rng, 20_000, 512)
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        for absolute in (False, True):
            wanted = nearest(probes, gallery, absolute)
            np.testing.assert_array_equal(nearest(probes, Gallery.of(gallery, "cuda"), absolute), wanted)
            np.testing.assert_array_equal(over(probes, 0.5, absolute, "cuda"), over(probes, 0.5, absolute))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
