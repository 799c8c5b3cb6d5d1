"""Labelled pictures, batches of both spectra, and the split into people to learn and people to test on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from arcface.recognition_data import PictureSet, check_testable, load_pictures, split_identities
from dnnlib.errors import UserError
from torch_utils.image_tree import PairedTree, encode_png


def write_pair(root: Path, name: str, value: int, size: int = 8) -> None:
    for folder, channels, level in (("VIS", 3, value), ("NIR", 1, value + 100)):
        path = root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(np.full((size, size, channels), level, dtype=np.uint8)))


@pytest.fixture
def tree(tmp_path: Path) -> PairedTree:
    for value, name in enumerate(["003_0.png", "003_1.png", "010_0.png", "7/a.png", "7/b.png"]):
        write_pair(tmp_path, name, value)
    return PairedTree(tmp_path)


def test_both_name_forms_give_contiguous_labels(tree: PairedTree) -> None:
    pictures = load_pictures(tree, "vis", show_progress=False)
    assert pictures.identities == ["003", "010", "7"] and pictures.labels.tolist() == [0, 0, 1, 2, 2]
    assert pictures.images["vis"].shape == (5, 3, 8, 8) and pictures.resolution == 8 and len(pictures) == 5


def test_both_spectra_share_labels_and_mix_in_a_batch(tree: PairedTree) -> None:
    pictures = load_pictures(tree, "vis+nir", ["7", "003"], show_progress=False)
    assert len(pictures) == 8 and pictures.labels.tolist() == [1, 1, 0, 0]
    x, labels = pictures.batch(np.array([5, 2, 7]), 8)  # NIR of 003_1, VIS of 7/a, NIR of 7/b
    assert x.shape == (3, 3, 8, 8) and labels.tolist() == [1, 0, 0]
    torch.testing.assert_close(x[:, :, 0, 0] * 127.5 + 127.5, torch.tensor([[101.0], [3], [104]]).expand(3, 3))
    assert pictures.describe(np.array([5, 2])) == ["NIR/003_1.png", "VIS/7/a.png"]


def test_the_digest_tells_pixels_names_and_labels(tree: PairedTree) -> None:
    one, again = (load_pictures(tree, "vis", show_progress=False) for _ in range(2))
    assert one.digest() == again.digest()
    again.images["vis"][0, 0, 0, 0] += 1
    assert one.digest() != again.digest()
    assert one.digest() != load_pictures(tree, "nir", show_progress=False).digest()


def test_the_last_people_are_kept_out(tree: PairedTree) -> None:
    assert split_identities(tree, 0) == (["003", "010", "7"], [])
    for impossible in (1, 2, 3, -1):
        with pytest.raises(UserError, match="--holdout"):
            split_identities(tree, impossible)


def test_four_people_split_in_two(tree: PairedTree, tmp_path: Path) -> None:
    write_pair(tmp_path, "9_0.png", 5)
    assert split_identities(PairedTree(tmp_path), 2) == (["003", "010"], ["7", "9"])


def test_pictures_of_another_size_are_named(tree: PairedTree, tmp_path: Path) -> None:
    write_pair(tmp_path, "8_0.png", 5, size=9)
    with pytest.raises(UserError, match=r"VIS/8_0.png is 9x9, 8x8"):
        load_pictures(PairedTree(tmp_path), "vis", show_progress=False)


def test_one_person_is_not_enough(tree: PairedTree) -> None:
    with pytest.raises(UserError, match="at least 2"):
        load_pictures(tree, "vis", ["7"], show_progress=False)


def test_a_test_needs_two_pictures_of_somebody() -> None:
    alone = PictureSet({"vis": torch.zeros(2, 3, 8, 8)}, torch.tensor([0, 1]), ["a_0", "b_0"], ["a", "b"])
    with pytest.raises(UserError, match="--holdout"):
        check_testable(alone)
