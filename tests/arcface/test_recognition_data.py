"""Labelled pictures, batches of both spectra, and the split into people to learn and people to test on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from arcface import recognition_data
from arcface.recognition_data import TrainingPictures, available_spectra, fits_memory, open_set, read_batches
from dnnlib.errors import UserError
from tests.arcface.people import people
from torch_utils.image_tree import encode_png

NAMES = ["003_0.png", "003_1.png", "010_0.png", "7/a.png", "7/b.png"]


def write_pair(root: Path, name: str, value: int, size: int = 8) -> None:
    for folder, channels, level in (("VIS", 3, value), ("NIR", 1, value + 100)):
        path = root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(np.full((size, size, channels), level, dtype=np.uint8)))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for value, name in enumerate(NAMES):
        write_pair(tmp_path / "data", name, value)
    return tmp_path / "data"


def pictures(path: Path, spectra: str) -> TrainingPictures:
    return TrainingPictures([open_set(path, spectra)])


def batches(found: TrainingPictures, indices: list[list[int]], size: int = 8, **options: object) -> list[torch.Tensor]:
    arrays = [np.array(batch) for batch in indices]
    return list(read_batches(found, size, arrays, show_progress=False, **options))  # type: ignore[arg-type]


def test_both_name_forms_give_contiguous_labels(data: Path) -> None:
    found = pictures(data, "vis")
    assert found.sets[0].identities == ("003", "010", "7") and found.labels.tolist() == [0, 0, 1, 2, 2]
    assert len(found) == 5 and found.classes == 3


def test_both_spectra_share_labels_and_mix_in_a_batch(data: Path) -> None:
    found = pictures(data, "vis+nir")
    assert found.labels.tolist() == [0, 0, 1, 2, 2] * 2
    assert [found.name(index) for index in (6, 3)] == ["NIR/003_1.png", "VIS/7/a.png"]
    for in_memory in (True, False):
        (x,) = batches(found, [[6, 3, 9]], in_memory=in_memory)
        assert x.shape == (3, 3, 8, 8) and x.dtype == torch.uint8
        assert x[:, :, 0, 0].tolist() == [[101] * 3, [3] * 3, [104] * 3]


def test_people_of_the_second_set_are_others_and_labels_go_on(data: Path, tmp_path: Path) -> None:
    """A folder a person, with a name that the first set has, too."""
    for name in ("003/x.png", "003/y.png", "a/x.png"):
        (tmp_path / "real" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "real" / name).write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    assert available_spectra(tmp_path / "real", "vis+nir", "--real") == "vis"
    assert available_spectra(data, "vis+nir", "--real") == "vis+nir"
    found = TrainingPictures([open_set(data, "vis+nir"), open_set(tmp_path / "real", "vis", "--real")])
    assert found.labels.tolist() == [0, 0, 1, 2, 2] * 2 + [3, 3, 4] and found.classes == 5
    record = found.record()
    assert record["identities"] == 3 and record["pictures"] == 10 and record["real"]["pictures"] == 3
    with pytest.raises(UserError, match=r"--real: .*do not tell their spectrum"):
        open_set(tmp_path / "real", "vis+nir", "--real")


def test_batches_are_the_same_in_memory_and_streamed_by_workers() -> None:
    found = people(count=3, size=40)
    wanted = [[0, 5, 23, 7], [12, 1, 1, 3], [22, 13, 2, 9]]
    kept = batches(found, wanted, 32)
    for workers in (0, 2):
        streamed = batches(found, wanted, 32, in_memory=False, workers=workers)
        assert all(torch.equal(a, b) for a, b in zip(kept, streamed, strict=True))


def test_small_sets_are_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    found = people(count=2)  # 8 RGB pictures and 8 grey ones
    monkeypatch.setattr(recognition_data, "MEMORY_BYTES", 8 * 4 * 32 * 32)
    assert fits_memory(found, 32) and not fits_memory(found, 33)


def test_the_digest_tells_names_labels_spectra_and_content(data: Path, tmp_path: Path) -> None:
    first = pictures(data, "vis").digest()
    data = data.rename(tmp_path / "moved")
    assert pictures(data, "vis").digest() == first
    write_pair(data, NAMES[0], 100)
    assert pictures(data, "vis").digest() != first
    digests = {pictures(data, "vis").digest(), pictures(data, "nir").digest()}
    (data / "dataset.json").write_text('{"content_digest": "abc"}')
    digests.add(pictures(data, "vis").digest())
    assert pictures(data, "vis").digest() == pictures(data, "vis").digest()
    write_pair(data, "8_0.png", 5)
    digests.add(pictures(data, "vis").digest())
    assert len(digests) == 4


def test_the_last_people_are_kept_out(data: Path) -> None:
    found = open_set(data, "vis")
    assert found.split(0) == (found, None)
    for impossible in (1, 2, 3, -1):
        with pytest.raises(UserError, match="--holdout"):
            found.split(impossible)
    write_pair(data, "9_0.png", 5)
    learned, held_out = open_set(data, "vis").split(2)
    assert held_out is not None
    assert learned.identities == ("003", "010") and held_out.identities == ("7", "9")
    assert TrainingPictures([learned]).labels.tolist() == [0, 0, 1]


def test_a_test_needs_two_pictures_of_somebody(tmp_path: Path) -> None:
    for name in ("1_0.png", "1_1.png", "2_0.png", "3_0.png", "4_0.png"):
        write_pair(tmp_path, name, 1)
    with pytest.raises(UserError, match="--holdout: none of 2 people"):
        open_set(tmp_path, "vis").split(2)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_used_is_named(data: Path, workers: int) -> None:
    (data / "VIS/8_0.png").write_bytes(encode_png(np.zeros((9, 8, 3), np.uint8)))
    with pytest.raises(UserError, match=r"^--data: .*data: VIS/8_0.png is 8x9; a square"):
        batches(pictures(data, "vis"), [[0, 5]], workers=workers, in_memory=False)
    (data / "VIS/8_0.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=r"VIS/8_0.png: not a PNG"):
        batches(pictures(data, "vis"), [[0, 5]], workers=workers)


def test_one_person_is_not_enough(tmp_path: Path) -> None:
    write_pair(tmp_path, "7_0.png", 1)
    with pytest.raises(UserError, match="at least 2"):
        open_set(tmp_path, "vis").split(0)
