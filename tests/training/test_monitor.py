"""The collapse watch: differences by hand, a generator that ignores z, and networks that are in order."""

import math

import pytest
import torch

from training.config import TrainingConfig
from training.dataset import PairedFaces
from training.monitor import CONDITIONS, LATENTS, DiversityWatch, diversity, real_diversity, scalars
from training.trainer import Trainer

CPU = torch.device("cpu")


class Constructed(torch.nn.Module):
    """Draws flat pictures whose grey is told by the condition and, as far as `share` goes, by the latent."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share, self.z_dim = share, 8

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> dict[str, torch.Tensor]:
        grey = torch.tanh(c[:, :1] + self.share * z[:, :1])[:, :, None, None]  # [N, 1, 1, 1]
        return {"vis": grey.expand(-1, 3, 16, 16), "nir": grey.expand(-1, 1, 16, 16)}


def test_diversity_by_hand() -> None:
    """Group 0: black, black, grey; group 1: white. Within: 0, 1, 1. Across: 2, 2, 1. White is drawn too bright."""
    flat = torch.tensor([-1.0, -1.0, 0.0, 7.0])[:, None, None, None].expand(-1, 3, 4, 4)
    within, across = diversity(flat, [0, 0, 0, 1])
    assert (within, across) == pytest.approx((2 / 3, 5 / 3))
    half = torch.zeros(2, 1, 1, 4)
    half[1, ..., :1] = 1  # a quarter of the pixels differ by 1
    assert diversity(half, [0, 0]).within == pytest.approx(0.5)
    assert math.isnan(diversity(half, [0, 0]).across) and math.isnan(diversity(half, [0, 1]).within)


def test_the_real_variation_is_that_of_a_person(dataset: PairedFaces) -> None:
    """conftest's pictures: noise of a person spreads over 50 greys, people's patterns over 200."""
    for real in real_diversity(dataset, seed=0).values():
        assert real.within == pytest.approx(50 / 127.5 * math.sqrt(1 / 6), rel=0.1) and real.across > 2 * real.within


@pytest.mark.parametrize(("share", "collapsed"), [(0.0, True), (0.01, True), (1.0, False)])
def test_a_generator_that_ignores_its_latent_is_found(dataset: PairedFaces, share: float, collapsed: bool) -> None:
    watch = DiversityWatch(dataset, 8, seed=0, device=CPU)
    seen = watch.look(Constructed(share))  # type: ignore[arg-type]
    assert len(watch.groups) == CONDITIONS * LATENTS and seen["vis"].across > 0.3
    assert seen["vis"].within > 0.1 if not collapsed else seen["vis"].within < 0.016
    warnings = watch.warnings(seen)
    assert [line.split(":")[0] for line in warnings] == (["collapse in vis", "collapse in nir"] if collapsed else [])


def test_people_with_one_picture_each_are_measured_by_other_conditions(dataset: PairedFaces) -> None:
    class OneEach:
        names = dataset.names[::3]

        def __getitem__(self, index: int) -> tuple:
            return dataset[3 * index]

        def feature(self, index: int) -> torch.Tensor:
            return dataset.feature(3 * index)

    watch = DiversityWatch(OneEach(), 8, seed=0, device=CPU)  # type: ignore[arg-type]
    assert math.isnan(watch.real["vis"].within)
    for share, count in ((0.0, 2), (1.0, 0)):
        warnings = watch.warnings(watch.look(Constructed(share)))  # type: ignore[arg-type]
        assert len(warnings) == count and all("those of other conditions" in line for line in warnings)


def test_an_untrained_network_has_not_collapsed(config: TrainingConfig, dataset: PairedFaces) -> None:
    trainer = Trainer(config, CPU)
    watch = DiversityWatch(dataset, 8, seed=0, device=CPU)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    seen = watch.look(trainer.ema.averaged)
    assert watch.warnings(seen) == [] and torch.equal(torch.get_rng_state(), before)
    assert seen == watch.look(trainer.ema.averaged)
    values = scalars(seen)
    assert values.keys() == {"diversity/vis", "diversity/nir", "diversity/across_vis", "diversity/across_nir"}
    assert all(0 < value <= 2 for value in values.values())
