"""dataset_tool.py as a user calls it: example, check and every fault that check names, features."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from arcface.backbones import build_backbone
from arcface.weights import load_recognition, save_recognition
from dataset_tool import main
from torch_utils.feature_file import FILE_NAME, FeatureSet, load_features, save_features
from torch_utils.image_tree import encode_png


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def gif() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, format="GIF")
    return buffer.getvalue()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for folder, shape in (("VIS", (8, 8, 3)), ("NIR", (8, 8, 1))):
        (tmp_path / folder).mkdir()
        for name in ("001_0.png", "001_1.png", "002_0.png"):
            (tmp_path / folder / name).write_bytes(encode_png(np.full(shape, 9, np.uint8)))
    return tmp_path


def test_a_sound_dataset_passes(data: Path) -> None:
    result = run("check", "--data", data)
    assert result.exit_code == 0 and "3 pairs of 2 people at 8x8, all sound" in result.stdout


def remove(path: str):
    return lambda root: (root / path).unlink()


def write(path: str, content: bytes):
    return lambda root: (root / path).write_bytes(content)


def both(name: str, content: bytes):
    return lambda root: [(root / folder / name).write_bytes(content) for folder in ("VIS", "NIR")]


def empty(root: Path) -> None:
    for path in root.rglob("*.png"):
        path.unlink()


def features(names: list[str], values: np.ndarray):
    return lambda root: save_features(root / FILE_NAME, FeatureSet(values, names, "m"))


def nan_features(root: Path) -> None:
    from safetensors.numpy import load_file, save_file

    names = ["001_0.png", "001_1.png", "002_0.png"]
    save_features(root / FILE_NAME, FeatureSet(np.eye(3, dtype=np.float32), names, "m"))
    from safetensors import safe_open

    with safe_open(str(root / FILE_NAME), framework="numpy") as file:
        metadata = file.metadata()
    values = load_file(root / FILE_NAME)["features"]
    values[1, 1] = np.nan
    save_file({"features": values}, root / FILE_NAME, metadata=metadata)


WIDE = encode_png(np.zeros((8, 12, 3), np.uint8))
LARGE = encode_png(np.zeros((16, 16, 3), np.uint8))
SOUND = encode_png(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("fault", "named", "words"),
    [
        (remove("NIR/001_1.png"), "001_1.png", "1 VIS images have no NIR partner"),
        (remove("VIS/002_0.png"), "002_0.png", "1 NIR images have no VIS partner"),
        (both("002_0.png", LARGE), "VIS/002_0.png", "16x16, but VIS/001_0.png is 8x8"),
        (write("NIR/002_0.png", LARGE), "NIR/002_0.png", "all must agree"),
        (both("001_0.png", WIDE), "VIS/001_0.png", "12x8 is not square"),
        (write("VIS/001_1.png", SOUND[:50]), "VIS/001_1.png", "broken picture"),
        (write("VIS/001_1.png", b"not a picture"), "VIS/001_1.png", "not a PNG or JPEG"),
        (write("NIR/001_1.png", gif()), "NIR/001_1.png", "not a PNG or JPEG"),
        (both("_7.png", SOUND), "_7.png", "no identity before the underscore"),
        (both("portrait.png", SOUND), "portrait.png", "no identity before the underscore"),
        (empty, "VIS/ and NIR/", "no PNG or JPEG"),
        (features(["001_0.png", "002_0.png"], np.eye(2, dtype=np.float32)), "001_1.png", "1 of 3 have no feature"),
        (nan_features, "001_1.png", "holds NaN"),
    ],
)
def test_every_fault_is_one_line_that_names_it(data: Path, fault, named: str, words: str) -> None:
    fault(data)
    result = run("check", "--data", data)
    error = [line for line in result.stderr.replace("\r", "\n").split("\n") if line.startswith("Error")]
    assert result.exit_code == 2 and len(error) == 1, result.output
    assert named in error[0] and words in error[0]


def test_no_such_folder(tmp_path: Path) -> None:
    result = run("check", "--data", tmp_path / "absent")
    assert result.exit_code == 2 and "--data" in result.stderr


def test_example_is_repeatable_and_sound(tmp_path: Path) -> None:
    for name in ("a", "b"):
        arguments = ("--identities", 2, "--samples", 2, "--resolution", 32, "--workers", 1)
        assert run("example", "--dest", tmp_path / name, *arguments).exit_code == 0
    assert (tmp_path / "a/VIS/0001_01.png").read_bytes() == (tmp_path / "b/VIS/0001_01.png").read_bytes()
    assert "4 pairs of 2 people at 32x32" in run("check", "--data", tmp_path / "a").stdout


def test_example_with_benchmarks(tmp_path: Path) -> None:
    from arcface.benchmarks import find_benchmarks

    arguments = ("example", "--dest", tmp_path / "a", "--identities", 20, "--samples", 2, "--resolution", 32)
    refused = run(*arguments, "--pairs", 60)
    assert refused.exit_code == 2 and "--pairs: 60 pairs are more than" in refused.stderr
    too_many = run(*arguments, "--pairs", 40, "--identities", 10**11)
    assert too_many.exit_code == 2 and "--identities: 100000000000 with 2 samples" in too_many.stderr
    assert not (tmp_path / "a").exists()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/pairs-vis-nir.txt").write_text("mine")
    kept = run(*arguments, "--pairs", 40)
    assert kept.exit_code == 2 and "pairs-vis-nir.txt: holds other pairs" in kept.stderr
    (tmp_path / "a/pairs-vis-nir.txt").unlink()
    result = run(*arguments, "--pairs", 40)
    assert result.exit_code == 0 and "Benchmarks of 40 pairs each" in result.stdout
    found = find_benchmarks(tmp_path / "a")
    assert [benchmark.spectra for benchmark in found] == ["nir-nir", "vis-nir", "vis-vis"]
    assert all(benchmark.same.sum() == 20 == len(benchmark.same) // 2 for benchmark in found)
    assert run(*arguments, "--pairs", 40).exit_code == 0


# ----------------------------------------------------------------------------
# features


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "recognition.safetensors"
    save_recognition(path, build_backbone("mbfn", 32), "mbfn", 32)
    return path


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder, channels in (("VIS", 3), ("NIR", 1)):
        (tmp_path / "noise" / folder).mkdir(parents=True)
        for name in ("1_0.png", "1_1.png", "2_0.png"):
            pixels = rng.integers(0, 256, (32, 32, channels), dtype=np.uint8)
            (tmp_path / "noise" / folder / name).write_bytes(encode_png(pixels))
    return tmp_path / "noise"


def test_features_of_either_spectrum_with_all_that_belongs_to_them(noise: Path, model: Path, tmp_path: Path) -> None:
    found = {}
    for spectrum in ("vis", "nir"):
        out = tmp_path / f"{spectrum}.safetensors"
        arguments = ("--spectrum", spectrum, "--batch", 2, "--workers", 1, "--out", out, "--device", "cpu")
        result = run("features", "--data", noise, "--rec-model", model, *arguments)
        assert result.exit_code == 0, result.output
        found[spectrum] = load_features(out)
        assert found[spectrum].spectrum == spectrum and found[spectrum].model == load_recognition(model).fingerprint
    assert not np.allclose(found["vis"].features, found["nir"].features)
    again = run("features", "--data", noise, "--rec-model", model, "--out", tmp_path / "vis.safetensors")
    assert again.exit_code == 0 and "Nothing to do" in again.output
    other = run("features", "--data", noise, "--rec-model", model, "--out", tmp_path / "nir.safetensors")
    assert other.exit_code == 2 and "holds mode all of nir pictures" in other.stderr


def test_features_of_another_model_are_not_taken_for_this_ones(noise: Path, model: Path) -> None:
    save_features(noise / FILE_NAME, FeatureSet(np.eye(3, dtype=np.float32), ["1_0.png", "1_1.png", "2_0.png"], "else"))
    result = run("features", "--data", noise, "--rec-model", model)
    assert result.exit_code == 2 and "by model else" in result.stderr and str(model) in result.stderr


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_picture_ends_features_with_one_line(noise: Path, model: Path, workers: int) -> None:
    (noise / "VIS" / "1_1.png").write_bytes(SOUND[:50])
    result = run("features", "--data", noise, "--rec-model", model, "--workers", workers, "--batch", 1)
    error = [line for line in result.stderr.replace("\r", "\n").split("\n") if line.startswith("Error")]
    assert result.exit_code == 2 and len(error) == 1 and "VIS/1_1.png: broken picture" in error[0]
    assert not (noise / FILE_NAME).exists()


class Evil:
    """Makes a file when a careless loader reads it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return Path.touch, (self.marker,)


def test_broken_models_end_features_with_one_line(noise: Path, model: Path, tmp_path: Path) -> None:
    content = model.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: len(content) // 2])
    torch.save({"conv1.weight": Evil(tmp_path / "ran")}, tmp_path / "evil.pth")
    torch.save(load_recognition(model).backbone.state_dict(), tmp_path / "narrow.pth")
    (tmp_path / "not.onnx").write_bytes(b"no model")
    for arguments, words in (
        ((tmp_path / "cut.safetensors",), "truncated"),
        ((tmp_path / "evil.pth",), "refused"),
        ((tmp_path / "narrow.pth",), "input size"),
        ((tmp_path / "not.onnx",), "not an ONNX model"),
        ((model, "--rec-arch", "r50"), "r50 takes 112x112 pictures, not 32x32"),
        ((model, "--rec-arch", "r51"), "--rec-arch: unknown architecture"),
    ):
        result = run("features", "--data", noise, "--rec-model", *arguments)
        assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1, result.stderr
    assert not (tmp_path / "ran").exists() and not (noise / FILE_NAME).exists()
