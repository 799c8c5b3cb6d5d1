"""A model of ArcFace's alignment on a dataset of portraits: every command shows it the ArcFace square of them."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import dataset_tool
import filter
import generate_dataset
import train
import train_recognition
from arcface import embed as embedding
from arcface import preprocess
from arcface.alignment import ARCFACE_TEMPLATE, PORTRAIT_TEMPLATE
from arcface.backbones import build_backbone
from arcface.benchmarks import find_benchmarks
from arcface.embed import embed
from arcface.verification import score_benchmarks
from arcface.weights import load_recognition, save_recognition
from dnnlib.files import read_lines
from generation.thresholds import from_moments, save_thresholds
from metrics.identity import mated_nonmated
from tests.arcface.people import settled
from torch_utils.feature_file import FeatureSet, load_features, save_features
from torch_utils.image_tree import PairedTree, encode_png
from torch_utils.pair_files import Pair, write_pairs
from training.generator import Generator
from training.snapshots import load_generator, save_generator

SIDE = 32  # of the portraits
FRAME = "of-0.15,0.1875,0.7"  # corner (24, 30) and side 112 of 160 pixels
NAMES = [f"{person}_{sample}.png" for person in range(4) for sample in range(3)]


def run(command: click.Command, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def done(command: click.Command, *arguments: object) -> str:
    result = run(command, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data`, portraits of noise with features; `rec`, a model that expects ArcFace's alignment."""
    root = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    for folder, channels in (("VIS", 3), ("NIR", 1)):
        (root / "data" / folder).mkdir(parents=True)
        for name in NAMES:
            pixels = rng.integers(0, 256, (SIDE, SIDE, channels), dtype=np.uint8)
            (root / "data" / folder / name).write_bytes(encode_png(pixels))
    (root / "data/dataset.json").write_text(json.dumps(PORTRAIT_TEMPLATE.record()))
    torch.manual_seed(0)
    backbone = settled(build_backbone("mbfn", 32))
    save_recognition(root / "rec.safetensors", backbone, "mbfn", 32, alignment=ARCFACE_TEMPLATE)
    save_recognition(root / "plain.safetensors", backbone, "mbfn", 32)
    return root


