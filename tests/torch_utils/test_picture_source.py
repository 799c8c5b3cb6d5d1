"""Sources of labelled pictures: what a path is taken for, and whose each picture is."""

import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dnnlib.errors import UserError
from torch_utils.image_tree import encode_png
from torch_utils.picture_source import open_pictures


def write(root: Path, names: list[str], channels: int = 3) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encode_png(np.full((4, 4, channels), number, dtype=np.uint8)))


def test_a_paired_dataset_gives_the_spectrum_that_is_asked_for(tmp_path):
    write(tmp_path / "VIS", ["a_0.png", "b_0.png"])
    write(tmp_path / "NIR", ["a_0.png", "b_0.png"], channels=1)
    for spectrum, channels in (("vis", 3), ("nir", 1)):
        source = open_pictures(tmp_path, spectrum)
        assert (source.names, source.identities, len(source)) == (["a_0.png", "b_0.png"], ["a", "b"], 2)
        assert source.decode(1).shape == (4, 4, channels)
        assert source.decode(1).max() == 1


def test_one_spectrum_alone_is_a_source(tmp_path):
    write(tmp_path / "VIS", ["a/0.png", "b/0.png"])
    assert open_pictures(tmp_path, "vis").identities == ["a", "b"]
    with pytest.raises(UserError, match=r"--data: .*: no pictures in NIR/"):
        open_pictures(tmp_path, "nir")


def test_in_other_trees_a_folder_is_a_person_whatever_the_files_are_called(tmp_path):
    write(tmp_path, ["n01/0001_01.png", "n01/0002_01.png", "n02/0001_01.png"])
    assert open_pictures(tmp_path, "vis").identities == ["n01", "n01", "n02"]
    assert open_pictures(tmp_path, "nir").decode(0).shape == (4, 4, 1)


def test_a_zip_is_read_like_the_folder(tmp_path):
    write(tmp_path / "tree", ["VIS/a_0.png", "NIR/a_0.png"])
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for file in (tmp_path / "tree").rglob("*.png"):
            archive.write(file, file.relative_to(tmp_path / "tree"))
    assert open_pictures(tmp_path / "data.zip", "nir").identities == ["a"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are always text")
def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    write(tmp_path, ["n01/0.png"])
    (tmp_path / "n01" / "\udcff.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"--data: .*: n01/\\udcff.png: the name is not in UTF-8"):
        open_pictures(tmp_path, "vis")


def test_pictures_without_a_person_are_refused_by_name(tmp_path):
    write(tmp_path, ["lost.png", "n01/0.png"])
    with pytest.raises(UserError, match=r"--real: .*lost.png: lies in no person's folder"):
        open_pictures(tmp_path, "vis", option="--real")
    with pytest.raises(UserError, match="no PNG or JPEG pictures"):
        (tmp_path / "empty").mkdir()
        open_pictures(tmp_path / "empty", "vis")


def test_a_zip_that_asks_for_a_newer_reader_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("n01/0.png", b"x")
    data = bytearray((tmp_path / "data.zip").read_bytes())
    data[data.rfind(b"PK\x01\x02") + 6] = 255  # the version that is needed, in the directory at the end
    (tmp_path / "data.zip").write_bytes(bytes(data))
    with pytest.raises(UserError, match="data.zip: not a readable zip"):
        open_pictures(tmp_path / "data.zip", "vis")
