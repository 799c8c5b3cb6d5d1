"""Five-point alignment against scikit-image's estimate, and the resampling against a brute-force integral."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import SimilarityTransform

from arcface.alignment import (
    ARCFACE_TEMPLATE,
    PORTRAIT_TEMPLATE,
    PointsFault,
    Similarity,
    Template,
    between,
    fit,
    frame_between,
    share_outside,
    sight,
    template_of,
    umeyama,
    warp,
)
from arcface.preprocess import preprocess
from dnnlib.errors import UserError

FACE = ARCFACE_TEMPLATE.at(112)
angles = st.floats(-np.pi, np.pi)
scales = st.floats(0.02, 50)
shifts = st.tuples(st.floats(-2000, 2000), st.floats(-2000, 2000))
seeds = st.integers(0, 2**32 - 1)


def similarity(scale: float, angle: float, shift: tuple[float, float]) -> Similarity:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Similarity(np.column_stack([scale * turn, shift]))


# ----------------------------------------------------------------------------
# Points.


@given(scales, angles, shifts)
@settings(deadline=None)
def test_a_similarity_is_recovered_exactly(scale: float, angle: float, shift: tuple[float, float]) -> None:
    truth = similarity(scale, angle, shift)
    found = fit(truth.inverse()(FACE), FACE)
    assert isinstance(found, Similarity)
    np.testing.assert_allclose(found.matrix, truth.matrix, atol=1e-6, rtol=1e-6)
    assert found.scale == pytest.approx(scale)


@given(seeds, st.booleans())
@settings(deadline=None)
def test_the_estimate_is_scikit_images(seed: int, mirrored: bool) -> None:
    rng = np.random.default_rng(seed)
    points = FACE * (-1 if mirrored else 1, 1) + rng.normal(0, 12, (5, 2))
    expected = SimilarityTransform()
    assert expected.estimate(points, FACE)
    np.testing.assert_allclose(umeyama(points, FACE).matrix, expected.params[:2], atol=1e-7)


def test_a_quarter_turn_by_hand() -> None:
    source = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    target = np.array([[5.0, 7.0], [5.0, 9.0], [3.0, 7.0]])  # twice as large, x to y, then 5, 7 further
    np.testing.assert_allclose(umeyama(source, target).matrix, [[0, -2, 5], [2, 0, 7]], atol=1e-12)


def test_no_reflection_even_where_one_would_fit() -> None:
    found = umeyama(FACE * (-1, 1), FACE)
    assert np.linalg.det(found.matrix[:, :2]) > 0


@pytest.mark.parametrize(
    ("points", "fault"),
    [
        (np.full((5, 2), 3.0), PointsFault.EQUAL),
        (np.full((5, 2), np.nan), PointsFault.NOT_FINITE),
        (np.full((5, 2), np.inf), PointsFault.NOT_FINITE),
        (np.where(np.arange(10).reshape(5, 2) == 3, 1e300, FACE), PointsFault.NOT_FINITE),
        (np.outer(np.arange(5), (1, 2)), PointsFault.COLLINEAR),
        (FACE[[1, 0, 2, 4, 3]], PointsFault.MIRRORED),
        (FACE * (-1, 1), PointsFault.MIRRORED),
    ],
)
def test_points_that_are_no_face_have_a_reason(points: np.ndarray, fault: PointsFault) -> None:
    assert fit(points, FACE) is fault


def test_one_after_the_other_is_their_product() -> None:
    first, second = similarity(2, 0.3, (1, 2)), similarity(0.5, -1, (7, -3))
    np.testing.assert_allclose(first.then(second)(FACE), second(first(FACE)))
    np.testing.assert_allclose(first.then(first.inverse())(FACE), FACE)


# ----------------------------------------------------------------------------
# Templates.


def test_the_arcface_square_is_whole_pixels_of_a_portrait_of_160() -> None:
    found = between(PORTRAIT_TEMPLATE, 160, ARCFACE_TEMPLATE, 112)
    np.testing.assert_allclose(found.matrix, [[1, 0, -24], [0, 1, -30]], atol=1e-9)
    np.testing.assert_allclose(between(ARCFACE_TEMPLATE, 112, ARCFACE_TEMPLATE, 224)((-0.5, -0.5)), [-0.5, -0.5])
    np.testing.assert_allclose(ARCFACE_TEMPLATE.at(112)[0], (38.2946, 51.6963))
    assert (PORTRAIT_TEMPLATE.at(256)[:, 1] > 128).all() and PORTRAIT_TEMPLATE.points[0, 1] == pytest.approx(0.5, 0.03)


def test_a_datasets_template_is_read_from_its_description() -> None:
    assert template_of({"alignment": "portrait"}) is PORTRAIT_TEMPLATE
    assert template_of({"alignment": "none"}) is template_of(None) is template_of([1]) is None
    found = template_of({"alignment": "own", "alignment_points": PORTRAIT_TEMPLATE.points.tolist()})
    assert isinstance(found, Template) and (found.points == PORTRAIT_TEMPLATE.points).all() and found.name == "own"
    huge, nowhere = [[10**400, 0.1]] * 5, [[0.5, float("nan")]] * 5
    for points in ("abc", huge, [[1, 2]], nowhere, [[0.5, 0.5]] * 5, [["a", {}]] * 5, 7):
        with pytest.raises(UserError, match=r"--data: dataset\.json: alignment_points"):
            template_of({"alignment": "own", "alignment_points": points})
    long = template_of({"alignment": "x" * 999 + "\n", "alignment_points": FACE.tolist()})
    again = template_of(PORTRAIT_TEMPLATE.record())
    assert long is not None and long.name == "x" * 40
    assert again is not None and (again.points == PORTRAIT_TEMPLATE.points).all()


# ----------------------------------------------------------------------------
# What a model sees.


def test_the_frame_between_the_two_templates_by_hand() -> None:
    assert frame_between(PORTRAIT_TEMPLATE, ARCFACE_TEMPLATE) == pytest.approx((24 / 160, 30 / 160, 0.7))
    assert frame_between(ARCFACE_TEMPLATE, PORTRAIT_TEMPLATE) == pytest.approx((-24 / 112, -30 / 112, 160 / 112))
    same = Template("another name", ARCFACE_TEMPLATE.points + 1e-6)
    assert frame_between(same, ARCFACE_TEMPLATE) is frame_between(None, ARCFACE_TEMPLATE) is None
    assert frame_between(PORTRAIT_TEMPLATE, None) is frame_between(None, None) is None


@given(seeds, st.floats(0.4, 2), st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)))
@settings(max_examples=30, deadline=None)
def test_no_other_frame_brings_the_points_nearer(seed: int, side: float, corner: tuple[float, float]) -> None:
    """Least squares, against numpy's solver for the three unknowns."""
    points = ARCFACE_TEMPLATE.points * side + corner + np.random.default_rng(seed).normal(0, 0.02, (5, 2))
    frame = frame_between(Template("own", points), ARCFACE_TEMPLATE)
    assert frame is not None
    ones, zeros = np.ones(5), np.zeros(5)
    rows = np.block([[points[:, 0:1], ones[:, None], zeros[:, None]], [points[:, 1:], zeros[:, None], ones[:, None]]])
    (scale, x, y), *_ = np.linalg.lstsq(rows, ARCFACE_TEMPLATE.points.T.ravel(), rcond=None)
    np.testing.assert_allclose(frame, (-x / scale, -y / scale, 1 / scale), atol=1e-9)


