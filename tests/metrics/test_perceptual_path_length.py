"""The perceptual path length by hand, and of a linear generator, of which it is known."""

from collections.abc import Iterator
from typing import cast

import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from metrics.measure import check_metrics, measure
from metrics.observers import Detector
from metrics.perceptual_path_length import path_length, path_observer
from metrics.pictures import EPSILON, PAIRS, PATH, Rows, Side, Stream
from metrics.real import RealPictures
from metrics.registry import build_observers, parse_metrics
from torch_utils.streams import stream
from training.draw import Drawings
from training.generator import Generator

Z = 4


def squared(images: torch.Tensor) -> Rows:
    """Squared Euclidean distance of each two pictures in place of LPIPS."""
    return {"distances": (images[::2].double() - images[1::2].double()).square().flatten(1).sum(dim=1).numpy()}


DETECTOR = Detector("lpips", "plain", "00ff", "none", squared)


@pytest.mark.parametrize(("number", "cut"), [(1, 0), (100, 0), (101, 1), (200, 1), (201, 2), (50_000, 499)])
def test_the_lowest_and_the_highest_hundredth_do_not_count(number: int, cut: int) -> None:
    lengths = np.arange(number, dtype=np.float64) ** 2
    assert path_length(np.random.default_rng(0).permutation(lengths)) == pytest.approx(
        lengths[cut : number - cut].mean()
    )
    low, high = np.percentile(lengths, 1, method="lower"), np.percentile(lengths, 99, method="higher")
    assert path_length(lengths) == pytest.approx(lengths[(lengths >= low) & (lengths <= high)].mean())


def test_outliers_do_not_count() -> None:
    assert path_length(np.array([5.0] * 99 + [1e9, -1e9])) == 5


def test_a_row_a_point_over_the_square_of_the_step() -> None:
    images = torch.tensor([10.0, 10.5, 20.0, 23.0]).view(4, 1, 1, 1)
    found = path_observer(DETECTOR).observe({"nir": images})
    assert found["nir"].tolist() == pytest.approx([0.25 / 1e-8, 9 / 1e-8])
    assert path_observer(DETECTOR).stream == PATH


class Linear(torch.nn.Module):
    """Pictures of 2x2 pixels that are linear in the latent; both spectra's, NIR's half as far."""

    z_dim = Z

    def __init__(self) -> None:
        super().__init__()
        self.matrix = torch.nn.Parameter(
            torch.from_numpy(stream(0, "linear").standard_normal((Z, 4), dtype=np.float32))
        )

    def mapping(self, z: torch.Tensor, c: torch.Tensor, truncation_psi: float) -> torch.Tensor:
        return z[:, None]  # [N, 1, Z]

    def synthesis(self, ws: torch.Tensor, noise_mode: str) -> dict[str, torch.Tensor]:
        images = (ws[:, 0] @ self.matrix).view(-1, 1, 2, 2)
        return {"vis": images, "nir": images / 2}


def test_of_a_linear_generator_as_drawn() -> None:
    """|A (z' - z)|^2 in grey levels, whatever the step; its mean over normal latents is 2 |A|^2."""
    network, number = Linear(), 3000
    drawings = Drawings(cast(Generator, network), np.zeros((1, 2), dtype=np.float32), seed=5, batch=64)
    metrics = parse_metrics(f"ppl{number}_wend")
    observers = build_observers(metrics, {"lpips": DETECTOR})
    paths = Stream(lambda count: drawings.path(range(count), EPSILON))
    fake = Side(("vis", "nir"), None, {PATH: paths}, lambda count: {})
    real = RealPictures(Side(("vis", "nir"), 10, {}, lambda count: {}, "data"), observers)
    ((vis, nir),) = measure(metrics, real, fake, seed=5)
    ends = [stream(5, "drawn-path", index).standard_normal((2, Z), dtype=np.float32) for index in range(number)]
    matrix = network.matrix.detach().double().numpy() * 127.5
    exact = np.square(np.diff(np.stack(ends), axis=1)[:, 0] @ matrix).sum(axis=1)
    assert vis["value"] == pytest.approx(path_length(exact), rel=1e-3)
    assert nir["value"] == pytest.approx(vis["value"] / 4, rel=1e-3)
    assert exact.mean() == pytest.approx(2 * np.square(matrix).sum(), rel=0.1)
    assert (vis["spectrum"], vis["num_fake"], vis["detector"], vis["resize"]) == ("vis", number, "plain", "none")


def test_pictures_on_disk_have_no_path() -> None:
    def no_pairs(number: int) -> Iterator[dict[str, torch.Tensor]]:
        yield from ()

    metrics, side = parse_metrics("ppl2_wend"), Side(("vis",), 60_000, {PAIRS: Stream(no_pairs)}, lambda count: {})
    with pytest.raises(UserError, match="ppl2_wend: asks a network, and pictures are no network; use --gen-model"):
        check_metrics(metrics, side, side, build_observers(metrics, {"lpips": DETECTOR}))
