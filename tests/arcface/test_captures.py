"""Which pictures are a pair: layouts on names alone, and the CSV file."""

from pathlib import Path

import pytest

from arcface.captures import Capture, Captures, find_captures
from dnnlib.errors import UserError
from torch_utils.image_tree import CAPTURES, ImageTree


def tree(root: Path, *names: str) -> ImageTree:
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return ImageTree(root, kinds=CAPTURES)


def find(tmp_path: Path, vis: list[str], nir: list[str], layout: str = "generic") -> Captures:
    return find_captures(tree(tmp_path / "v", *vis), tree(tmp_path / "n", *nir), layout)


@pytest.mark.parametrize(
    ("vis", "nir", "identity", "sample"),
    [
        ("012_4.png", "012_4.bmp", "012", "4"),
        ("012/4.jpg", "012/4.tiff", "012", "4"),
        ("012/a_4.JPG", "012/a_4.tif", "012", "a-4"),
        ("id_1/VIS/sample_3_VIS.png", "id_1/NIR/sample_3_NIR.png", "id_1", "sample-3"),
        ("RGB/7/x.png", "infrared/7/x.bmp", "7", "x"),
        ("a b/c d/1.png", "a b/c d/1.png", "a-b-c-d", "1"),
    ],
)
def test_generic_names(tmp_path: Path, vis: str, nir: str, identity: str, sample: str) -> None:
    assert find(tmp_path, [vis, "9_9.png"], [nir, "8_8.png"]) == Captures(
        [Capture(identity, sample, vis, nir)], {"vis": ["9_9.png"], "nir": ["8_8.png"]}
    )


def test_both_spectra_in_one_tree(tmp_path: Path) -> None:
    both = tree(tmp_path, "1/2_vis.png", "1/2_nir.png", "1/3-RGB.jpg", "1/3-NIR.jpg")
    found = find_captures(both, both, "generic")
    assert [capture[2:] for capture in found.pairs] == [("1/2_vis.png", "1/2_nir.png"), ("1/3-RGB.jpg", "1/3-NIR.jpg")]
    assert found.alone == {"vis": [], "nir": []}


