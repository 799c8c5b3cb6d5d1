"""Mixed precision: the blocks of the highest resolutions compute in a shorter format, everything else in float32.

Weights, styles, demodulation, the running images, losses and optimisers stay float32. float16 ends at 65504, so its
networks are built with clamped activations (constructor argument `clamp`), and their styles and weights are scaled
down before a convolution; bfloat16 has float32's range and needs neither.
"""

import torch
from torch import nn

from training.discriminator import Discriminator
from training.generator import Generator

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
RESOLUTIONS = 4  # how many of the highest
LOWEST = 8  # blocks below stay float32


def use_precision(network: Generator | Discriminator, precision: str) -> None:
    """Has the blocks of the highest resolutions compute in fp32, fp16 or bf16; weights stay float32."""
    holder: nn.Module = network.synthesis if isinstance(network, Generator) else network
    sizes = [res for res in network.resolutions if res >= LOWEST]
    for res in sizes:
        chosen = DTYPES[precision] if res in sorted(sizes)[-RESOLUTIONS:] else torch.float32
        getattr(holder, f"b{res}").dtype = chosen
