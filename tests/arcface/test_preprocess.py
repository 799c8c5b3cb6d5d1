"""The one preprocessing function, by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from arcface.preprocess import Frame, preprocess, protocol, resize


def test_values_and_order_by_hand() -> None:
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    rgb, bgr = preprocess(image, 32), preprocess(image, 32, "BGR")
    torch.testing.assert_close(rgb[0, :, 5, 7], torch.tensor([-1.0, -0.6, 1.0]))
    torch.testing.assert_close(bgr[0, :, 5, 7], torch.tensor([1.0, -0.6, -1.0]))


def test_grey_is_repeated() -> None:
    image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8)
    result = preprocess(image, 8)
    assert result.shape == (1, 3, 8, 8)
    assert torch.equal(result[:, 0], result[:, 2])


def test_halving_averages_with_the_triangle_filter() -> None:
    row = torch.tensor([0, 0, 0, 0, 240, 240, 240, 240], dtype=torch.uint8)
    result = preprocess(row.expand(1, 1, 8, 8), 4)[0, 0, 0] * 127.5 + 127.5
    # Each output pixel weighs the inputs at -1.5, -0.5, 0.5, 1.5 by 1/8, 3/8, 3/8, 1/8.
    torch.testing.assert_close(result, torch.tensor([0.0, 30.0, 210.0, 240.0]), atol=1e-3, rtol=0)


def test_it_does_not_depend_on_the_batch() -> None:
    images = torch.randint(0, 256, (5, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(preprocess(images, 32)[3:4], preprocess(images[3:4], 32))


@pytest.mark.parametrize(
    ("shape", "dtype"), [((1, 3, 8, 8), torch.float32), ((1, 2, 8, 8), torch.uint8), ((3, 8), torch.uint8)]
)
def test_other_inputs_are_refused(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="uint8"):
        preprocess(torch.zeros(shape, dtype=dtype), 8)


def test_unknown_colour_order_is_refused() -> None:
    with pytest.raises(ValueError, match="GBR"):
        preprocess(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 8, "GBR")


# ----------------------------------------------------------------------------
# Frames.


def noise(height: int, width: int, channels: int = 3, count: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


@given(
    shape=st.tuples(st.integers(5, 60), st.integers(5, 60)),
    size=st.integers(4, 40),
    corner=st.tuples(st.floats(-0.9, 0.9), st.floats(-0.9, 0.9)),
    side=st.floats(0.2, 2.5),
)
@settings(max_examples=60, deadline=None)
def test_a_frame_is_pillows_box(shape: tuple[int, int], size: int, corner: tuple[float, float], side: float) -> None:
    """Pillow's bilinear resize of a box, of a picture whose border goes on, is an implementation of its own."""
    height, width = shape
    images = noise(height, width, 1)
    found = resize(images, size, Frame(*corner, side))[0, 0].numpy()
    rim = 4 * max(shape)
    wide = np.pad(images[0, 0].numpy(), rim, mode="edge").astype(np.float32)
    left, top = corner[0] * width + rim, corner[1] * height + rim
    box = (left, top, left + side * width, top + side * height)
    expected = Image.fromarray(wide).resize((size, size), Image.Resampling.BILINEAR, box=box)
    np.testing.assert_allclose(found, np.asarray(expected), atol=0.02)


def test_a_frame_of_whole_pixels_is_a_slice_and_no_frame_changes_nothing() -> None:
    images = noise(160, 160, count=2)
    found = preprocess(images, 112, "BGR", Frame(0.15, 0.1875, 0.7))
    torch.testing.assert_close(found, preprocess(images[:, :, 30:142, 24:136], 112, "BGR"), atol=1e-5, rtol=0)
    whole = torch.nn.functional.interpolate(images.float(), (112, 112), mode="bilinear", antialias=True)
    assert torch.equal(resize(images, 112), whole) and resize(images, 160) is images
    inner = (..., slice(2, -2), slice(2, -2))  # the border does not go on in torch's
    torch.testing.assert_close(resize(images, 112, Frame(0, 0, 1))[inner], whole[inner], atol=0.01, rtol=0)


def test_a_frames_rows_do_not_depend_on_the_batch() -> None:
    images, frame = noise(50, 50, count=5), Frame(0.1, 0.2, 0.7)
    torch.testing.assert_close(resize(images, 32, frame)[3:4], resize(images[3:4], 32, frame), atol=1e-4, rtol=0)


def test_the_protocol_names_the_frame() -> None:
    assert protocol(112) == "bilinear-antialias-112-rgb"
    assert protocol(112, "BGR", Frame(0.15, 0.1875, 0.7)) == "bilinear-antialias-112-bgr-of-0.15,0.1875,0.7"
