"""Reading pictures rightly or refusing them by name; trees of pairs; features; random streams."""

import io
import json
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save_file

from dnnlib.errors import UserError
from torch_utils.feature_file import FeatureSet, load_features, save_features
from torch_utils.image_tree import (
    CAPTURES,
    ImageTree,
    PairedTree,
    decode_image,
    encode_png,
    exif_orientation,
    refuse_among_pictures,
    split_name,
)
from torch_utils.images import from_uint8, image_grid, to_uint8
from torch_utils.pair_check import check_pairs
from torch_utils.picture_source import open_pictures
from torch_utils.streams import derived_seed, stream


def png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=options.pop("format", "PNG"), **options)  # type: ignore[arg-type]
    return buffer.getvalue()


PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5


# ----------------------------------------------------------------------------
# One picture.


def test_png_round_trip() -> None:
    assert (decode_image(encode_png(PIXELS), "RGB", "x") == PIXELS).all()
    assert (decode_image(encode_png(PIXELS[..., :1]), "L", "x") == PIXELS[..., :1]).all()


def test_exif_rotation_is_applied() -> None:
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[0x0112] = 3  # rotated by 180 degrees
    assert (decode_image(png(image, exif=exif), "RGB", "x") == PIXELS[::-1, ::-1]).all()


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16))
    assert decode_image(png(deep), "L", "x")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_palette_grey_and_opaque_alpha_are_read() -> None:
    assert decode_image(png(Image.fromarray(PIXELS).quantize(48)), "RGB", "x").shape == (4, 4, 3)
    grey = Image.fromarray(PIXELS[..., 0])
    assert (decode_image(png(grey), "RGB", "x") == PIXELS[..., :1]).all()
    assert (decode_image(png(Image.fromarray(PIXELS).convert("RGBA")), "RGB", "x") == PIXELS).all()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (png(Image.new("RGBA", (4, 4), (1, 2, 3, 100))), "transparent"),
        (encode_png(PIXELS)[:-12], "broken picture"),
        (b"hello", "not a PNG or JPEG"),
        (png(Image.fromarray(PIXELS), format="GIF"), "not a PNG or JPEG"),
        (b"", "not a PNG or JPEG"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(data: bytes, words: str) -> None:
    with pytest.raises(UserError, match=rf"^a/b\.png: .*{words}"):
        decode_image(data, "RGB", "a/b.png")


def test_pictures_of_phones_are_read() -> None:
    """Phones write MPO, a JPEG with a second picture behind it."""
    image = Image.fromarray(np.full((8, 8, 3), 90, np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, format="MPO", save_all=True, append_images=[image])
    assert decode_image(buffer.getvalue(), "RGB", "x").shape == (8, 8, 3)


BASES = [
    png(Image.fromarray(pixels), format=format, **options)
    for pixels in (PIXELS, PIXELS[..., 0], PIXELS[..., 0].astype(np.uint16) * 257)
    for format, options in (
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        *([] if pixels.dtype == np.uint16 else [("BMP", {}), ("JPEG", {})]),
    )
]


@given(st.sampled_from(BASES), st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=4)), min_size=1, max_size=4))
@settings(deadline=None)
def test_damaged_captures_are_read_or_refused_and_nothing_else(data: bytes, damages: list[tuple[int, bytes]]) -> None:
    for place, patch in damages:
        place %= len(data)
        data = data[:place] + patch + data[place + max(1, len(patch)) :]
    try:
        assert decode_image(data, "L", "x", CAPTURES).shape[2] == 1
    except UserError as error:
        assert str(error).startswith("x: ")
    assert exif_orientation(data, CAPTURES) in (None, *range(1, 9))


def test_bmp_and_tiff_are_captures_and_no_dataset() -> None:
    for format in ("BMP", "TIFF"):
        data = png(Image.fromarray(PIXELS), format=format)
        assert (decode_image(data, "RGB", "x", CAPTURES) == PIXELS).all()
        with pytest.raises(UserError, match="x: not a PNG or JPEG picture"):
            decode_image(data, "RGB", "x")


