"""Pictures by number: drawing i has a latent and a condition of its own, whatever the batch and the process."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from torch_utils.images import to_uint8
from torch_utils.streams import stream
from training.generator import Generator, Images


@torch.no_grad()
def draw_pairs(
    generator: Generator, features: np.ndarray, indices: Sequence[int], seed: int, batch: int
) -> Iterator[Images]:
    """The drawings of `indices`, in order, `batch` at a time: {spectrum: uint8 [N, C, H, W]} on the generator's device.

    features float32 [M, c_dim]: the conditions are drawn from them. No random stream of training's is touched.
    """
    device = next(generator.parameters()).device
    for first in range(0, len(indices), batch):
        streams = [stream(seed, "drawn-pair", index) for index in indices[first : first + batch]]
        z = np.stack([rng.standard_normal(generator.z_dim, dtype=np.float32) for rng in streams])  # [N, z_dim]
        c = np.stack([features[rng.integers(len(features))] for rng in streams])  # [N, c_dim]
        pictures = generator(torch.from_numpy(z).to(device), torch.from_numpy(c).to(device))
        yield {name: to_uint8(images) for name, images in pictures.items()}
