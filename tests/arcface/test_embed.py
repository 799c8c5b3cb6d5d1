"""Embedding: order, batches, flip, reading processes, and the choice of the most typical feature."""

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arcface.alignment import ARCFACE_TEMPLATE, PORTRAIT_TEMPLATE, frame_between
from arcface.backbones import build_backbone
from arcface.embed import embed, embed_dataset, embed_source, most_typical
from arcface.preprocess import preprocess
from arcface.weights import RecognitionModel, load_recognition, save_recognition
from dnnlib.errors import UserError
from tests.arcface.people import settled
from torch_utils.image_tree import PairedTree, encode_png
from torch_utils.picture_source import open_pictures


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> RecognitionModel:
    torch.manual_seed(0)
    backbone = settled(build_backbone("mbfn", 32))
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_recognition(path, backbone, "mbfn", 32)
    return load_recognition(path)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (11, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_it_is_the_bare_network_on_preprocessed_pictures(model: RecognitionModel, images: torch.Tensor) -> None:
    with torch.no_grad():
        expected = model.backbone(preprocess(images, 32)).numpy()
    np.testing.assert_allclose(embed(model, images), expected, atol=1e-5)


def test_of_pictures_aligned_otherwise_it_sees_the_part_that_is_aligned_so(model: RecognitionModel) -> None:
    expecting = replace(model, alignment=ARCFACE_TEMPLATE)
    source = Noise()
    arrays = [source.decode(index) for index in range(len(source))]
    frame = frame_between(PORTRAIT_TEMPLATE, ARCFACE_TEMPLATE)
    inputs = [preprocess(torch.from_numpy(array).permute(2, 0, 1)[None], 32, frame=frame) for array in arrays]
    with torch.no_grad():
        expected = model.backbone(torch.cat(inputs)).numpy()
    for found in (
        embed(expecting, arrays, alignment=PORTRAIT_TEMPLATE),
        np.concatenate(
            [embed(expecting, torch.from_numpy(a).permute(2, 0, 1)[None], alignment=PORTRAIT_TEMPLATE) for a in arrays]
        ),
        embed_source(expecting, source, 2, 0, alignment=PORTRAIT_TEMPLATE),
        embed_source(expecting, source, 2, 2, alignment=PORTRAIT_TEMPLATE),
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    for known in (embed(expecting, arrays), embed(model, arrays, alignment=PORTRAIT_TEMPLATE)):
        assert np.array_equal(known, embed(model, arrays))


@settings(max_examples=15, deadline=None)
@given(size=st.integers(1, 13), flip=st.booleans())
def test_batch_size_does_not_matter(model: RecognitionModel, images: torch.Tensor, size: int, flip: bool) -> None:
    whole = embed(model, images, batch_size=64, flip=flip)
    assert whole.shape == (11, 512) and whole.dtype == np.float32
    np.testing.assert_allclose(embed(model, images, batch_size=size, flip=flip), whole, atol=1e-5)


def test_iterables_of_arrays_and_of_several_sizes(model: RecognitionModel, images: torch.Tensor) -> None:
    arrays = [image.permute(1, 2, 0).numpy() for image in images]
    np.testing.assert_allclose(embed(model, iter(arrays), batch_size=4), embed(model, images), atol=1e-5)
    grey = np.full((48, 48, 1), 100, dtype=np.uint8)
    mixed = embed(model, [arrays[0], grey])
    np.testing.assert_allclose(mixed[0], embed(model, images[:1])[0], atol=1e-5)
    same = np.full((32, 32, 3), 100, dtype=np.uint8)
    np.testing.assert_allclose(mixed[1], embed(model, [same])[0], atol=1e-4)


def test_flip_adds_the_mirror_picture(model: RecognitionModel, images: torch.Tensor) -> None:
    expected = embed(model, images) + embed(model, images.flip(3))
    np.testing.assert_allclose(embed(model, images, flip=True), expected, atol=1e-5)
    np.testing.assert_allclose(embed(model, images.flip(3), flip=True), expected, atol=1e-4)


def test_nothing_gives_nothing(model: RecognitionModel) -> None:
    assert embed(model, []).shape == (0, 512)


def test_the_most_typical_feature_by_hand() -> None:
    degrees = np.deg2rad([0, 50, 40, 100, 7])
    features = np.stack([np.cos(degrees), np.sin(degrees)], axis=1) * [[1], [5], [2], [1], [3]]
    # a: 0, 50, 40 degrees -> 40 has the highest sum of cosines. b: equals, the first counts. c: alone.
    assert most_typical(features[[0, 1, 3, 2, 4]], ["a", "a", "b", "a", "c"]) == [3, 2, 4]
    assert most_typical(features[:2], ["b", "b"]) == [0]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> PairedTree:
    root: Path = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("a_0", "a_1", "a_2", "b_0", "b_1"):
        for folder, channels in (("VIS", 3), ("NIR", 1)):
            (root / folder).mkdir(exist_ok=True)
            picture = rng.integers(0, 256, (32, 32, channels), dtype=np.uint8)
            (root / folder / f"{name}.png").write_bytes(encode_png(picture))
    return PairedTree(root)


def test_features_of_a_dataset(model: RecognitionModel, tree: PairedTree) -> None:
    everything = embed_dataset(model, tree, show_progress=False)
    assert everything.names == tree.names and everything.mode == "all" and everything.model == model.fingerprint
    pictures = [tree.decode("vis", name) for name in tree.names]
    np.testing.assert_allclose(everything.features, embed(model, pictures), atol=1e-5)
    assert everything.norm == pytest.approx(np.linalg.norm(everything.features, axis=1).mean(), rel=1e-5)
    one = embed_dataset(model, tree, mode="one", show_progress=False)
    assert one.identities == ["a", "b"] and one.mode == "one"
    chosen = [everything.names.index(name) for name in one.names]
    assert chosen == most_typical(everything.features, everything.identities)
    near_infrared = embed_dataset(model, tree, spectrum="nir", show_progress=False)
    assert not np.allclose(near_infrared.features, everything.features)


def test_an_unknown_mode_is_the_users_mistake(model: RecognitionModel, tree: PairedTree) -> None:
    with pytest.raises(UserError, match="--mode"):
        embed_dataset(model, tree, mode="some", show_progress=False)


# ----------------------------------------------------------------------------
# Reading processes.


class Noise:
    """Pictures of several sizes, computed where they are read; picture `broken` cannot be, picture `deadly` kills."""

    def __init__(self, channels: int = 3, count: int = 7, broken: int = -1, deadly: int = -1) -> None:
        self.names = [f"p/{i}.png" for i in range(count)]
        self.identities = ["p"] * count
        self.spectrum = "vis" if channels == 3 else "nir"
        self.channels, self.broken, self.deadly = channels, broken, deadly

    def decode(self, index: int) -> np.ndarray:
        if index == self.broken:
            raise UserError(f"{self.names[index]}: broken picture")
        if index == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        side = 32 if index % 3 else 40 + index
        return np.random.default_rng(index).integers(0, 256, (side, side, self.channels), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.names)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("workers", "batch"), [(0, 3), (2, 3), (2, 64), (None, 1)])
def test_reading_processes_change_nothing(
    model: RecognitionModel, channels: int, workers: int | None, batch: int
) -> None:
    source = Noise(channels)
    expected = embed(model, [source.decode(index) for index in range(len(source))], flip=True)
    before = torch.get_rng_state()
    found = embed_source(model, source, batch, workers, flip=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_pictures_give_no_features(model: RecognitionModel) -> None:
    assert embed_source(model, Noise(count=0)).shape == (0, 512)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_cannot_be_read_is_named_in_one_line(model: RecognitionModel, workers: int) -> None:
    with pytest.raises(UserError) as caught:
        embed_source(model, Noise(broken=4), 2, workers)
    assert str(caught.value) == "p/4.png: broken picture"
    assert not multiprocessing.active_children()


def test_a_killed_reader_is_one_line(model: RecognitionModel) -> None:
    with pytest.raises(UserError, match="--workers: a process that reads pictures was killed") as caught:
        embed_source(model, Noise(deadly=5), 2, 2)
    assert "\n" not in str(caught.value)


def test_reading_does_not_run_ahead_of_the_network(model: RecognitionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    source = Noise(count=6)

    def decode(self: Noise, index: int) -> np.ndarray:
        events.append("read")
        return np.zeros((32, 32, 3), np.uint8)

    monkeypatch.setattr(Noise, "decode", decode)
    hook = model.backbone.register_forward_hook(lambda *_: events.append("network"))
    embed_source(model, source, 2, 0)
    hook.remove()
    assert events == ["read", "read", "network"] * 3


def test_a_picture_that_is_not_square_is_refused_by_name(model: RecognitionModel, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name, shape in (("0", (40, 40, 3)), ("1", (40, 50, 3))):
        (tmp_path / "a" / f"{name}.png").write_bytes(encode_png(np.zeros(shape, dtype=np.uint8)))
    with pytest.raises(UserError, match=r"a/1.png: 50x40 is not square"):
        embed_source(model, open_pictures(tmp_path, "vis"), workers=0)
