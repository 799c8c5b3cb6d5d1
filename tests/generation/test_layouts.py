"""Layouts: each is read back by what reads datasets, whatever the order of the people and wherever a run was killed."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from dnnlib.errors import UserError
from generation import layouts
from generation.candidates import Pictures
from generation.choices import LAYOUTS
from generation.encoding import Encoding, encode_pair
from generation.layouts import build_layout, check_layout
from generation.previews import WithPreviews
from torch_utils.picture_source import open_pictures
from torch_utils.recordio import RecordFile
from torch_utils.spectra import SPECTRA

PEOPLE = [0, 1, 3, 4, 5]  # a run that fell short leaves gaps
SAMPLES = 2


def pixels(identity, sample):
    rng = np.random.default_rng([identity, sample])
    return {name: rng.integers(0, 256, (one.channels, 8, 8), dtype=np.uint8) for name, one in SPECTRA.items()}


def pairs(identity):
    return [encode_pair(Encoding(), pixels(identity, sample)) for sample in range(SAMPLES)]


def layout_of(format, root):
    return build_layout(format, root, root / ".parts", SAMPLES)


def fill(format, root, order=PEOPLE):
    layout = layout_of(format, root)
    for identity in order:
        layout.add(identity, pairs(identity))
    layout.finish(sorted(order))
    return layout


def tree(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def two_people_a_shard(monkeypatch):
    monkeypatch.setattr(layouts, "SHARD_PEOPLE", 2)


@pytest.mark.parametrize("format", LAYOUTS)
def test_read_back(format, tmp_path):
    fill(format, tmp_path)
    (tmp_path / "previews").mkdir()
    (tmp_path / "previews/0.jpg").write_bytes(Encoding("jpg").encode(pixels(0, 0)["vis"]))
    place = tmp_path / "pairs.rec" if format == "rec" else tmp_path
    for spectrum, one in SPECTRA.items():
        source = open_pictures(place, spectrum)
        assert source.spectrum == spectrum and len(source) == len(PEOPLE) * SAMPLES
        found: dict[str, list[np.ndarray]] = {}
        for index, identity in enumerate(source.identities):
            found.setdefault(identity, []).append(source.decode(index))
        assert len(found) == len(PEOPLE)
        classes = list(map(str, PEOPLE)) if format in ("folder", "original") else list(map(str, range(len(PEOPLE))))
        for person, name in zip(PEOPLE, classes, strict=True):
            for sample, picture in enumerate(found[name]):
                np.testing.assert_array_equal(picture, pixels(person, sample)[spectrum].transpose(1, 2, 0))
                assert picture.shape[2] == one.channels


@pytest.mark.parametrize("format", LAYOUTS)
def test_every_order_gives_the_same_bytes_and_nothing_waits_any_more(format, tmp_path):
    fill(format, tmp_path / "a")
    fill(format, tmp_path / "b", PEOPLE[::-1])
    files = tree(tmp_path / "a")
    assert files == tree(tmp_path / "b") and not any(".parts" in name for name in files)


@pytest.mark.parametrize("format", LAYOUTS)
def test_places_tell_where_a_picture_lies(format, tmp_path):
    layout = fill(format, tmp_path)
    for identity in PEOPLE:
        for sample in range(SAMPLES):
            for spectrum, place in layout.places(identity, sample).items():
                data = pairs(identity)[sample][spectrum]
                assert layout.read(identity, sample, spectrum) == data
                if format == "webdataset":
                    shard, _, member = place.partition("/")
                    with tarfile.open(tmp_path / shard) as archive:
                        file = archive.extractfile(member)
                        assert file is not None and file.read() == data
                elif format == "rec":
                    file_name, _, key = place.partition("/")
                    records = RecordFile(tmp_path / file_name)
                    assert records.read(records.keys.index(int(key))).endswith(data)
                else:
                    assert (tmp_path / place).read_bytes() == data


def test_names(tmp_path):
    names = {format: layout_of(format, tmp_path).places(3, 7) for format in ("folder", "original", "webdataset")}
    assert names["folder"] == {"vis": "VIS/3/7.png", "nir": "NIR/3/7.png"}
    assert names["original"] == {"vis": "id_3/VIS/sample_7_VIS.png", "nir": "id_3/NIR/sample_7_NIR.png"}
    assert names["webdataset"]["nir"] == "pairs-000001.tar/3_7.nir.png"
    assert fill("rec", tmp_path).places(3, 1) == {"vis": "pairs.rec/11", "nir": "pairs.rec/12"}
    jpeg = build_layout("folder", tmp_path, tmp_path, 1, "jpg")
    assert jpeg.places(0, 0)["vis"] == "VIS/0/0.jpg"


def test_shards_hold_so_many_people_and_their_numbers(tmp_path):
    fill("webdataset", tmp_path)
    assert sorted(tree(tmp_path)) == [f"pairs-{number:06d}.tar" for number in range(3)]
    with tarfile.open(tmp_path / "pairs-000001.tar") as archive:
        assert archive.getnames() == [
            f"3_{sample}.{ending}" for sample in range(2) for ending in ("vis.png", "nir.png", "cls", "json")
        ]
        label, words = (archive.extractfile(f"3_1.{kind}") for kind in ("cls", "json"))
        assert label is not None and label.read() == b"2"  # the third who is there
        assert words is not None and words.read() == b'{"identity": "3", "sample": "1"}'


@pytest.mark.parametrize("format", ["webdataset", "rec"])
@pytest.mark.parametrize("writes", range(4))
def test_killed_while_it_is_put_together(format, writes, tmp_path, monkeypatch):
    """Nothing half, and the rest is put together by the next run."""

    class Killed(BaseException):
        pass

    def forget(waiting, identities):
        for identity in identities:
            calls.append(identity)
            if len(calls) > writes:
                raise Killed
            waiting._path(identity).unlink()

    whole = tree_of_whole(format, tmp_path / "whole")
    calls: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(layouts.Waiting, "forget", forget)
        with pytest.raises(Killed):
            fill(format, tmp_path / "out")
    for name, data in tree(tmp_path / "out").items():
        assert ".parts" in name or whole[name] == data
    layout_of(format, tmp_path / "out").finish(PEOPLE)
    assert tree(tmp_path / "out") == whole


def tree_of_whole(format, root):
    fill(format, root)
    return tree(root)


@pytest.mark.parametrize("format", ["webdataset", "rec"])
def test_a_person_who_waits_no_longer_is_a_line(format, tmp_path):
    layout = layout_of(format, tmp_path)
    layout.add(0, pairs(0))
    with pytest.raises(UserError, match=r"--outdir: .*000001.tar: cannot be read \(No such file"):
        layout.finish([0, 1])
    assert [name for name in tree(tmp_path) if not name.startswith(".parts")] == []


def test_a_rec_numbers_so_many(tmp_path):
    check_layout("rec", 100_000, 80)
    check_layout("webdataset", 10**6, 80)
    with pytest.raises(UserError, match=r"--format: rec: 32,100,001 records, .* at most 16,777,216"):
        check_layout("rec", 100_000, 160)


# ----------------------------------------------------------------------------
# Previews.


def test_previews_show_vis_over_nir(tmp_path):
    layout = WithPreviews(layout_of("webdataset", tmp_path), tmp_path, count=2)
    flat: Pictures = {
        "vis": np.full((3, 8, 8), [[[200]], [[40]], [[40]]], np.uint8),
        "nir": np.full((1, 8, 8), 90, np.uint8),
    }
    for identity in (0, 1, 3):
        layout.add(identity, [encode_pair(Encoding(), flat)] * 10)
    layout.finish([0, 1, 3])
    assert sorted(path.name for path in (tmp_path / "previews").iterdir()) == ["0.jpg", "1.jpg"]
    image = np.asarray(Image.open(io.BytesIO((tmp_path / "previews/0.jpg").read_bytes()))).astype(int)
    assert image.shape == (4 * 8, 8 * 8, 3)  # two rows of samples, eight and two
    for row, color in enumerate(([200, 40, 40], [90, 90, 90])):
        for start in (0, 16):
            assert np.abs(image[start + 8 * row + 4, 4] - color).max() < 8
    assert image[20, 60].max() < 8 and image[4, 60, 0] > 190
