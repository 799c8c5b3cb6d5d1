"""Pictures on disk as metrics see them: each once, in order, whatever the batch and the processes."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from metrics.folder_side import Sources, folder_side, inspect, tree_sources
from metrics.pictures import GROUPS, PAIRS, Pictures, Side
from torch_utils import distributed
from torch_utils.image_tree import PairedTree, encode_png
from torch_utils.spectra import SPECTRA

SAMPLES = {"a": 3, "b": 1, "c": 11}  # pictures of each person


def write(folder: Path, name: str, side: int = 4) -> None:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    for spectrum in SPECTRA.values():
        pixels = rng.integers(0, 256, (side, side, spectrum.channels), dtype=np.uint8)
        place = folder / spectrum.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encode_png(pixels))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for person, samples in SAMPLES.items():
        for sample in range(samples):
            write(tmp_path, f"{person}/{sample:02}.png")
    return tmp_path


def joined(side: Side, stream: str, number: int) -> dict[str, np.ndarray]:
    batches = list(side.streams[stream].batches(number))
    return {name: torch.cat([batch[name] for batch in batches]).numpy() for name in batches[0]}


def decoded(sources: Sources, spectrum: str, rows: list[int]) -> np.ndarray:
    return np.stack([sources[spectrum].decode(row).transpose(2, 0, 1) for row in rows])


@pytest.mark.parametrize("workers", [0, 2])
def test_pairs_come_once_each_in_order(folder: Path, workers: int) -> None:
    sources = tree_sources(PairedTree(folder))
    side = folder_side(sources, batch=4, workers=workers)
    assert side.number == 15 and side.spectra == tuple(SPECTRA)
    assert [len(batch["vis"]) for batch in side.streams[PAIRS].batches(10)] == [4, 4, 2]
    for spectrum in SPECTRA:
        seen = joined(side, PAIRS, 10)[spectrum]
        assert seen.dtype == np.uint8 and np.array_equal(seen, decoded(sources, spectrum, list(range(10))))
    assert list(side.labels(5)["identities"]) == ["a", "a", "a", "b", "c"]


def test_a_seed_shuffles_pairs_and_their_labels_alike(folder: Path) -> None:
    sources = tree_sources(PairedTree(folder))
    plain, shuffled, again = (folder_side(sources, 4, seed=seed) for seed in (None, 1, 1))
    first, other, same = (joined(side, PAIRS, 15) for side in (plain, shuffled, again))
    assert np.array_equal(other["nir"], same["nir"]) and not np.array_equal(other["nir"], first["nir"])
    person = {first["vis"][row].tobytes(): str(name) for row, name in enumerate(plain.labels(15)["identities"])}
    assert [person[picture.tobytes()] for picture in other["vis"]] == list(shuffled.labels(15)["identities"])
    assert np.array_equal(joined(shuffled, PAIRS, 6)["vis"], other["vis"][:6])


def test_groups_are_one_person_s_and_at_most_eight(folder: Path) -> None:
    sources = tree_sources(PairedTree(folder))
    stream = folder_side(sources, batch=2).streams[GROUPS]
    groups: list[Pictures] = list(stream.batches(15))
    assert stream.items(15) == len(groups) == 2  # one picture is no group
    assert np.array_equal(groups[0]["vis"].numpy(), decoded(sources, "vis", [0, 1, 2]))
    assert np.array_equal(groups[1]["nir"].numpy(), decoded(sources, "nir", list(range(4, 12))))
    assert stream.items(8) == len(list(stream.batches(8))) == 1


@pytest.mark.parametrize("stream", [PAIRS, GROUPS])
def test_processes_share_the_pictures(folder: Path, monkeypatch: pytest.MonkeyPatch, stream: str) -> None:
    side = folder_side(tree_sources(PairedTree(folder)), batch=1 if stream == PAIRS else 4)
    whole = [batch["vis"].numpy() for batch in side.streams[stream].batches(13)]
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        own = [batch["vis"].numpy() for batch in side.streams[stream].batches(13)]
        assert len(own) == len(whole[rank::3])
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(own, whole[rank::3], strict=True))


def test_the_digest_is_that_of_the_content(folder: Path) -> None:
    sources = tree_sources(PairedTree(folder))
    side, digest = inspect(sources, workers=0)
    assert side == 4 and digest == PairedTree(folder).content_digest()
    (folder / "VIS" / "a" / "00.png").write_bytes((folder / "VIS" / "a" / "01.png").read_bytes())
    assert inspect(tree_sources(PairedTree(folder)), workers=0)[1] != digest


def test_what_cannot_be_measured_is_named(folder: Path) -> None:
    write(folder, "c/05.png", side=6)
    with pytest.raises(UserError, match="^--fake: VIS/c/05.png: 6x6, but the first picture is 4x4; all must be$"):
        inspect(tree_sources(PairedTree(folder)), 0, "--fake")
    (folder / "NIR" / "b" / "00.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    with pytest.raises(UserError, match="^--data: .*NIR.*b/00.png: ") as found:
        inspect(tree_sources(PairedTree(folder)), workers=2)
    assert "\n" not in str(found.value)


def test_an_oblong_first_picture_is_refused(tmp_path: Path) -> None:
    for spectrum in SPECTRA.values():
        (tmp_path / spectrum.folder).mkdir()
        pixels = np.zeros((4, 8, spectrum.channels), dtype=np.uint8)
        (tmp_path / spectrum.folder / "a_0.png").write_bytes(encode_png(pixels))
    with pytest.raises(UserError, match="VIS/a_0.png: 8x4"):
        inspect(tree_sources(PairedTree(tmp_path)), workers=0)
