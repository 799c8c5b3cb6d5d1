"""What the benchmark of embedding compares computes the same features."""

from pathlib import Path

import numpy as np
import torch

from bench.recognition import build_model, prepare, verification_seconds, write_pictures


def test_all_sides_compute_the_same_features(tmp_path: Path) -> None:
    model = build_model("mbfn", torch.device("cpu"), 32)
    works = prepare(model, write_pictures(tmp_path, 7, 32), workers=1, batch=3)
    features = {name: work() for name, work in works.items()}
    assert set(features) == {"bare", "memory", "disk"} and features["bare"].shape == (7, 512)
    for found in features.values():
        np.testing.assert_allclose(found, features["bare"], atol=1e-5)
    assert verification_seconds(40, 8) > 0
