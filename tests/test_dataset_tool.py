"""dataset_tool.py as a user calls it: example, check and every fault that check names, features."""

import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from dataset_tool import main
from torch_utils.feature_file import FILE_NAME, FeatureSet, save_features
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
    assert not (tmp_path / "a").exists()
    result = run(*arguments, "--pairs", 40)
    assert result.exit_code == 0 and "Benchmarks of 40 pairs each" in result.stdout
    found = find_benchmarks(tmp_path / "a")
    assert [benchmark.spectra for benchmark in found] == ["nir-nir", "vis-nir", "vis-vis"]
    assert all(benchmark.same.sum() == 20 == len(benchmark.same) // 2 for benchmark in found)
    assert run(*arguments, "--pairs", 40).exit_code == 0