def test_a_picture_too_large_to_decode_is_refused_before_its_pixels() -> None:
    """A header that claims 60000 x 60000 pixels, with next to nothing behind it."""
    bomb = bytearray(encode_png(PIXELS))
    bomb[16:24] = (60000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    with pytest.raises(UserError, match="pixels|broken"):
        decode_image(bytes(bomb), "RGB", "bomb.png")


# ----------------------------------------------------------------------------
# Trees.


def write_pairs(root: Path, names: list[str]) -> None:
    for folder, pixels in (("VIS", PIXELS), ("NIR", PIXELS[..., :1])):
        for name in names:
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(pixels))


def test_names_of_both_forms() -> None:
    assert split_name("012_4.png") == ("012", "4")
    assert split_name("a_b_4.png") == ("a_b", "4")
    assert split_name("012/4.png") == ("012", "4")
    for bad in ("_4.png", "4.png", "012_.png"):
        with pytest.raises(UserError, match="no identity"):
            split_name(bad)


def test_folder_and_zip_are_the_same_tree(tmp_path: Path) -> None:
    write_pairs(tmp_path / "data", ["1_0.png", "2_0.png", "deep/3_0.png"])
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for path in sorted((tmp_path / "data").rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path / "data").as_posix())
    folder, zipped = PairedTree(tmp_path / "data"), PairedTree(tmp_path / "data.zip")
    assert folder.names == zipped.names == ["1_0.png", "2_0.png", "deep/3_0.png"]
    assert folder.content_digest() == zipped.content_digest()
    assert (zipped.decode("vis", "2_0.png") == PIXELS).all()
    assert check_pairs(zipped).pairs == 3


def test_a_zip_broken_in_the_middle_is_found_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for folder in ("VIS", "NIR"):
            archive.writestr(f"{folder}/1_0.png", encode_png(PIXELS))
    data = bytearray(path.read_bytes())
    data[60] ^= 255
    path.write_bytes(data)
    with pytest.raises(UserError, match="--data: .*1_0.png: cannot be read"):
        check_pairs(PairedTree(path))


def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["1_0.png"])
    (tmp_path / "VIS/1_0.png").unlink()
    os.mkfifo(tmp_path / "VIS/1_0.png")
    with pytest.raises(UserError, match="not a regular file"):
        PairedTree(tmp_path).read("vis", "1_0.png")


def test_a_zip_whose_compression_is_broken_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in ("VIS", "NIR"):
            archive.writestr(f"{folder}/1_0.png", bytes(1000))
    data = bytearray(path.read_bytes())
    data[41:46] = b"\xff" * 5
    path.write_bytes(data)
    with pytest.raises(UserError, match="1_0.png: cannot be read"):
        check_pairs(PairedTree(path))


def test_partners_duplicates_and_empty_trees(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder or zip|no folder VIS"):
        PairedTree(tmp_path / "nothing")
    (tmp_path / "VIS").mkdir()
    (tmp_path / "NIR").mkdir()
    with pytest.raises(UserError, match="no PNG or JPEG"):
        PairedTree(tmp_path)
    write_pairs(tmp_path, ["1_0.png", "1_1.png", "sub/1_0.png"])
    with pytest.raises(UserError, match="both sample 0 of identity 1"):
        PairedTree(tmp_path)
    (tmp_path / "VIS/sub/1_0.png").unlink()
    with pytest.raises(UserError, match="1 NIR images have no VIS partner, the first is sub/1_0.png"):
        PairedTree(tmp_path)
    with pytest.raises(UserError, match="--x: .*: no such folder"):
        ImageTree(tmp_path / "absent", option="--x")


# ----------------------------------------------------------------------------
# Tensors.


def test_uint8_and_back_is_exact() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(from_uint8(values)), values)
    assert to_uint8(torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])).tolist() == [0, 0, 128, 255, 255]


def test_grid_is_filled_row_by_row() -> None:
    cells = np.stack([np.full((2, 2, 1), value, np.uint8) for value in (1, 2, 3)])
    grid = image_grid(cells, columns=2)
    assert grid[:, :, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 0, 0], [3, 3, 0, 0]]


# ----------------------------------------------------------------------------
# Features.


def feature_set() -> FeatureSet:
    values = np.arange(12, dtype=np.float32).reshape(3, 4) + 1
    return FeatureSet(values, ["1_0.png", "1_1.png", "2_0.png"], "model", "all")


@pytest.mark.parametrize("name", ["f.safetensors", "f.json"])
def test_features_round_trip(tmp_path: Path, name: str) -> None:
    save_features(tmp_path / name, feature_set())
    loaded = load_features(tmp_path / name)
    assert (loaded.features == feature_set().features).all() and loaded.names == feature_set().names
    assert loaded.identities == ["1", "1", "2"]
    assert loaded.model == ("model" if name.endswith("safetensors") else "unknown")


