"""Resizing against Pillow, by hand, and by its names."""

import numpy as np
import pytest
import torch
from PIL import Image

from metrics import resizing
from metrics.choices import CLEAN, OWN, PROTOCOLS, PYTORCH_FID
from metrics.resizing import bicubic, bilinear, bilinear_tensorflow
from tests.metrics.random_weights import pictures


@pytest.mark.parametrize("size", [(32, 32), (64, 48), (256, 256), (300, 298), (512, 640)])
def test_clean_is_pillow_s_bicubic_in_float(size: tuple[int, int]) -> None:
    images = pictures(1, 3, *size)
    found = bicubic(images.float(), 299)[0].numpy()
    for channel in range(3):
        picture = Image.fromarray(images[0, channel].numpy().astype(np.float32), mode="F")
        wanted = np.asarray(picture.resize((299, 299), Image.Resampling.BICUBIC)).clip(0, 255)
        assert np.abs(found[channel] - wanted).max() < 1e-3
    assert size[0] > 64 or ((found == 0).any() and (found == 255).any())  # where it overshoots


def test_clean_is_clean_fid_s_where_it_is_installed() -> None:
    theirs = pytest.importorskip("cleanfid.resize").make_resizer("PIL", False, "bicubic", (299, 299))
    images = pictures(1, height=200, width=200)
    wanted = theirs(images[0].permute(1, 2, 0).numpy())
    assert np.abs(bicubic(images.float(), 299)[0].permute(1, 2, 0).numpy() - wanted).max() < 1e-3


def test_tensorflow_s_bilinear_by_hand() -> None:
    """Twice as many pixels: each old one, and the middle to the next; the last goes on. Half as many: every other."""
    line = torch.tensor([0.0, 10.0, 40.0]).view(1, 1, 1, 3).repeat(1, 1, 3, 1)
    assert bilinear_tensorflow(line, 6)[0, 0, 0].tolist() == [0, 5, 10, 25, 40, 40]
    assert bilinear_tensorflow(line.transpose(2, 3), 6)[0, 0, :, 0].tolist() == [0, 5, 10, 25, 40, 40]
    assert bilinear_tensorflow(torch.arange(16.0).view(1, 1, 4, 4), 2)[0, 0].tolist() == [[0, 2], [8, 10]]


def test_tensorflow_s_bilinear_is_torch_fidelity_s_where_it_is_installed() -> None:
    theirs = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    images = pictures(1, height=200, width=220).float()
    wanted = theirs.interpolate_bilinear_2d_like_tensorflow1x(images, size=(299, 299), align_corners=False)
    assert torch.allclose(bilinear_tensorflow(images, 299), wanted, atol=1e-3)


def test_bilinear_by_hand() -> None:
    """Centres of four in eight: the middle of two lies at 1.5, a quarter of the way before each. With antialias the
    triangle is two pixels wide on each side."""
    line = torch.arange(8.0).view(1, 1, 1, 8).repeat(1, 1, 8, 1)
    assert bilinear(line, 4, antialias=False)[0, 0, 0].tolist() == [0.5, 2.5, 4.5, 6.5]
    line[..., :] = torch.tensor([0.0, 0, 0, 8, 0, 0, 0, 0])
    assert bilinear(line, 4, antialias=False)[0, 0, 0].tolist() == [0, 4, 0, 0]
    assert bilinear(line, 4, antialias=True)[0, 0, 0, 1:3].tolist() == pytest.approx([3, 1])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_networks_get_three_channels_of_their_size(protocol: str) -> None:
    grey = pictures(2, channels=1)
    for resize, side in ((resizing.for_inception(protocol), 299), (resizing.for_vgg(protocol), 224)):
        seen = resize.prepare(grey)
        assert seen.shape == (2, 3, side, side) and seen.dtype == torch.float32 and str(side) in resize.name
        assert torch.allclose(seen, resize.prepare(grey.expand(-1, 3, -1, -1)), atol=1e-6)


def test_grey_levels_and_names() -> None:
    white = torch.full((1, 3, 299, 299), 255, dtype=torch.uint8)
    found = {name: float(resizing.for_inception(name).prepare(white).max()) for name in PROTOCOLS}
    assert found == {OWN: 127 / 128, CLEAN: 127 / 128, PYTORCH_FID: 1}
    names = [resizing.for_inception(name).name for name in PROTOCOLS]
    assert names == ["bilinear-tf1-299-minus-128", "bicubic-antialias-299-minus-128", "bilinear-299-minus-127.5"]