@pytest.mark.parametrize("change", [lambda p: p[:, ::-1] * (1, -1), lambda p: 1 - p, lambda p: p * 9, lambda p: p / 9])
def test_templates_without_a_frame_are_refused(change) -> None:
    turned = Template("turned", change(ARCFACE_TEMPLATE.points))
    with pytest.raises(UserError, match="aligned as turned, and no square of them shows a face as arcface_112"):
        frame_between(turned, ARCFACE_TEMPLATE)


def test_a_line_says_what_is_seen() -> None:
    assert sight(PORTRAIT_TEMPLATE, PORTRAIT_TEMPLATE) is sight(None, None) is sight(PORTRAIT_TEMPLATE, None) is None
    said = sight(PORTRAIT_TEMPLATE, ARCFACE_TEMPLATE)
    assert said is not None and "aligned as portrait, the model as arcface_112: it sees the square of 70%" in said
    assert "beyond" not in said and "beyond" in str(sight(ARCFACE_TEMPLATE, PORTRAIT_TEMPLATE))
    assert "is not known" in str(sight(None, ARCFACE_TEMPLATE))


def test_a_portrait_gives_the_network_what_the_arcface_crop_gives() -> None:
    """One photograph, cut both ways; seen as a whole, the portrait is far from it."""
    from skimage.data import astronaut

    eyes_nose_mouth = np.array([[207, 113], [249, 110], [229, 137], [212, 153], [248, 151]])
    crops = {
        template.name: torch.from_numpy(
            warp(astronaut(), umeyama(eyes_nose_mouth, template.at(side)), side).transpose(2, 0, 1)[None].copy()
        )
        for template, side in ((PORTRAIT_TEMPLATE, 256), (ARCFACE_TEMPLATE, 112))
    }
    expected = preprocess(crops["arcface_112"], 112) * 127.5
    frame = frame_between(PORTRAIT_TEMPLATE, ARCFACE_TEMPLATE)
    framed = preprocess(crops["portrait"], 112, frame=frame) * 127.5 - expected
    whole = preprocess(crops["portrait"], 112) * 127.5 - expected
    assert framed.abs().mean() < 3 and whole.abs().mean() > 25
    assert abs(framed.mean()) < 0.3


