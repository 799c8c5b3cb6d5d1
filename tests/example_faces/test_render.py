"""example_faces: a seed gives the same bytes; the two spectra see one geometry; light and pigment act as in physics."""

import dataclasses

import numpy as np
import pytest

from example_faces.anatomy import PARAMETER_NAMES, PARAMETERS, Person, sample_person
from example_faces.render import Pair, render_dataset, render_pair
from example_faces.shots import Shot, sample_shot

SEED = 7


def quiet_shot(**changes: object) -> Shot:
    """A frontal picture without glasses, noise or open mouth."""
    shot = sample_shot(SEED, 0, 0)
    still = {"yaw": 0.1, "pitch": 0.0, "roll": 0.0, "glasses": None, "noise": 0.0, "smile": 0.2, "mouth_open": 0.0}
    return dataclasses.replace(shot, **{**still, "light": (0.36, 0.48, 0.80), **changes})  # type: ignore[arg-type]


def full_person() -> Person:
    """A person who has everything that a parameter can be about: hair, a fringe, a beard, freckles."""
    rich = {"hair_length": 0.4, "hair_fringe": 0.5, "beard": 0.6, "moustache": 0.6, "freckles": 0.5, "moles": 4.0}
    return sample_person(SEED, 1).replace(**rich, melanin=0.05, hairline_height=0.7)


def difference(a: Pair, b: Pair, spectrum: str) -> float:
    return float(np.abs(a[spectrum].astype(float) - b[spectrum]).mean())


# ----------------------------------------------------------------------------
# Shapes and sameness.


@pytest.mark.parametrize("resolution", [32, 33, 48, 64, 100, 256])
def test_shapes(resolution: int) -> None:
    pair = render_pair(sample_person(SEED, 0), sample_shot(SEED, 0, 0), resolution)
    assert pair["vis"].shape == (resolution, resolution, 3) and pair["vis"].dtype == np.uint8
    assert pair["nir"].shape == (resolution, resolution, 1) and pair["nir"].dtype == np.uint8


def test_resolution_is_checked() -> None:
    with pytest.raises(ValueError, match="resolution 8"):
        render_pair(sample_person(SEED, 0), sample_shot(SEED, 0, 0), 8)


@pytest.mark.parametrize("workers", [1, 3])
def test_same_seed_same_bytes(workers: int) -> None:
    """In order, whatever the number of workers, and as one picture rendered alone."""
    got = list(render_dataset(SEED, 3, 10, 32, first_identity=5, workers=workers))
    assert [(identity, sample) for identity, sample, _ in got] == [(i, j) for i in (5, 6, 7) for j in range(10)]
    for identity, sample, pair in got[::7]:
        alone = render_pair(sample_person(SEED, identity), sample_shot(SEED, identity, sample), 32)
        assert all(np.array_equal(pair[name], alone[name]) for name in ("vis", "nir"))


def test_other_seed_other_people() -> None:
    assert sample_person(1, 0) != sample_person(2, 0)
    assert sample_person(1, 0) == sample_person(1, 0)
    assert sample_shot(1, 0, 0) != sample_shot(1, 0, 1)


# ----------------------------------------------------------------------------
# The person's vector.


def test_vector() -> None:
    assert len(PARAMETER_NAMES) >= 24
    vectors = np.stack([sample_person(SEED, i).vector() for i in range(200)])
    assert vectors.shape == (200, len(PARAMETER_NAMES))
    for values, spec in zip(vectors.T, PARAMETERS.values(), strict=True):
        present = values[values != 0.0] if spec["none"] else values
        assert spec["low"] <= present.min() and present.max() <= spec["high"]
        if spec["none"]:
            assert 0.4 < (values == 0.0).mean() < 0.8


@pytest.mark.parametrize("name", PARAMETER_NAMES)
def test_every_parameter_changes_the_picture(name: str) -> None:
    spec, shot = PARAMETERS[name], quiet_shot()
    low, high = (render_pair(full_person().replace(**{name: spec[end]}), shot, 64) for end in ("low", "high"))
    assert max(difference(low, high, spectrum) for spectrum in ("vis", "nir")) > 0.05


# ----------------------------------------------------------------------------
# Spectra.


def test_spectra_are_aligned() -> None:
    """Where VIS has edges, NIR has them, and a shift of two pixels makes that worse."""
    shot = quiet_shot(background=(0.9, 0.9, 0.9, 0.9), blur=0.001)
    pair = render_pair(sample_person(SEED, 3).replace(melanin=0.03), shot, 128)
    vis, nir = pair["vis"].astype(float).mean(axis=2), pair["nir"][..., 0].astype(float)
    edges = [np.hypot(*np.gradient(picture)) for picture in (vis, nir)]
    scores = {
        (dy, dx): np.corrcoef(edges[0].ravel(), np.roll(edges[1], (dy, dx), (0, 1)).ravel())[0, 1]
        for dy in (-2, 0, 2)
        for dx in (-2, 0, 2)
    }
    assert max(scores, key=lambda shift: scores[shift]) == (0, 0)


def test_nir_ignores_the_room() -> None:
    person, lights = sample_person(SEED, 4), [(-0.6, 0.0, 0.8), (0.6, 0.0, 0.8)]
    left, right = (render_pair(person, quiet_shot(light=light), 64) for light in lights)
    assert difference(left, right, "nir") == 0.0
    assert difference(left, right, "vis") > 3.0


def test_melanin_darkens_vis_more_than_nir() -> None:
    person = sample_person(SEED, 5).replace(beard=0.0, moustache=0.0)
    fair, dark = (render_pair(person.replace(melanin=amount), quiet_shot(), 64) for amount in (0.02, 0.35))
    assert difference(fair, dark, "vis") > 2.0 * difference(fair, dark, "nir") > 0.0


def test_lips_are_faint_in_nir() -> None:
    pale, red = (render_pair(sample_person(SEED, 6).replace(lip_blood=x), quiet_shot(), 64) for x in (0.05, 0.17))
    green = np.abs(pale["vis"][..., 1].astype(float) - red["vis"][..., 1]).max()
    nir = np.abs(pale["nir"].astype(float) - red["nir"]).max()
    assert green > 1.8 * nir


# ----------------------------------------------------------------------------
# Identity.


@pytest.mark.parametrize("spectrum", ["vis", "nir"])
def test_a_person_is_nearer_to_himself(spectrum: str) -> None:
    """In plain pixels, averaged over 25 people."""
    pictures: dict[int, list[np.ndarray]] = {}
    for identity, _, pair in render_dataset(SEED, 25, 4, 32, workers=1):
        pictures.setdefault(identity, []).append(pair[spectrum][6:28, 7:25].astype(float))  # the face, not the wall
    stack = np.stack([np.stack(shots) for shots in pictures.values()])  # [25, 4, ...]
    flat = stack.reshape(25, 4, -1)
    flat = flat - flat.mean(axis=(0, 1))
    distances = np.linalg.norm(flat[:, None, :, None] - flat[None, :, None, :], axis=-1)  # [25, 25, 4, 4]
    same = distances[np.arange(25), np.arange(25)].sum() / (25 * 12)  # the diagonal is zero
    other = (distances.sum() - distances[np.arange(25), np.arange(25)].sum()) / (25 * 24 * 16)
    assert same < 0.85 * other