@pytest.mark.parametrize(
    ("vis", "nir", "words"),
    [
        ([], ["1_1.png"], "--vis: .*no PNG, JPEG, BMP or TIFF"),
        (["1_1.png"], ["2_1.png"], "--nir: .*2_1.png and 1_1.png.*--pairs"),
        (["face.png"], ["face.png"], "--vis: .*face.png: no identity"),
        (["1_1.png", "1_1.jpg"], ["1_1.png"], "--vis: .*1_1.png: is sample 1 of identity 1, and so is 1_1.jpg"),
        (["a/1.png", "A/1.png"], ["a/1.png", "A/1.png"], "are both sample 1"),
    ],
)
def test_names_that_tell_no_pairs_are_one_line(tmp_path: Path, vis: list[str], nir: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        find(tmp_path, vis, nir)


def test_a_name_longer_than_file_systems_take(tmp_path: Path) -> None:
    folders = "/".join(["x" * 100] * 3)
    with pytest.raises(UserError, match=r"--vis: xxx.*: the name xxx.* would be too long"):
        find(tmp_path, [f"{folders}/1.png"], [f"{folders}/1.png"])
    (tmp_path / "pairs.csv").write_text(f"vis,nir,identity\na/1.png,a/1.png,{'é' * 130}\n")
    both = tree(tmp_path / "w", "a/1.png")
    with pytest.raises(UserError, match=r"--pairs: a/1.png: the name"):
        find_captures(both, both, "generic", tmp_path / "pairs.csv")


def test_tufts(tmp_path: Path) -> None:
    found = find(
        tmp_path,
        ["1/TD_RGB_E_1.jpg", "1/TD_RGB_E_2.jpg", "2/TD_RGB_A_1.jpg"],
        ["1/TD_NIR_E_1.jpg", "2/TD_NIR_A_1.jpg"],
        "tufts",
    )
    assert [capture[:2] for capture in found.pairs] == [("1", "E1"), ("2", "A1")]
    assert found.alone == {"vis": ["1/TD_RGB_E_2.jpg"], "nir": []} and found.may_be_registered
    with pytest.raises(
        UserError, match=r"--layout: tufts expects names like PARTICIPANT/TD_NIR_E_1.jpg.*holds 1/x.jpg"
    ):
        find(tmp_path, [], ["1/x.jpg"], "tufts")


def test_casia_pairs_in_order_within_a_person(tmp_path: Path) -> None:
    vis = ["s1/VIS/00001/001.jpg", "s1/VIS/00001/002.jpg", "s2/VIS/00001/001.jpg", "s1/VIS/00002/001.jpg"]
    nir = ["s1/NIR/00001/004.bmp", "s2/NIR/00001/001.bmp", "s1/NIR/00003/001.bmp"]
    both = tree(tmp_path / "all", *vis, *nir)
    found = find_captures(both, both, "casia-nir-vis-2")
    assert found.pairs == [Capture("00001", "000", vis[0], nir[0]), Capture("00001", "001", vis[1], nir[1])]
    assert found.alone == {"vis": [vis[2], vis[3]], "nir": [nir[2]]} and not found.may_be_registered
    with pytest.raises(UserError, match="--vis: .*VIS and VIS_128x128; name one"):
        find(tmp_path, ["s1/VIS/00001/001.jpg", "s1/VIS_128x128/00001/001.bmp"], nir, "casia-nir-vis-2")
    with pytest.raises(UserError, match="casia-nir-vis-2 expects names like s1/VIS/00001/001.jpg"):
        find_captures(tree(tmp_path / "other", "1/1.jpg"), both, "casia-nir-vis-2")


# ----------------------------------------------------------------------------
# A list of pairs.


def listed(tmp_path: Path, text: bytes) -> Captures:
    (tmp_path / "pairs.csv").write_bytes(text)
    vis, nir = tree(tmp_path / "v", "a.png", "b.png"), tree(tmp_path / "n", "x/c.bmp", "d.bmp")
    return find_captures(vis, nir, "generic", tmp_path / "pairs.csv")


def test_a_list_of_pairs(tmp_path: Path) -> None:
    found = listed(tmp_path, b"\xef\xbb\xbfidentity,vis,nir\r\n7,a.png,x/c.bmp\r\n\r\n7,b.png,d.bmp\r\n")
    assert found.pairs == [Capture("7", "000", "a.png", "x/c.bmp"), Capture("7", "001", "b.png", "d.bmp")]
    assert listed(tmp_path, b"vis,nir,identity,sample\na.png,d.bmp,A_1,s").pairs[0].file_name == "A_1_s.png"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (b"a.png,d.bmp,7", "line 1 must be"),
        (b"vis,nir,identity\n", "no pair"),
        (b"vis,nir,identity\na.png,d.bmp,7\nb.png,7", "line 3: 2 columns"),
        (b"vis,nir,identity\na.png,e.bmp,7", "line 2: no picture e.bmp below --nir"),
        (b"vis,nir,identity\n../v/a.png,d.bmp,7", "line 2: no picture"),
        (b"vis,nir,identity\na.png,d.bmp,../7", "line 2: identity"),
        (b"vis,nir,identity,sample\na.png,d.bmp,7,1_2", "line 2: sample"),
        (b"vis,nir,identity\na.png,d.bmp,", "line 2: identity"),
        (b"vis,nir,identity,sample\na.png,d.bmp,7,1\nb.png,x/c.bmp,7,1", "line 3: sample 1 of identity 7 was there"),
        (b'vis,nir,identity\n"a.png', "cannot be read as CSV"),
        (b"\xff\xfe\x00", "cannot be read as CSV"),
    ],
)
def test_a_list_that_is_wrong_names_its_line(tmp_path: Path, text: bytes, words: str) -> None:
    with pytest.raises(UserError, match=f"--pairs: .*{words}"):
        listed(tmp_path, text)
