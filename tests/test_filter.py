"""filter.py calibrate: thresholds of a small real set, from pictures or from features, and mistakes in one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from arcface.backbones import build_backbone
from arcface.embed import embed_dataset
from arcface.weights import load_recognition, save_recognition
from generation.thresholds import load_thresholds
from metrics import identity
from tests.filter_runs import run
from torch_utils.feature_file import FeatureSet, save_features
from torch_utils.image_tree import PairedTree, encode_png


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three people with three noisy pictures each, and an untrained recognition model."""
    folder = tmp_path_factory.mktemp("real")
    rng = np.random.default_rng(0)
    for person in range(3):
        face = rng.integers(0, 200, (32, 32, 3))
        for sample in range(3):
            picture = (face + rng.integers(0, 55, face.shape)).astype(np.uint8)
            for spectrum, pixels in (("VIS", picture), ("NIR", picture[..., :1])):
                (folder / "data" / spectrum).mkdir(parents=True, exist_ok=True)
                (folder / "data" / spectrum / f"{person}_{sample}.png").write_bytes(encode_png(pixels))
    torch.manual_seed(0)
    save_recognition(folder / "rec.safetensors", build_backbone("r10n", 32).eval(), "r10n", 32)
    return folder


def calibrate(files, out, capsys, *more):
    model = files / "rec.safetensors"
    return run(capsys, "calibrate", "--data", files / "data", "--rec-model", model, "--out", out, *more)


def test_calibrate_writes_what_the_scores_say(files, tmp_path, capsys):
    status, out, err = calibrate(files, tmp_path / "t.json", capsys)
    assert status == 0 and "EER" in out and "unique" in out, err
    found = load_thresholds(tmp_path / "t.json")
    model = load_recognition(files / "rec.safetensors")
    features = embed_dataset(model, PairedTree(files / "data"), show_progress=False)
    mated, nonmated = identity.mated_nonmated(features.features, features.identities)
    assert (found.mated_scores, found.nonmated_scores) == (9, 27) and found.recognition_model == model.fingerprint
    assert (found.mated_mean, found.mated_sd) == pytest.approx((mated.mean(), mated.std()))
    assert found.same == pytest.approx(max(0, mated.mean() - 2 * mated.std()))
    assert found.error_rates["same"].fmr == pytest.approx(np.mean(nonmated >= found.same))
    # From features that are there already: the same file.
    save_features(tmp_path / "f.safetensors", features)
    status, _, err = calibrate(files, tmp_path / "u.json", capsys, "--real_features", tmp_path / "f.safetensors")
    assert status == 0, err
    assert (tmp_path / "u.json").read_bytes() == (tmp_path / "t.json").read_bytes()
    assert (tmp_path / "u.png").read_bytes() == (tmp_path / "t.png").read_bytes()
    with Image.open(tmp_path / "t.png") as plot:
        assert plot.size == (960, 744)


def test_unique_by_false_match_rate(files, tmp_path, capsys):
    status, _, err = calibrate(files, tmp_path / "t.json", capsys, "--unique-fmr", "0.05")
    found = load_thresholds(tmp_path / "t.json")
    assert status == 0 and found.error_rates["unique"].fmr <= 0.05 and "FMR <= 0.05" in err


def test_mistakes_are_one_line(files, tmp_path, capsys):
    (tmp_path / "there.json").write_text("{}")
    status, _, err = calibrate(files, tmp_path / "there.json", capsys)
    assert status == 2 and "there.json: exists" in err and len(err.strip().splitlines()) == 1
    status, _, err = calibrate(files, tmp_path / "t.png", capsys)
    assert status == 2 and "name a .json" in err
    features = FeatureSet(np.eye(2, 512, dtype=np.float32), ["0_0.png", "9_9.png"], "f" * 16)
    save_features(tmp_path / "f.safetensors", features)
    status, _, err = calibrate(files, tmp_path / "t.json", capsys, "--real-features", tmp_path / "f.safetensors")
    assert status == 2 and "features of recognition model ffffffffffffffff" in err
    features.model = load_recognition(files / "rec.safetensors").fingerprint
    save_features(tmp_path / "f.safetensors", features)
    status, _, err = calibrate(files, tmp_path / "t.json", capsys, "--real-features", tmp_path / "f.safetensors")
    assert status == 2 and "9_9.png is not in" in err
    features.names = ["0_0.png", "1_1.png"]
    save_features(tmp_path / "f.safetensors", features)
    status, _, err = calibrate(files, tmp_path / "t.json", capsys, "--real-features", tmp_path / "f.safetensors")
    assert status == 2 and not (tmp_path / "t.json").exists()
