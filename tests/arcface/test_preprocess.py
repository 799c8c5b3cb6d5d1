"""The one preprocessing function, by hand."""

import pytest
import torch

from arcface.preprocess import preprocess


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
