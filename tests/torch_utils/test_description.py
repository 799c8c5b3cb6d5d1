"""dataset.json as data: from folders, zips and beside packed files; hostile ones are one line or nothing."""

import json
import os
import zipfile
from pathlib import Path

import pytest

from dnnlib.errors import UserError
from torch_utils.description import MOST_BYTES, read_description

SAID = {"alignment": "portrait", "images": 3}


def test_it_is_found_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("data/dataset.json", "people.rec.json", "one.tar.json", "shards/name.tar.json"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(SAID))
    for name in ("people.rec", "one.tar"):
        (tmp_path / name).touch()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("dataset.json", json.dumps(SAID))
    for name in ("data", "people.rec", "one.tar", "shards", "x.zip"):
        assert read_description(tmp_path / name) == SAID, name


@pytest.mark.parametrize("text", ["[1, 2]", "7", "null", '{"labels": "' + "x" * MOST_BYTES + '"}'], ids=range(4))
def test_what_cannot_be_ours_says_nothing(tmp_path: Path, text: str) -> None:
    assert read_description(tmp_path) == read_description(tmp_path / "nowhere") == {}
    (tmp_path / "dataset.json").write_text(text)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("dataset.json", text)
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    for name in (".", "x.zip", "empty.zip"):
        assert read_description(tmp_path / name) == {}


@pytest.mark.parametrize(
    "text",
    ["{", "[" * 100_000, b"\xff\xfe\xff", '{"a": 1' + "0" * 10_000 + "}", '{"resize": {"a": NaN}}', '{"a": 1e999}'],
    ids=range(6),
)
def test_what_is_no_json_is_named(tmp_path: Path, text: str | bytes) -> None:
    (tmp_path / "dataset.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=r"^--real: .*dataset\.json: not JSON") as caught:
        read_description(tmp_path, "--real")
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dataset.json")
    (tmp_path / "x.zip").write_bytes(b"no zip")
    for path in (tmp_path, tmp_path / "x.zip"):
        with pytest.raises(UserError, match=r"dataset\.json: cannot be read"):
            read_description(path)
