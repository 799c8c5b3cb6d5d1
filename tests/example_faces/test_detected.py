"""A face detector that never saw the example faces finds them (MTCNN; the issue's bound is 90 %)."""

import importlib.util

import numpy as np
import pytest

from example_faces.anatomy import sample_person
from example_faces.render import render_pair
from example_faces.shots import sample_shot

PICTURES, SEED = 110, 11
FRONTAL = np.deg2rad(20.0)

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("facenet_pytorch") is None, reason="the wheel facenet-pytorch carries the weights"
)


@needs_weights
@pytest.mark.slow
@pytest.mark.parametrize("resolution, bound", [(128, 0.93), (64, 0.93), (32, 0.90)])
def test_detector_agrees(resolution: int, bound: float) -> None:
    from arcface.detection import FaceDetector

    people = ((sample_person(SEED, i), sample_shot(SEED, i, i % 10)) for i in range(PICTURES))
    frontal = [(person, shot) for person, shot in people if abs(shot.yaw) <= FRONTAL]
    pictures = np.stack([render_pair(person, shot, resolution)["vis"] for person, shot in frontal])
    found = FaceDetector.load(None).detect(pictures.transpose(0, 3, 1, 2))  # [N, 3, H, W]
    share = np.mean([face.probability >= 0.9 for face in found])
    assert share >= bound, f"{share:.3f} of {len(found)} frontal pictures"
