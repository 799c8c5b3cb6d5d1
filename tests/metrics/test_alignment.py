"""The metric `alignment` on rendered faces: drawn pairs that are shifted, beside real ones and strangers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from example_faces.anatomy import sample_person
from example_faces.render import render_pair
from example_faces.shots import sample_shot
from metrics import alignment, rows
from metrics.measure import check_metrics, measure
from metrics.people import people_of, strangers_of
from metrics.pictures import PAIRS, Pictures, Side, Stream
from metrics.real import RealPictures
from metrics.registry import build_observers, parse_metrics
from metrics.rows import collect
from torch_utils import distributed

METRICS = parse_metrics("alignment")
OBSERVERS = build_observers(METRICS, {})
PEOPLE, SHOTS = 5, 2


@cache
def faces() -> Mapping[str, torch.Tensor]:
    """A person's pictures one after the other, uint8 [10, C, 64, 64]."""
    pairs = [
        render_pair(sample_person(7, who), sample_shot(7, who, shot), 64)
        for who in range(PEOPLE)
        for shot in range(SHOTS)
    ]
    return {
        name: torch.from_numpy(np.stack([pair[name] for pair in pairs])).permute(0, 3, 1, 2) for name in ("vis", "nir")
    }


def batches(pictures: Pictures, number: int, size: int) -> Iterator[Pictures]:
    """This process's share."""
    for first in range(0, number, size * distributed.world_size()):
        take = np.arange(first + distributed.rank(), number, distributed.world_size())[:size]
        if len(take):
            yield {name: images[take] for name, images in pictures.items()}


def side(down: int = 0, size: int = 4, real: bool = False) -> Side:
    """Pairs whose NIR lies too low."""
    pictures = {**faces(), "nir": faces()["nir"].roll(down, dims=2)}
    names = np.repeat(np.arange(PEOPLE), SHOTS)
    labels = {"identities": names.astype(str)} if real else {"conditions": np.eye(PEOPLE, dtype=np.float32)[names]}
    stream = Stream(lambda number: batches(pictures, number, size))
    return Side(("vis", "nir"), len(names), {PAIRS: stream}, lambda number: {k: v[:number] for k, v in labels.items()})


def figures(fake: Side) -> dict[str, float]:
    (lines,) = measure(METRICS, RealPictures(side(real=True), OBSERVERS), fake, seed=0)
    assert {line["spectrum"] for line in lines} == {"vis-nir"} and all(line["sd"] >= 0 for line in lines)
    assert {line["detector"] for line in lines} == {"gradients"} and {line["detector_sha256"] for line in lines} == {""}
    return {line["metric"].removeprefix("alignment_"): line["value"] for line in lines}


def test_a_shift_shows_beside_real_pairs_and_strangers() -> None:
    found = figures(side(down=2))
    assert list(found) == list(alignment.PARTS)
    assert found["error"] == pytest.approx(2, abs=0.1) and found["error_real"] < 0.1
    assert found["error_shuffled"] > 2 * found["error_real"]
    for figure in ("nmi", "gradient"):
        assert found[f"{figure}_real"] > found[figure] + 0.02 and found[f"{figure}_real"] > found[f"{figure}_shuffled"]
    same = figures(side())
    for figure in alignment.FIGURES:
        assert same[figure] == same[f"{figure}_real"]
        assert same[f"{figure}_shuffled"] != same[figure]


def test_strangers_are_pairs_of_two_people_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each VIS picture meets the NIR of whoever is half of all ahead; only the pairs that are kept count."""
    vis, nir = faces()["vis"][:, 0].float(), faces()["nir"][:, 0].float()
    others = [5, 6, 7, 8, 9, 0, 1, 2, 3, 4]
    expected = alignment.compared(vis, nir[others])
    assert figures(side())["error_shuffled"] == pytest.approx(expected["error"].mean(), abs=1e-4)
    monkeypatch.setitem(OBSERVERS, "first-pairs", OBSERVERS["first-pairs"]._replace(most=6))
    few = alignment.compared(vis[:6], nir[[3, 4, 5, 0, 1, 2]])
    assert figures(side())["error_shuffled"] == pytest.approx(few["error"].mean(), abs=1e-4)


def test_one_person_has_no_strangers() -> None:
    alone = side()
    alone = Side(alone.spectra, SHOTS, alone.streams, alone.labels)
    assert list(figures(alone)) == list(alignment.PARTS[:6])


@pytest.mark.parametrize("most", [None, 3, 7])
@pytest.mark.parametrize(("world", "size"), [(1, 3), (1, 10), (2, 1), (3, 2)])
def test_rows_depend_neither_on_the_batch_nor_on_the_processes(
    world: int, size: int, most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = OBSERVERS["first-pairs"]._replace(most=most)
    shares = []
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: world)
        shares.append(collect(batches(faces(), 10, size), [wanted])["first-pairs"])
    monkeypatch.setattr(distributed, "gathered_at_first", lambda own: shares)
    whole = rows.brought_together(shares[0])
    for name, images in faces().items():
        assert np.array_equal(whole[name], images[:most, 0].numpy())


def test_people_and_strangers_by_hand() -> None:
    assert people_of({"identities": np.array(["b", "a", "b"])}).tolist() == [1, 0, 1]
    conditions = np.array([[0, 1], [1, 0], [0, 1], [0, 0]], dtype=np.float32)
    assert people_of({"conditions": conditions}).tolist() == [1, 2, 1, 0]
    assert people_of({"conditions": conditions}, 2).tolist() == [0, 1]
    assert strangers_of(np.array([0, 0, 0, 1])).tolist() == [3, 3, 3, 1]
    assert strangers_of(np.array([0, 1, 2, 3])).tolist() == [2, 3, 0, 1]
    assert len(strangers_of(np.array([4, 4]))) == 0 and len(strangers_of(np.array([], dtype=int))) == 0


def test_one_spectrum_alone_has_nothing_to_lie_on() -> None:
    alone = Side(("nir",), 10, side().streams, side().labels)
    with pytest.raises(UserError, match="--metrics: alignment: compares the two spectra of a pair, and nir is alone"):
        check_metrics(METRICS, alone, None, OBSERVERS)
