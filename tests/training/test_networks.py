"""Generator and discriminators: shapes, gradients, alignment, conditions."""

from typing import Any

import pytest
import torch

from training.discriminator import Discriminator, minibatch_std
from training.generator import Generator
from training.layers import MappingNetwork, normalize_2nd_moment

SMALL: dict[str, Any] = {"channel_base": 256, "channel_max": 16}


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(resolution=32, z_dim=16, c_dim=8, w_dim=16, mapping_layers=2, **SMALL).eval()


def latents(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, 16, generator=rng), torch.randn(count, 8, generator=rng)


def test_both_spectra_at_the_resolution(generator: Generator) -> None:
    images = generator(*latents(3))
    assert {name: tuple(image.shape) for name, image in images.items()} == {
        "vis": (3, 3, 32, 32),
        "nir": (3, 1, 32, 32),
    }


def test_a_sample_does_not_depend_on_its_batch(generator: Generator) -> None:
    z, c = latents(4)
    for name, image in generator(z, c).items():
        assert torch.allclose(generator(z[2:3], c[2:3])[name], image[2:3], atol=1e-5)


def test_random_noise_moves_the_picture_once_it_has_a_strength(generator: Generator) -> None:
    z, c = latents(1)
    plain, noisy = generator(z, c, noise_mode="none"), generator(z, c, noise_mode="random")
    assert torch.equal(plain["vis"], noisy["vis"])  # its strength starts at 0
    strengths = [parameter for name, parameter in generator.named_parameters() if name.endswith("noise_strength")]
    with torch.no_grad():
        for strength in strengths:
            strength.fill_(0.1)
        first, second = generator(z, c, noise_mode="random"), generator(z, c, noise_mode="random")
        assert not torch.equal(first["vis"], second["vis"])
        assert torch.equal(generator(z, c)["vis"], generator(z, c)["vis"])  # const
        for strength in strengths:
            strength.zero_()
    with pytest.raises(ValueError, match="noise_mode"):
        generator(z, c, noise_mode="loud")


def test_the_two_pictures_of_one_w_are_aligned(generator: Generator) -> None:
    """What moves in the features at one place moves both pictures there, and nowhere far from it, at any resolution."""
    ws = generator.mapping(*latents(1))
    layer: Any = generator.get_submodule("synthesis.b16.conv1")
    before = generator.synthesis(ws)
    with torch.no_grad():
        layer.noise_strength.fill_(1.0)
        kept = layer.noise_const.clone()
        layer.noise_const.zero_()[4, 11] = 5
        after = generator.synthesis(ws)
        layer.noise_const.copy_(kept)
        layer.noise_strength.zero_()
    for name in ("vis", "nir"):
        change = (after[name] - before[name]).abs().sum(dim=1)[0]  # [32, 32]
        rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
        centre = (change * rows).sum() / change.sum(), (change * columns).sum() / change.sum()
        assert change.sum() > 0
        assert abs(centre[0] - 8.5) < 1.5 and abs(centre[1] - 22.5) < 1.5
        assert change[16:, :14].sum() == 0


def test_every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    generator = Generator(resolution=16, z_dim=16, c_dim=8, w_dim=16, mapping_layers=2, **SMALL)
    images = generator(*latents(2), noise_mode="random")
    discriminators = {
        "vis": Discriminator(16, 3, c_dim=8, mapping_layers=2, **SMALL),
        "nir": Discriminator(16, 1, c_dim=0, **SMALL),
    }
    loss = sum(network(images[name], latents(2)[1]).square().sum() for name, network in discriminators.items())
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    for module in (generator, *discriminators.values()):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_the_condition_matters_where_there_is_one() -> None:
    torch.manual_seed(0)
    images, c = torch.randn(2, 3, 16, 16), torch.randn(2, 8)
    conditional = Discriminator(16, 3, c_dim=8, mapping_layers=2, **SMALL)
    assert not torch.allclose(conditional(images, c), conditional(images, -c))
    unconditional = Discriminator(16, 3, c_dim=0, **SMALL)
    assert torch.equal(unconditional(images, c), unconditional(images, -c))


def test_truncation_goes_to_the_mean(generator: Generator) -> None:
    mapping = MappingNetwork(16, 8, 16, num_ws=3, num_layers=2)
    z, c = latents(4)
    mapping(z, c, update_w_avg=True)
    full = mapping(z, c)
    assert torch.allclose(mapping(z, c, truncation_psi=0), mapping.w_avg.expand(4, 3, 16))
    assert torch.allclose(mapping(z, c, truncation_psi=0.5), (mapping.w_avg + full) / 2, atol=1e-6)
    assert torch.allclose(mapping.w_avg, full[:, 0].mean(dim=0) * 0.005, atol=1e-6)


def test_second_moment_and_minibatch_deviation_by_hand() -> None:
    assert torch.allclose(normalize_2nd_moment(torch.tensor([[3.0, 4.0]])).square().mean(), torch.tensor(1.0))
    # Groups of two, interleaved: samples 0 and 2 differ by 2 (deviation 1), samples 1 and 3 are alike.
    x = torch.tensor([0.0, 7.0, 2.0, 7.0]).reshape(4, 1, 1, 1)
    appended = minibatch_std(x, group_size=2)[:, 1].flatten()
    assert torch.allclose(appended, torch.tensor([1.0, 0.0, 1.0, 0.0]), atol=1e-3)
    assert minibatch_std(x[:3], group_size=2).shape == (3, 2, 1, 1)  # a batch that two does not divide
