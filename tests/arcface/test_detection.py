"""The detector: its stages by hand with random weights, and with MTCNN's weights where the wheel is installed."""

import importlib.util
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from arcface.alignment import ARCFACE_TEMPLATE, PORTRAIT_TEMPLATE, Similarity, fit, warp
from arcface.detection import (
    BATCH_PIXELS,
    ELONGATED_PICTURE,
    EMPTY_PICTURE,
    LARGEST_WEIGHTS,
    NO_FACE,
    UNLIKELY_FACE,
    Detection,
    FaceDetector,
    _batches,
    _best_of_each,
    _crops,
    _in_own_pixels,
    _largest_faces,
    _pyramid,
    _stretched,
    _Windows,
    _working_size,
)
from arcface.mtcnn import OutputNet, ProposalNet, RefineNet
from dnnlib.errors import UserError
from example_faces.render import render_dataset

INSTALLED = importlib.util.find_spec("facenet_pytorch") is not None
needs_weights = pytest.mark.skipif(
    not INSTALLED, reason="facenet-pytorch, the carrier of the weights, is not installed"
)


# ----------------------------------------------------------------------------
# Parts, without trained weights.


def test_the_pyramid_by_hand() -> None:
    scales = list(_pyramid(50, 20.0))  # 50 * 0.6 = 30, then 21.3, 15.1; 10.7 is less than a window
    assert scales == pytest.approx([0.6, 0.4254, 0.3016086])


def test_crops_count_pixels_from_one_and_drop_what_lies_outside() -> None:
    pixels = torch.arange(100.0).view(1, 1, 10, 10).expand(1, 3, 10, 10)
    boxes = torch.tensor([[3.0, 2.0, 4.9, 3.9], [-5.0, -5.0, 1.0, 1.0], [11.0, 0.0, 14.0, 3.0]])
    windows = _Windows(boxes, torch.zeros(3, 4), torch.ones(3), torch.zeros(3, dtype=torch.long))
    kept, crops = _crops(pixels, windows, 1)
    assert torch.equal(kept.boxes, boxes[:2])
    # Columns 3 to 4 and rows 2 to 3 counted from 1: 12, 13, 22, 23. Then the first pixel alone.
    assert crops[:, 0, 0, 0].tolist() == [17.5, 0.0]


def test_the_best_windows_of_each_picture() -> None:
    scores = torch.tensor([0.1, 0.9, 0.5, 0.7, 0.2])
    pictures = torch.tensor([0, 0, 0, 1, 1])
    assert _best_of_each(scores, pictures, 2).tolist() == [1, 2, 3, 4]
    assert _best_of_each(scores, pictures, 1).tolist() == [1, 3]


def test_batches_hold_pictures_of_one_size_and_cover_all() -> None:
    sizes = dict(enumerate([(3, 160, 160)] * 70 + [(1, 160, 160), (3, 200, 160)] * 2))
    batches = list(_batches(sizes))
    assert sorted(index for batch in batches for index in batch) == list(range(74))
    assert all(len({sizes[index][1:] for index in batch}) == 1 for batch in batches)
    assert max(map(len, batches)) == BATCH_PIXELS // 160**2


def test_working_sizes_by_hand() -> None:
    assert _working_size(3, 200, 300) == (3, 200, 300)
    assert _working_size(1, 32, 64) == (1, 160, 320)
    assert _working_size(3, 3000, 4000) == (3, 768, 1024)
    assert _working_size(3, 500, 4000) == (3, 160, 1280)  # shrunk, but not below the smallest side


def test_results_go_back_to_the_pictures_own_pixels() -> None:
    found = Detection(np.array([0, 0, 9, 19], np.float32), 1.0, np.full((5, 2), 4.5, np.float32), 1)
    own = _in_own_pixels(found, (3, 40, 20), (20, 10))
    # The first pixel of the small picture is the first two of the large one: centre 0.5 of them.
    assert own.box is not None and own.box.tolist() == [0.5, 0.5, 18.5, 38.5]
    assert own.points is not None and (own.points == 9.5).all()


def test_only_faint_pictures_are_stretched() -> None:
    ramp = torch.linspace(0, 1, 10000).view(1, 100, 100)
    assert torch.equal(_stretched(ramp * 200), ramp * 200)
    faint = _stretched(100 + ramp * 30)
    assert faint.min() == 0 and faint.max() == 255
    assert _stretched(torch.full((1, 8, 8), 7.0)).unique().tolist() == [7]