def test_bad_features_are_named(tmp_path: Path) -> None:
    broken = feature_set()
    broken.features[1, 2] = np.nan
    with pytest.raises(UserError, match="1_1.png holds NaN"):
        save_features(tmp_path / "f.safetensors", broken)
    constant = feature_set()
    constant.features[:] = 1
    with pytest.raises(UserError, match="are the same"):
        save_features(tmp_path / "f.safetensors", constant)
    save_file({"other": np.zeros(3)}, tmp_path / "other.safetensors")
    for path, data in (("text.safetensors", b"hello"), ("g.json", json.dumps({"labels": 3}).encode())):
        (tmp_path / path).write_bytes(data)
        with pytest.raises(UserError, match=path):
            load_features(tmp_path / path)
    with pytest.raises(UserError, match="not a file of identity features"):
        load_features(tmp_path / "other.safetensors")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("row", [["a", [1.0]], ["0_0.png", [10**400]], ["0_0.png", [1e300]], [5, [1.0]]])
def test_whatever_a_json_of_features_holds_is_one_line_that_names_it(tmp_path: Path, row: list[object]) -> None:
    (tmp_path / "f.json").write_text(json.dumps({"labels": [row]}))
    with pytest.raises(UserError, match="^--real-features: .*f.json: "):
        load_features(tmp_path / "f.json", "--real-features")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_a_features_length_need_not_have_a_square(tmp_path: Path, scale: float) -> None:
    features = feature_set()
    features.features *= np.float32(scale)
    save_features(tmp_path / "f.safetensors", features)
    assert (load_features(tmp_path / "f.safetensors").features == features.features).all()


# ----------------------------------------------------------------------------
# Streams.


def test_streams_are_repeatable_and_their_own() -> None:
    assert stream(1, "a", 2).random() == stream(1, "a", 2).random()
    others = [stream(1, "a", 3), stream(1, "b", 2), stream(2, "a", 2), stream(1, "a"), stream(1, "a", 2, 0)]
    assert len({generator.random() for generator in [stream(1, "a", 2), *others]}) == 6
    assert derived_seed(1, "a", 2) == derived_seed(1, "a", 2) < 2**63


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for folder, channels in (("VIS", 3), ("NIR", 1)):
        (tmp_path / "set" / folder).mkdir(parents=True)
        (tmp_path / "set" / folder / "0_0.png").write_bytes(encode_png(np.zeros((8, 8, channels), np.uint8)))
    return tmp_path / "set"


def test_a_folder_beside_the_dataset_is_told_which_is_meant(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_bytes(b"x")
    for place, words in (
        (dataset / "VIS", f"; {dataset} may be meant"),
        (tmp_path, f"; {dataset} may be meant"),
        (tmp_path / "nowhere", "nowhere: no such folder or zip"),
        (tmp_path / "file.txt", "file.txt: is no folder or zip"),
    ):
        with pytest.raises(UserError, match=words):
            PairedTree(place)


def test_a_zip_with_the_dataset_one_folder_down_says_so(dataset: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in dataset.glob("*/*.png"):
            archive.write(path, f"mine/{path.parent.name}/{path.name}")
    with pytest.raises(UserError, match="but in mine/; they must lie at the top"):
        PairedTree(tmp_path / "a.zip")


def test_nothing_is_written_among_the_pictures_of_a_dataset(dataset: Path, tmp_path: Path) -> None:
    for place in (dataset / "VIS", dataset / "NIR" / "runs" / "a"):
        with pytest.raises(UserError, match="--outdir: .* lies among the pictures of"):
            refuse_among_pictures(place, "--outdir")
    for place in (dataset, dataset / "runs", tmp_path / "VIS"):
        refuse_among_pictures(place, "--outdir")


def test_lower_case_folders_are_not_taken_for_people(dataset: Path) -> None:
    for folder in ("VIS", "NIR"):
        (dataset / folder).rename(dataset / f"{folder.lower()}_")
        (dataset / f"{folder.lower()}_").rename(dataset / folder.lower())
    with pytest.raises(UserError, match="in capitals, would be right"):
        open_pictures(dataset, "vis")
