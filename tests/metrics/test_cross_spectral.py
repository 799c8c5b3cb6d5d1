"""Cosines of pairs, strangers and conditions, by hand and against the double loop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from metrics import cross_spectral, identity
from metrics.cross_spectral import cross_id, id_consistency, own_and_others
from metrics.people import siblings_of
from metrics.pictures import Rows
from metrics.registry import Result, Setting
from metrics.rows import Seen

SETTING = Setting(0, torch.device("cpu"))


def seen(labels: Rows, **features: Sequence[Sequence[float]] | np.ndarray) -> Seen:
    rows = {f"{spectrum}/features": np.asarray(values, dtype=np.float32) for spectrum, values in features.items()}
    return Seen(len(next(iter(features.values()))), rows={"arcface": rows}, labels=labels)


def by_name(results: Sequence[Result]) -> dict[tuple[str, str], float]:
    return {(result.spectrum, result.part): result.value for result in results}


def test_own_and_others_by_hand() -> None:
    """Rows 0 and 2 are of one person: their cross products count neither as own nor as others."""
    first, second = np.array([[1.0, 0], [0, 2], [3, 4]]), np.array([[2.0, 0], [1, 0], [0, 1]])
    own, others = own_and_others(first, second, np.array([5, 7, 5]))
    assert (own.total, own.mean) == (3, pytest.approx((1 + 0 + 0.8) / 3))
    # 0 with 1: 1; 1 with 0: 0, with 2: 1; 2 with 1: 0.6.
    assert (others.total, others.mean, others.highest) == (4, pytest.approx(2.6 / 4), 1)


@pytest.mark.parametrize("block", [1, 7, 1024])
@pytest.mark.parametrize("most", [1, 9, 4096])
def test_blocks_agree_with_a_double_loop(block: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_spectral, "BLOCK", block)
    monkeypatch.setattr(cross_spectral, "MOST_OTHERS", most)
    rng = np.random.default_rng(0)
    first, second, people = rng.standard_normal((20, 6)), rng.standard_normal((20, 6)), rng.integers(0, 6, 20)
    cosine = lambda i, j: first[i] @ second[j] / np.linalg.norm(first[i]) / np.linalg.norm(second[j])  # noqa: E731
    expected = [cosine(i, j) for i in range(20) for j in range(min(most, 20)) if people[i] != people[j]]
    own, others = own_and_others(first, second, people)
    assert own.mean == pytest.approx(np.mean([cosine(i, i) for i in range(20)]))
    assert (others.total, others.mean, others.sd) == (
        len(expected), pytest.approx(np.mean(expected)), pytest.approx(np.std(expected))
    )  # fmt: skip


def test_pairs_across_spectra_beside_real_ones() -> None:
    rng = np.random.default_rng(1)
    faces = rng.standard_normal((40, 16))
    real = seen({"identities": np.arange(40).astype(str)}, vis=faces, nir=faces + 0.3 * rng.standard_normal((40, 16)))
    mixed = faces.copy()
    mixed[:20] = rng.standard_normal((20, 16))  # half of the pairs are of two people
    fake = seen({"conditions": np.eye(40)}, vis=faces, nir=mixed)
    found = by_name(cross_id(real, fake, SETTING))
    assert found.keys() == {
        ("vis-nir", part) for part in (*cross_spectral.PAIRED, *map("{}_real".format, cross_spectral.PAIRED))
    }
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (faces, mixed)]
    cosines = unit[0] @ unit[1].T
    own, others = np.diag(cosines), cosines[~np.eye(40, dtype=bool)]
    assert found["vis-nir", "pair"] == pytest.approx(own.mean(), abs=1e-6)
    assert found["vis-nir", "others"] == pytest.approx(others.mean(), abs=1e-6)
    assert found["vis-nir", "apart"] == pytest.approx(identity.d_prime(own, others), rel=1e-5)
    assert found["vis-nir", "eer"] == pytest.approx(identity.eer(own, others), abs=1e-3)
    assert found["vis-nir", "eer_real"] < 0.02 < 0.2 < found["vis-nir", "eer"]
    assert found["vis-nir", "apart_real"] > 2 * found["vis-nir", "apart"] and found["vis-nir", "pair_real"] > 0.9


def test_a_network_that_draws_everybody_alike_has_pairs_but_nothing_apart() -> None:
    """Its mean cosine is the highest of all; so `apart` is what the best network is chosen by."""
    same = np.tile(np.random.default_rng(0).standard_normal(512), (30, 1))
    real = seen({"identities": np.array(["a", "b"])}, vis=[[1, 0], [0, 1]], nir=[[1, 0], [0, 1]])
    found = by_name(cross_id(real, seen({"conditions": np.eye(30)}, vis=same, nir=2 * same), SETTING))
    assert found["vis-nir", "pair"] == pytest.approx(1) and found["vis-nir", "others"] == pytest.approx(1)
    assert found["vis-nir", "apart"] == 0 and found["vis-nir", "eer"] == 0.5
    assert cross_spectral.PAIRED[0] == "apart"


def test_strangers_that_are_closer_are_apart_the_other_way() -> None:
    turned = seen({"identities": np.array(["a", "b"])}, vis=[[1, 0], [0.6, 0.8]], nir=[[0.6, 0.8], [0.96, 0.28]])
    found = by_name(cross_id(turned, turned, SETTING))
    own = np.array([0.6, 0.6 * 0.96 + 0.8 * 0.28])
    others = np.array([0.96, 1.0])
    assert found["vis-nir", "apart"] == pytest.approx(-identity.d_prime(own, others), rel=1e-4)


def test_one_person_has_no_others() -> None:
    alone = seen({"identities": np.array(["a", "a"])}, vis=[[1, 0], [0, 1]], nir=[[1, 0], [1, 1]])
    found = by_name(cross_id(alone, alone, SETTING))
    assert found == {("vis-nir", part): pytest.approx((1 + 0.5**0.5) / 2) for part in ("pair", "pair_real")}


def test_what_was_asked_for_beside_what_was_not() -> None:
    """Two pairs of one condition are no strangers; a real picture stands beside the person's next VIS picture."""
    conditions = np.array([[2.0, 0], [0, 1], [2, 0]])
    fake = seen({"conditions": conditions}, vis=[[1, 0], [0, 3], [0, 1]], nir=[[3, 4], [3, 4], [3, 4]])
    real = seen(
        {"identities": np.array(["a", "b", "a", "c"])}, vis=[[1, 0], [9, 1], [3, 4], [1, 9]],
        nir=[[0, 1], [9, 1], [1, 0], [1, 9]],
    )  # fmt: skip
    found = by_name(id_consistency(real, fake, SETTING))
    assert found["vis", "cosine"] == pytest.approx((1 + 1 + 0) / 3)
    assert found["vis", "others"] == pytest.approx((0 + 0 + 0 + 1) / 4)  # 0 and 2 with 1, 1 with 0 and 2: 0, 1, 0, 0
    assert found["nir", "cosine"] == pytest.approx((0.6 + 0.8 + 0.6) / 3)
    assert found["nir", "others"] == pytest.approx((0.8 + 0.6 + 0.6 + 0.8) / 4)
    assert found["vis", "cosine_real"] == pytest.approx(0.6)  # [1, 0] and [3, 4], both ways
    assert found["nir", "cosine_real"] == pytest.approx((0.8 + 1) / 2)  # [0, 1] with [3, 4], [1, 0] with [1, 0]
    assert {("vis", "apart"), ("vis", "eer"), ("nir", "eer")} <= found.keys()


def test_siblings_by_hand() -> None:
    own, others = siblings_of(np.array([3, 1, 3, 2, 1, 3]))
    assert dict(zip(own.tolist(), others.tolist(), strict=True)) == {0: 2, 2: 5, 5: 0, 1: 4, 4: 1}
    assert [len(found) for found in siblings_of(np.array([1, 2]))] == [0, 0]