def test_of_several_faces_the_largest_likely_one_is_taken() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 30, 30], [0, 0, 20, 20], [5, 5, 9, 9]])
    scores, pictures = torch.tensor([0.99, 0.8, 0.95, 0.75]), torch.tensor([0, 0, 0, 2])
    windows, points = _Windows(boxes, torch.zeros(4, 4), scores, pictures), torch.zeros(4, 5, 2)
    one, none, unlikely = _largest_faces(windows, points, 3, 0.9)
    assert one.box is not None and one.box.tolist() == [0, 0, 20, 20] and one.count == 2
    assert (none.reason, unlikely.reason) == (NO_FACE, UNLIKELY_FACE)
    assert _largest_faces(windows, points, 3, 0.0)[0].count == 3


def test_dense_layers_see_the_map_column_first() -> None:
    network = RefineNet().eval()
    x = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = network.pool(network.prelu1(network.conv1(x)))
        y = network.pool(network.prelu2(network.conv2(y)))
        y = network.prelu3(network.conv3(y))  # [2, 64, 3, 3]
        flat = torch.stack([y[:, c, h, w] for w in range(3) for h in range(3) for c in range(64)], dim=1)
        expected = F.softmax(network.dense5_1(network.prelu4(network.dense4(flat))), dim=1)[:, 1]
        torch.testing.assert_close(network(x)[0], expected)


def odd_pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        np.zeros((1, 1, 1), np.uint8),
        np.zeros((3, 0, 5), np.uint8),
        np.zeros((3, 1, 500), np.uint8),
        np.full((1, 60, 40), 255, np.uint8),
        rng.integers(0, 256, (3, 7, 9), dtype=np.uint8),
        rng.integers(0, 256, (3, 96, 96), dtype=np.uint8),
    ]


@pytest.mark.parametrize("trained", [False, pytest.param(True, marks=needs_weights)])
def test_no_odd_picture_raises(trained: bool) -> None:
    torch.manual_seed(0)
    detector = FaceDetector.load() if trained else FaceDetector(ProposalNet(), RefineNet(), OutputNet())
    results = detector.detect(odd_pictures())
    assert len(results) == 6
    assert (results[1].reason, results[2].reason) == (EMPTY_PICTURE, ELONGATED_PICTURE)
    for result in results:
        assert (result.box is None) == (result.points is None) == (result.reason is not None)
    if trained:
        assert [results[index].reason for index in (0, 3, 4, 5)] == [NO_FACE] * 4
        assert all(result.probability == 0 and result.count == 0 for result in results)


def test_what_is_no_picture_is_a_fault_of_the_caller() -> None:
    detector = FaceDetector(ProposalNet(), RefineNet(), OutputNet())
    for image in (np.zeros((3, 8, 8), np.float32), np.zeros((2, 8, 8), np.uint8), np.zeros((8, 8), np.uint8)):
        with pytest.raises(ValueError, match="picture"):
            detector.detect([image])


# ----------------------------------------------------------------------------
# Weights.