def features_of(place: Path, aligned: bool, flip: bool = False) -> np.ndarray:
    """What the model says of VIS: of the ArcFace square, or of all of the picture."""
    tree = PairedTree(place / "data")
    pictures = [tree.decode("vis", name) for name in tree.names]
    model = load_recognition(place / "rec.safetensors")
    return embed(model, pictures, flip=flip, alignment=PORTRAIT_TEMPLATE if aligned else None)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The frames of all pictures that are resized in this process."""
    frames: list[Any] = []
    resize = preprocess.resize

    def noted(images: torch.Tensor, size: int, frame: Any = None) -> torch.Tensor:
        frames.append(frame)
        return resize(images, size, frame)

    monkeypatch.setattr(embedding, "resize", noted)
    yield frames


def all_framed(frames: list[Any]) -> bool:
    return bool(frames) and all(frame is not None and np.allclose(frame, (0.15, 0.1875, 0.7)) for frame in frames)


def test_features(place: Path, tmp_path: Path) -> None:
    for name, aligned in (("rec", True), ("plain", False)):
        out, model = tmp_path / f"{name}.safetensors", place / f"{name}.safetensors"
        said = done(dataset_tool.main, "features", "--data", place / "data", "--rec-model", model, "--out", out)
        assert said.count("it sees the square of 70%") == aligned
        found = load_features(out).features
        np.testing.assert_allclose(found, features_of(place, aligned), atol=1e-5)
        assert np.abs(found - features_of(place, not aligned)).max() > 1e-3


def test_calibration(place: Path, tmp_path: Path) -> None:
    model = ("--rec-model", place / "rec.safetensors", "--rec-arch", "mbfn")
    said = done(filter.main, "calibrate", "--data", place / "data", *model, "--out", tmp_path / "t.json")
    assert said.count("it sees the square of 70%") == 1
    mated, _ = mated_nonmated(features_of(place, True), [name.split("_")[0] for name in NAMES])
    found = json.loads((tmp_path / "t.json").read_text())["mated_mean"]
    whole, _ = mated_nonmated(features_of(place, False), [name.split("_")[0] for name in NAMES])
    assert found == pytest.approx(mated.mean(), abs=1e-7) and abs(found - whole.mean()) > 1e-6
    refused = run(filter.main, "calibrate", "--data", place / "data", *model[:3], "r18", "--out", tmp_path / "u.json")
    assert refused.exit_code == 2 and "r18 takes 112x112" in refused.output


def test_verification_of_a_dataset(place: Path, tmp_path: Path) -> None:
    chosen = ((0, 1, True), (3, 4, True), (0, 3, False), (6, 9, False))
    pairs = [Pair(f"VIS/{NAMES[first]}", f"VIS/{NAMES[second]}", same) for first, second, same in chosen]
    write_pairs(place / "data/pairs.txt", pairs)
    common = ("--benchmarks", place / "data/pairs.txt", "--device", "cpu")
    lines = []
    for name in ("rec", "plain"):
        said = done(
            train_recognition.main, "--rec-model", place / f"{name}.safetensors", "--outdir", tmp_path / name, *common
        )
        assert said.count("it sees the square of 70%") == (name == "rec")
        lines.append(read_lines(tmp_path / name / "metrics.jsonl"))
    assert {line["resize"] for line in lines[0]} == {f"bilinear-antialias-32-rgb-{FRAME}"}
    assert {line["resize"] for line in lines[1]} == {"bilinear-antialias-32-rgb"}
    (scored,) = score_benchmarks(load_recognition(place / "rec.safetensors"), find_benchmarks(place / "data/pairs.txt"))
    unit = features_of(place, True, flip=True)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    rows = [(NAMES.index(pair.first[4:]), NAMES.index(pair.second[4:])) for pair in pairs]
    np.testing.assert_allclose(scored.scores, [unit[a] @ unit[b] for a, b in rows], atol=1e-6)


def training_of(place: Path, tmp_path: Path) -> tuple[object, ...]:
    features = tmp_path / "features.safetensors"
    common = ("features", "--data", place / "data", "--rec-model", place / "rec.safetensors", "--out", features)
    done(dataset_tool.main, *common)
    small = ("--cfg", "tiny32", "--fmaps", 1 / 256, "--batch", 4, "--workers", 0, "--tick", 0.008, "--snap", 1)
    return ("--data", place / "data", "--outdir", tmp_path / "runs", "--features", features, *small)


def test_training_measures_what_the_model_expects_and_generation_knows_it(
    place: Path, tmp_path: Path, seen: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = (*training_of(place, tmp_path), "--kimg", 0.008)
    seen.clear()
    said = done(train.main, *arguments, "--rec-model", place / "rec.safetensors", "--rec-arch", "mbfn")
    assert said.count("it sees the square of 70%") == 1 and all_framed(seen)
    (folder,) = (tmp_path / "runs").iterdir()
    assert {line["resize"] for line in read_lines(folder / "metrics.jsonl")} == {f"bilinear-antialias-32-rgb-{FRAME}"}
    snapshot = next(folder.glob("network-snapshot-*.safetensors"))
    metadata = load_generator(snapshot).metadata
    assert {key: metadata[key] for key in PORTRAIT_TEMPLATE.record()} == PORTRAIT_TEMPLATE.record()
    # Features of another model do not go on with this run; conditions that nothing sees do.
    features = load_features(tmp_path / "features.safetensors")
    features.model = "f" * 16
    save_features(tmp_path / "features.safetensors", features)
    refused = run(train.main, *arguments, "--resume", "latest")
    mark = load_recognition(place / "rec.safetensors").fingerprint
    assert refused.exit_code == 2 and f"conditioned on those of {mark}" in refused.stderr, refused.output
    assert refused.stderr.startswith("Error: --features: ")


@pytest.mark.parametrize("known", [True, False])
def test_generation(place: Path, tmp_path: Path, seen: list[Any], known: bool) -> None:
    mark = load_recognition(place / "rec.safetensors").fingerprint
    torch.manual_seed(0)
    generator = Generator(resolution=16, channel_base=128, channel_max=16, mapping_layers=2)
    metadata = {"recognition_model": mark, "feature_norm": 4.0, "images_seen": 8}
    save_generator(tmp_path / "g.safetensors", generator, metadata | (PORTRAIT_TEMPLATE.record() if known else {}))
    rows = np.random.default_rng(0).normal(size=(4, 512)).astype(np.float32)
    save_features(tmp_path / "real.safetensors", FeatureSet(rows, NAMES[:4], mark))
    loose = replace(from_moments(0.7, 0.1, mark), unique=0.9999999, same=-0.9999999, repeat=0.99999999)
    save_thresholds(tmp_path / "t.json", loose)
    said = done(
        generate_dataset.main,
        *("--gen-model", tmp_path / "g.safetensors", "--rec-model", place / "rec.safetensors", "--rec-arch", "mbfn"),
        *("--real-features", tmp_path / "real.safetensors", "--thresholds", tmp_path / "t.json", "--detector", "none"),
        *("--outdir", tmp_path / "out", "--ids", 1, "--samples-per-id", 2),
    )
    settings = json.loads((tmp_path / "out/settings.json").read_text())
    description = json.loads((tmp_path / "out/dataset.json").read_text())
    assert (description["resolution"], description["identities"], description["images"]) == (16, 1, 2)
    if known:
        assert said.count("it sees the square of 70%") == 1 and all_framed(seen)
        assert settings["recognition_model"]["sees"].endswith(FRAME)
        assert {key: description[key] for key in PORTRAIT_TEMPLATE.record()} == PORTRAIT_TEMPLATE.record()
    else:
        assert "is not known" in said and set(seen) == {None}
        assert "sees" not in settings["recognition_model"] and "alignment" not in description


def test_a_trained_model_knows_its_alignment(place: Path, tmp_path: Path) -> None:
    common = ("--data", place / "data", "--batch", 8, "--steps", 1, "--backbone", "mbfn", "--device", "cpu")
    done(train_recognition.main, *common, "--outdir", tmp_path / "run")
    found = load_recognition(tmp_path / "run/recognition.safetensors").alignment
    assert found is not None and found.name == "portrait" and (found.points == PORTRAIT_TEMPLATE.points).all()
    other = tmp_path / "other"
    (other / "VIS").mkdir(parents=True)
    for name in NAMES:
        (other / "VIS" / name).write_bytes((place / "data/VIS" / name).read_bytes())
    mixed = (*common, "--real", other, "--outdir", tmp_path / "mixed")
    (other / "dataset.json").write_text(json.dumps(ARCFACE_TEMPLATE.record()))
    refused = run(train_recognition.main, *mixed)
    assert refused.exit_code == 2 and "is aligned as arcface_112, --data as portrait" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1 and not (tmp_path / "mixed").exists()
    (other / "dataset.json").unlink()
    assert "does not say how it is aligned" in done(train_recognition.main, *mixed)
    assert load_recognition(tmp_path / "mixed/recognition.safetensors").alignment is None
