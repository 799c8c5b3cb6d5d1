"""Packing a dataset: each format read back gives the same pictures and people, and the same bytes a second time."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from dataset_tool import main
from torch_utils.description import read_description
from torch_utils.image_tree import PairedTree, encode_png
from torch_utils.packing import written_shards
from torch_utils.picture_source import open_pictures

NAMES = ["a.b_0.png", "a.b_1.png", "c_0.png", "c_1.png", "c_2.png"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder, channels in (("VIS", 3), ("NIR", 1)):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for name in NAMES:
            pixels = rng.integers(0, 256, (8, 8, channels), dtype=np.uint8)
            (tmp_path / "data" / folder / name).write_bytes(encode_png(pixels))
    (tmp_path / "data/dataset.json").write_text(json.dumps({"alignment": "portrait", "images": 99}))
    return tmp_path / "data"


def pack(data: Path, dest: Path, kind: str, *more: object) -> Result:
    arguments = ("pack", "--data", data, "--dest", dest, "--format", kind, *more)
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(("kind", "suffix"), [("zip", ".zip"), ("rec", ".rec"), ("webdataset", ".tar")])
@pytest.mark.parametrize("spectra", ["vis", "nir", "vis+nir"])
def test_packed_pictures_are_the_datasets(data: Path, tmp_path: Path, kind: str, suffix: str, spectra: str) -> None:
    dest = tmp_path / f"x{suffix}"
    result = pack(data, dest, kind, "--spectra", spectra)
    assert result.exit_code == 0 and "5 samples of 2 people" in result.stdout, result.output
    for spectrum in ("vis", "nir"):
        if spectrum not in spectra:
            assert CliRunner().invoke(main, ["check", "--data", str(dest)]).exit_code == 2
            continue
        before, after = open_pictures(data, spectrum), open_pictures(dest, spectrum)
        assert [before.read(index) for index in range(5)] == [after.read(index) for index in range(5)]
        people = ["a.b", "a.b", "c", "c", "c"] if kind == "zip" else ["0", "0", "1", "1", "1"]
        assert after.identities == people
    if spectra == "vis+nir":  # tests across the spectra know the two pictures of one moment by their name
        assert open_pictures(dest, "vis").names == open_pictures(dest, "nir").names
    assert read_description(dest)["alignment"] == "portrait"
    if kind != "zip":
        assert json.loads(Path(f"{dest}.json").read_text())["identities"] == ["a.b", "c"]
    again = tmp_path / "again" / dest.name
    pack(data, again, kind, "--spectra", spectra)
    assert again.read_bytes() == dest.read_bytes()


def test_a_zip_is_a_dataset(data: Path, tmp_path: Path) -> None:
    pack(data, tmp_path / "x.zip", "zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        description = json.loads(archive.read("dataset.json"))
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    assert description["alignment"] == "portrait" and (description["images"], description["resolution"]) == (5, 8)
    assert description["content_digest"] == PairedTree(tmp_path / "x.zip").content_digest()
    assert CliRunner().invoke(main, ["check", "--data", str(tmp_path / "x.zip")]).exit_code == 0


def test_shards_and_their_replacement(data: Path, tmp_path: Path) -> None:
    dest = tmp_path / "out" / "x.tar"
    assert pack(data, dest, "webdataset", "--shard-size", 2).exit_code == 0
    assert [file.name for file in written_shards(dest)] == [f"x-00000{n}.tar" for n in range(3)]
    assert open_pictures(tmp_path / "out", "nir").names == ["a-b_0", "a-b_1", "c_0", "c_1", "c_2"]
    refused = pack(data, dest, "webdataset", "--shard-size", 4)
    assert refused.exit_code == 2 and "x-000000.tar: exists; --overwrite" in refused.stderr
    assert pack(data, dest, "webdataset", "--shard-size", 4, "--overwrite").exit_code == 0
    assert len(written_shards(dest)) == 2 and len(open_pictures(tmp_path / "out", "vis")) == 5


def test_a_folder_a_person_of_pictures_that_need_work(tmp_path: Path) -> None:
    """A turned JPEG, a grey VIS picture and a plain JPEG: the first two become PNG, the last keeps its bytes."""
    root = tmp_path / "people"
    (root / "p1").mkdir(parents=True)
    turned = Image.fromarray(np.arange(128, dtype=np.uint8).reshape(16, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.convert("RGB").save(root / "p1" / "a_1.jpg", exif=exif)
    turned.save(root / "p1" / "a_2.png")
    turned.convert("RGB").save(root / "p1" / "a_3.jpg")
    assert pack(root, tmp_path / "x.tar", "webdataset", "--spectra", "vis").exit_code == 0
    before, after = open_pictures(root, "vis"), open_pictures(tmp_path / "x.tar", "vis")
    for index in range(3):
        assert (before.decode(index) == after.decode(index)).all()
    assert [after.read(index)[1:4] == b"PNG" for index in range(3)] == [True, True, False]
    assert after.read(2) == before.read(2)
    both = pack(root, tmp_path / "y.tar", "webdataset")
    assert both.exit_code == 2 and "does not tell the pictures' spectrum" in both.stderr
    assert not (tmp_path / "y.tar").exists()


def break_one(data: Path) -> None:
    (data / "NIR/c_2.png").write_bytes(b"nothing")


def remove_one(data: Path) -> None:
    (data / "NIR/c_2.png").unlink()


def clash(data: Path) -> None:
    for folder in ("VIS", "NIR"):
        (data / folder / "a-b_0.png").write_bytes((data / folder / "c_0.png").read_bytes())


@pytest.mark.parametrize(
    ("fault", "kind", "dest", "more", "words"),
    [
        (break_one, "zip", "x.zip", (), "NIR/c_2.png: not a PNG"),
        (remove_one, "rec", "x.rec", (), "1 pictures are not in both VIS and NIR, the first is c_2.png"),
        (clash, "webdataset", "x.tar", (), "two pictures would be a-b_0 in a shard"),
        (None, "rec", "x.zip", (), "--dest: "),
        (None, "rec", "x.rec", ("--shard-size", 2), "--shard-size: does not go with --format rec"),
        (None, "zip", "x.zip", ("--align",), "--align: does not go with --format zip"),
        (None, "bin", "x.bin", ("--spectra", "vis"), "--spectra: does not go with --format bin"),
        (None, "bin", "x.bin", (), "--pairs: needed with --format bin"),
        (None, "bin", "x.bin", ("--pairs", "p", "--detector", "d"), "--detector: goes with --align"),
        (None, "bin", "x.bin", ("--pairs", "nowhere.txt"), "--pairs: nowhere.txt: No such file"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    data: Path, tmp_path: Path, fault, kind: str, dest: str, more: tuple, words: str
) -> None:
    if fault:
        fault(data)
    result = pack(data, tmp_path / "out" / dest, kind, *more)
    error = [line for line in result.stderr.replace("\r", "\n").split("\n") if line.startswith("Error")]
    assert result.exit_code == 2 and len(error) == 1 and words in error[0], result.output
    assert not list(tmp_path.glob("out/*"))
