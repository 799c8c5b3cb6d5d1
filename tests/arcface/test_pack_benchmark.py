"""Benchmarks of a folder and a list of pairs: pictures as they are, and aligned by a stand-in for the detector."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from arcface.alignment import ARCFACE_TEMPLATE
from arcface.benchmarks import open_benchmark
from arcface.detection import Detection
from arcface.pack_benchmark import pack_benchmark
from dataset_tool import main
from dnnlib.errors import UserError
from torch_utils.image_tree import encode_png


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("VIS/a_0.png", "VIS/b_0.png", "NIR/a_1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (32, 32, 3 if name[0] == "V" else 1), dtype=np.uint8)
        (tmp_path / name).write_bytes(encode_png(pixels))
    (tmp_path / "p.txt").write_text("VIS/a_0.png NIR/a_1.png 1\nVIS/b_0.png NIR/a_1.png 0\n")
    return tmp_path


def test_pictures_of_the_right_size_keep_their_pixels(faces: Path) -> None:
    arguments = ["pack", "--data", faces, "--pairs", faces / "p.txt", "--dest", faces / "x.bin", "--format", "bin"]
    result = CliRunner().invoke(main, [str(part) for part in [*arguments, "--resolution", 32]])
    assert result.exit_code == 0 and "2 pairs in" in result.stdout, result.output
    packed, listed = open_benchmark(faces / "x.bin"), open_benchmark(faces / "p.txt")
    assert packed.same.tolist() == [True, False] and len(packed.pictures) == 3
    for mine, theirs in zip(packed.first.tolist() + packed.second.tolist(), [0, 2, 1, 1], strict=True):
        pixels = listed.pictures.decode(theirs)
        assert (packed.pictures.decode(mine) == pixels).all()
    record = json.loads((faces / "x.bin.json").read_text())
    assert (record["spectra"], record["alignment"], record["resolution"]) == ("vis-nir", None, 32)
    again = CliRunner().invoke(main, [str(part) for part in arguments])
    assert again.exit_code == 2 and "exists; --overwrite" in again.stderr


def test_others_are_resized_and_must_be_square(faces: Path) -> None:
    pack_benchmark(faces, faces / "p.txt", faces / "x.bin", 16, show_progress=False)
    assert open_benchmark(faces / "x.bin").pictures.decode(0).shape == (16, 16, 3)
    (faces / "VIS/b_0.png").write_bytes(encode_png(np.zeros((8, 9, 3), np.uint8)))
    with pytest.raises(UserError, match=r"VIS/b_0.png: 9x8 is not square; --align"):
        pack_benchmark(faces, faces / "p.txt", faces / "y.bin", show_progress=False)
    assert not (faces / "y.bin").exists()


class Finds:
    """Finds the template's points, or says that there is no face."""

    def __init__(self, points: np.ndarray | None) -> None:
        self.points = points

    def detect(self, images: list[np.ndarray]) -> list[Detection]:
        if self.points is None:
            return [Detection(reason="no face")]
        return [Detection(np.zeros(4), 1.0, self.points, 1)]


def test_aligned_pictures_have_the_points_on_the_template(faces: Path) -> None:
    found = Finds(ARCFACE_TEMPLATE.at(32))
    pack_benchmark(faces, faces / "p.txt", faces / "x.bin", 32, found, show_progress=False)
    same = open_benchmark(faces / "p.txt").pictures.decode(0).astype(int)
    assert np.abs(open_benchmark(faces / "x.bin").pictures.decode(0) - same).max() <= 1
    assert json.loads((faces / "x.bin.json").read_text())["alignment"] == ARCFACE_TEMPLATE.name
    with pytest.raises(UserError, match=r"VIS/a_0.png: .*; leave its pairs out"):
        pack_benchmark(faces, faces / "p.txt", faces / "y.bin", 32, Finds(None), show_progress=False)
    with pytest.raises(UserError, match=r"VIS/a_0.png: the points lie on one spot"):
        pack_benchmark(faces, faces / "p.txt", faces / "y.bin", 32, Finds(np.ones((5, 2))), show_progress=False)
    assert not (faces / "y.bin").exists()
