"""Floating-point operations of the layers' convolutions: how much work a picture is, and a pair in training.

All else (mapping, noise, activations, filters, augmentation) is a few per cent of them.
"""

from collections.abc import Mapping

from training.config import TrainingConfig
from training.discriminator import Discriminator
from training.generator import Generator
from training.layers import Conv2d


def generator_flops(network: Generator) -> float:
    """Of one forward pass, a pair. An upsampling layer counts as the transposed convolution that it is."""
    total = 0.0
    for res in network.synthesis.resolutions:
        block = getattr(network.synthesis, f"b{res}")
        if not block.is_first:
            total += 2 * block.conv0.weight.numel() * (res // 2) ** 2
        total += 2 * block.conv1.weight.numel() * res**2
        total += sum(2 * head.weight.numel() * res**2 for head in block.heads.values())
    return total


def discriminator_flops(network: Discriminator) -> float:
    """Of one forward pass, a picture."""
    total = 0.0
    for res in network.resolutions:
        for layer in getattr(network, f"b{res}").children():
            assert isinstance(layer, Conv2d)
            total += 2 * layer.weight.numel() * (res // layer.down) ** 2
    return total + 2 * network.b4.conv.weight.numel() * 16


def pair_flops(config: TrainingConfig, generator: Generator, discriminators: Mapping[str, Discriminator]) -> float:
    """Of training, a pair: the mean over iterations with and without regularisers.

    A backward pass costs a forward pass for the inputs and another for the weights; differentiating a gradient costs
    four more on top of the forward and the gradient itself.
    """
    g = generator_flops(generator)
    judges = {name: discriminator_flops(network) for name, network in discriminators.items()}
    d = sum(judges.values())
    total = 3 * g + 2 * d  # the generator: the discriminators pass gradients, but have none of their own
    total += g + 2 * 3 * d  # the discriminators: fakes and reals
    if config.path_length_weight:
        total += (6 * g) / 2 / config.generator_reg_interval  # half a batch
    if config.gamma:
        total += 6 * sum(judges[name] for name in config.r1_spectra) / config.discriminator_reg_interval
    return total