def test_missing_and_wrong_weights_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--detector: .*pnet\.pt"):
        FaceDetector.load(tmp_path / "none")
    for name in ("pnet.pt", "rnet.pt", "onet.pt"):
        torch.save(ProposalNet().state_dict(), tmp_path / name)
    with pytest.raises(UserError, match=r"rnet\.pt: not the weights of MTCNN's RefineNet"):
        FaceDetector.load(tmp_path)
    (tmp_path / "pnet.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"--detector: .*pnet\.pt"):
        FaceDetector.load(tmp_path)


# ----------------------------------------------------------------------------
# With MTCNN's weights, on example faces.


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector.load()


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    pairs = list(render_dataset(seed=5, identities=6, samples=1, resolution=96, workers=1))
    return np.stack([pair["vis"] for _, _, pair in pairs]).transpose(0, 3, 1, 2)  # [6, 3, 96, 96]


@needs_weights
def test_points_of_a_face_lie_where_a_face_has_them(detector: FaceDetector, faces: np.ndarray) -> None:
    found = [result for result in detector.detect(faces) if result.reason is None]
    assert len(found) >= 4, "example faces are drawn so that a detector sees them"
    for result in found:
        assert result.points is not None and result.box is not None and result.probability > 0.7 and result.count >= 1
        left_eye, right_eye, nose, left_mouth, right_mouth = result.points
        assert left_eye[0] < right_eye[0] and left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
        assert 0 < nose[0] < 96 and result.box[2] - result.box[0] > 24


@needs_weights
def test_the_batch_and_the_order_do_not_matter(detector: FaceDetector, faces: np.ndarray) -> None:
    together = detector.detect(faces)
    apart = [detector.detect(picture[None])[0] for picture in faces]
    mixed = detector.detect([faces[1], faces[0, :1, ::2, ::2], faces[0]])
    for one, other in [*zip(together, apart, strict=True), (together[1], mixed[0]), (together[0], mixed[2])]:
        assert one.probability == pytest.approx(other.probability, abs=1e-4) and one.reason == other.reason
        if one.points is not None and other.points is not None:
            np.testing.assert_allclose(one.points, other.points, atol=1e-2)


@needs_weights
def test_points_are_in_the_pictures_own_pixels(detector: FaceDetector, faces: np.ndarray) -> None:
    big = F.interpolate(torch.from_numpy(faces).float(), scale_factor=2, mode="bicubic", align_corners=False)
    small, large = detector.detect(faces), detector.detect(big.clamp(0, 255).round().to(torch.uint8))
    pairs = [(s.points, b.points) for s, b in zip(small, large, strict=True) if s.points is not None]
    assert pairs
    for own, doubled in pairs:
        assert doubled is not None
        np.testing.assert_allclose(own * 2, doubled, atol=16)  # of 192 pixels


# ----------------------------------------------------------------------------
# A photograph: Eileen Collins, in the PyPI package scikit-image.

ASTRONAUT_POINTS = np.array(
    [[206, 103], [246, 104], [225, 128], [204, 142], [245, 142]]
)  # measured by hand, +-4 pixels


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    from skimage.data import astronaut

    return astronaut().transpose(2, 0, 1)  # [3, 512, 512]


@needs_weights
def test_the_astronauts_face_is_found_where_it_is(detector: FaceDetector, astronaut: np.ndarray) -> None:
    (found,) = detector.detect([astronaut])
    assert found.count == 1 and found.probability > 0.99 and found.box is not None and found.points is not None
    np.testing.assert_allclose(found.points, ASTRONAUT_POINTS, atol=6)
    assert (found.box[:2] < ASTRONAUT_POINTS.min(axis=0)).all() and (found.box[2:] > ASTRONAUT_POINTS.max(axis=0)).all()


@needs_weights
@pytest.mark.parametrize(("contrast", "base"), [(1.0, 0), (0.1, 5), (0.05, 200)])
def test_grey_and_faint_pictures_show_the_same_face(
    detector: FaceDetector, astronaut: np.ndarray, contrast: float, base: int
) -> None:
    grey = (astronaut.mean(axis=0, keepdims=True) * contrast + base).astype(np.uint8)
    (found,) = detector.detect([grey])
    assert found.probability > 0.99 and found.points is not None
    np.testing.assert_allclose(found.points, ASTRONAUT_POINTS, atol=6)


@needs_weights
def test_very_large_and_tiny_captures_in_their_own_pixels(detector: FaceDetector, astronaut: np.ndarray) -> None:
    large = astronaut.repeat(6, axis=1).repeat(8, axis=2)  # 4096x3072
    tiny = astronaut[:, 40:200, 140:300].reshape(3, 40, 4, 40, 4).mean(axis=(2, 4)).astype(np.uint8)  # a face of 22
    first, second = detector.detect([large, tiny])
    assert first.points is not None and second.points is not None
    np.testing.assert_allclose(first.points / (8, 6), ASTRONAUT_POINTS, atol=6)
    np.testing.assert_allclose(second.points * 4 + (140, 40), ASTRONAUT_POINTS, atol=8)


@needs_weights
def test_aligned_the_points_are_the_templates(detector: FaceDetector, astronaut: np.ndarray) -> None:
    """The picture aligned to each template is detected anew: within a twentieth of the distance of the eyes."""
    (found,) = detector.detect([astronaut])
    assert found.points is not None
    for template in (ARCFACE_TEMPLATE, PORTRAIT_TEMPLATE):
        transform = fit(found.points, template.at(256))
        assert isinstance(transform, Similarity)
        picture = warp(astronaut.transpose(1, 2, 0), transform, 256)
        (again,) = detector.detect([picture.transpose(2, 0, 1)])
        assert again.points is not None
        expected = transform(found.points)
        assert abs(again.points - expected).mean() < 0.05 * (expected[1, 0] - expected[0, 0])


@needs_weights
def test_a_wheel_is_a_source_of_weights_and_a_bomb_is_none(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("facenet_pytorch")
    assert spec is not None and spec.origin is not None
    with zipfile.ZipFile(tmp_path / "f.whl", "w") as wheel, zipfile.ZipFile(tmp_path / "b.whl", "w", 8) as bomb:
        for name in ("pnet.pt", "rnet.pt", "onet.pt"):
            wheel.write(Path(spec.origin).parent / "data" / name, f"facenet_pytorch/data/{name}")
            bomb.writestr(f"facenet_pytorch/data/{name}", bytes(LARGEST_WEIGHTS + 1))
    assert FaceDetector.load(tmp_path / "f.whl").detect([np.zeros((1, 99, 99), np.uint8)])[0].reason == NO_FACE
    with pytest.raises(UserError, match=r"--detector: .*pnet\.pt"):
        FaceDetector.load(tmp_path / "b.whl")
