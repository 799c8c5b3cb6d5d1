"""example_faces.dataset: names, dataset.json, going on after a stop, refusing another's folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnnlib.errors import UserError
from example_faces.dataset import picture_name, write_dataset
from example_faces.render import render_dataset
from torch_utils.image_tree import PairedTree

SMALL: dict[str, Any] = {
    "seed": 3,
    "identities": 2,
    "samples": 3,
    "resolution": 32,
    "first_identity": 9,
    "progress": False,
}


def test_files_and_description(tmp_path: Path) -> None:
    said = write_dataset(tmp_path / "d", **SMALL, workers=2)
    tree = PairedTree(tmp_path / "d")
    assert tree.names == [f"{i:04d}_{j:02d}.png" for i in (9, 10) for j in range(3)]
    assert json.loads((tmp_path / "d" / "dataset.json").read_text()) == said
    assert said["content_digest"] == tree.content_digest()
    assert (said["resolution"], said["resize"], said["images"]) == (32, "rendered", 6)
    for identity, sample, pair in render_dataset(3, 2, 3, 32, first_identity=9, workers=1):
        for spectrum in ("vis", "nir"):
            assert np.array_equal(tree.decode(spectrum, picture_name(identity, sample, 3)), pair[spectrum])


def test_goes_on_and_does_not_depend_on_workers(tmp_path: Path) -> None:
    first = write_dataset(tmp_path / "a", **SMALL, workers=1)
    kept = tmp_path / "a" / "VIS" / "0009_00.png"
    before = kept.stat().st_mtime_ns
    (tmp_path / "a" / "NIR" / "0010_02.png").unlink()
    (tmp_path / "a" / "dataset.json").unlink()
    assert write_dataset(tmp_path / "a", **SMALL, workers=2) == first
    assert kept.stat().st_mtime_ns == before


def test_refuses_another_run(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a", **SMALL, workers=1)
    with pytest.raises(UserError, match=r"--dest: .*another seed"):
        write_dataset(tmp_path / "a", **{**SMALL, "seed": 4}, workers=1)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"--dest: .*not empty"):
        write_dataset(tmp_path / "b", **SMALL, workers=1)


@pytest.mark.parametrize("name, value", [("identities", 0), ("samples", 0), ("resolution", 5), ("first_identity", -1)])
def test_bad_arguments(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')}: "):
        write_dataset(tmp_path / "a", **{**SMALL, name: value})
    assert not (tmp_path / "a").exists()


def test_long_series_sort_in_order() -> None:
    assert picture_name(3, 7, 10) == "0003_07.png"
    assert picture_name(3, 7, 1000) == "0003_007.png"