# ----------------------------------------------------------------------------
# Pictures.


def smooth_noise(side: int, seed: int = 0) -> np.ndarray:
    """float-like uint8 [side, side, 1] with a standard deviation of 45."""
    from scipy import ndimage

    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((side, side)), 1.0)
    return np.clip(128 + 45 / noise.std() * noise, 0, 255).astype(np.uint8)[..., None]


def lanczos(x: np.ndarray) -> np.ndarray:
    return np.where(abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


def integral(image: np.ndarray, transform: Similarity, resolution: int, filter: str, sub: int) -> np.ndarray:
    """What `warp` promises, in the slowest way: the Lanczos surface at very many places under each target pixel."""
    height, width = image.shape[:2]
    if filter == "lanczos" and transform.scale >= 1:
        places: np.ndarray = np.zeros(1)
        weights: np.ndarray = np.ones(1)
    else:
        reach = 3.0 if filter == "lanczos" else 0.5
        places = (np.arange(int(2 * reach * sub)) + 0.5) / sub - reach
        weights = lanczos(places) if filter == "lanczos" else np.ones(len(places))
    weight = np.outer(weights, weights).ravel()
    result = np.zeros((resolution, resolution))
    for row in range(resolution):
        for column in range(resolution):
            x, y = np.meshgrid(column + places, row + places)
            at = transform.inverse()(np.stack([x.ravel(), y.ravel()], axis=1))  # [K, 2]
            taps = np.floor(at).astype(int)[:, :, None] + np.arange(-2, 4)  # [K, 2, 6]
            near = lanczos(at[:, :, None] - taps)
            near /= near.sum(axis=2, keepdims=True)
            columns, rows = (tap.clip(0, size - 1) for tap, size in ((taps[:, 0], width), (taps[:, 1], height)))
            values = np.einsum("kyx,ky,kx->k", image[rows[:, :, None], columns[:, None, :], 0], near[:, 1], near[:, 0])
            result[row, column] = (weight * values).sum() / weight.sum()
    return np.clip(result, 0, 255)


@pytest.mark.parametrize("filter", ["lanczos", "area"])
@pytest.mark.parametrize(("scale", "side"), [(3.3, 20), (1.0, 21), (0.7, 30), (0.4, 50), (1 / 8, 161), (1 / 14, 281)])
def test_the_resampling_is_the_integral(scale: float, side: int, filter: str) -> None:
    image, transform = smooth_noise(side), similarity(scale, 0.35, (0, 0))
    transform = transform.then(similarity(1, 0, tuple((3.6, 3.3) - transform((side / 2, side / 2)))))
    expected = integral(image, transform, 8, filter, sub=max(8, int(1.5 / scale)))
    error = abs(warp(image, transform, 8, filter)[..., 0] - expected)
    assert error.mean() < 2.2 and error.max() < 8, (error.mean(), error.max())


def test_what_does_not_move_does_not_change() -> None:
    image = np.random.default_rng(1).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    same = similarity(1, 0, (0, 0))
    assert (warp(image, same, 20) == image).all()
    assert (warp(image, similarity(1, 0, (-3, -2)), 10) == image[2:12, 3:13]).all()
    turned = warp(image, Similarity(np.array([[0.0, -1, 19], [1, 0, 0]])), 20)  # a quarter to the right
    assert (turned == np.rot90(image, -1)).all()


@pytest.mark.parametrize("scale", [4.0, 1.0, 0.5, 1 / 8, 1 / 21])
@pytest.mark.parametrize("filter", ["lanczos", "area"])
def test_a_blob_lands_where_its_point_does(scale: float, filter: str) -> None:
    """To a tenth of a target pixel: an error of half a pixel in the convention would be seen."""
    side = max(40, int(40 / scale))
    transform = similarity(scale, 0.5, (0, 0))
    aim = np.array([19.3, 21.6])
    transform = transform.then(similarity(1, 0, tuple(aim - transform((side / 2, side / 2)))))
    y, x = np.mgrid[:side, :side]
    width = max(1.5, 3.0 / scale)
    blob = 250 * np.exp(-((x - side / 2) ** 2 + (y - side / 2) ** 2) / (2 * width**2))
    result = warp(blob.astype(np.uint8)[..., None], transform, 40, filter)[..., 0].astype(float)
    mass = np.where(result > 40, result, 0)  # away from the border, which goes on outside
    rows, columns = np.mgrid[:40, :40]
    found = np.array([(mass * columns).sum(), (mass * rows).sum()]) / mass.sum()
    assert abs(found - aim).max() < 0.1, (found, aim)


def test_a_ramp_stays_a_ramp() -> None:
    image = np.tile(np.arange(0, 240, 2, dtype=np.uint8), (120, 1))[..., None]  # value 2 x
    result = warp(image, similarity(0.25, 0, (-5, -5)), 16)[..., 0]
    # Target pixel i is source x = (i + 5) / 0.25, and the value there 2 x.
    np.testing.assert_allclose(result[8], 8 * (np.arange(16) + 5), atol=1)


def test_finest_stripes_become_grey_when_shrunk() -> None:
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    for filter in ("lanczos", "area"):
        result = warp(stripes, similarity(1 / 8, 0.3, (0, 0)), 30, filter)
        assert abs(result[8:22, 12:25].astype(int) - 127).max() < 6


def test_outside_the_border_goes_on() -> None:
    image = np.random.default_rng(2).integers(0, 256, (6, 6, 1), dtype=np.uint8)
    result = warp(image, similarity(1, 0, (4, 0)), 10)[:6]
    assert (result[:, 4:] == image).all() and (result[:, :4] == image[:, :1]).all()
    far = warp(image, similarity(1, 0, (1e5, -1e5)), 10)
    assert (far == image[5, 0]).all()


def test_how_much_lies_outside_by_hand() -> None:
    assert share_outside(similarity(1, 0, (0, 0)), (8, 8, 3), 8) == 0
    assert share_outside(similarity(1, 0, (4, 2)), (8, 8, 3), 8) == 1 - 0.5 * 0.75
    assert share_outside(similarity(0.5, 0, (-0.25, -0.25)), (8, 16, 3), 8) == 0.5
    assert share_outside(similarity(1, 1, (99, 0)), (8, 8, 3), 8) == 1


def test_a_single_pixel_and_a_huge_shrinking() -> None:
    assert (warp(np.full((1, 1, 3), 77, np.uint8), similarity(30, 1, (3, 3)), 16) == 77).all()
    assert warp(np.full((50, 40, 1), 9, np.uint8), similarity(1e-4, 1, (3, 3)), 16).max() == 9


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 1), "u1")]
)
def test_what_is_no_picture_is_a_fault_of_the_caller(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="image must be"):
        warp(image, similarity(1, 0, (0, 0)), 4)
