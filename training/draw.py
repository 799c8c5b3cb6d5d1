"""Pictures by number: drawing i has a latent and a condition of its own, whatever the batch and the process.

They are what metrics look at. No random stream of training's is touched.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from torch_utils.images import to_uint8
from torch_utils.streams import stream
from training.generator import Generator, Images


@dataclass(frozen=True)
class Drawings:
    """What a generator draws for a seed.

    features: float32 [M, c_dim], the conditions are drawn from them. batch: pictures at a time.
    """

    generator: Generator
    features: np.ndarray
    seed: int
    batch: int
    truncation: float = 1.0
    noise_mode: str = "const"

    def conditions(self, indices: Sequence[int]) -> np.ndarray:
        """Those of pairs, [N, c_dim]."""
        return np.stack([self._pair(index)[1] for index in indices])

    @torch.no_grad()
    def pairs(self, indices: Sequence[int]) -> Iterator[Images]:
        """Pairs by number, `batch` at a time: {spectrum: uint8 [N, C, H, W]} on the generator's device."""
        for first in range(0, len(indices), self.batch):
            z, c = zip(*(self._pair(index) for index in indices[first : first + self.batch]), strict=True)
            yield self._drawn(np.stack(z), np.stack(c))

    @torch.no_grad()
    def groups(self, indices: Sequence[int], size: int) -> Iterator[Images]:
        """Groups by number: `size` pairs each, of as many latents at one condition."""
        for index in indices:
            rng = stream(self.seed, "drawn-group", index)
            z = rng.standard_normal((size, self.generator.z_dim), dtype=np.float32)
            c = self.features[rng.integers(len(self.features))]
            yield self._drawn(z, np.broadcast_to(c, (size, len(c))).copy())

    @torch.no_grad()
    def path(self, indices: Sequence[int], epsilon: float) -> Iterator[Images]:
        """Points of the space of styles by number, each with its neighbour `epsilon` of the way to another one of the
        same condition behind it: {spectrum: float32 [2 N, C, H, W]} from 0 to 255, not rounded (Karras et al. 2019)."""
        mapping = self.generator.mapping
        for first in range(0, len(indices), max(1, self.batch // 2)):
            some = indices[first : first + max(1, self.batch // 2)]
            streams = [stream(self.seed, "drawn-path", index) for index in some]
            z = np.stack([rng.standard_normal((2, self.generator.z_dim), dtype=np.float32) for rng in streams])
            c = self._tensor(np.stack([self.features[rng.integers(len(self.features))] for rng in streams]))
            here, there = (mapping(self._tensor(z[:, end]), c, truncation_psi=self.truncation) for end in range(2))
            both = torch.stack([here, here.lerp(there, epsilon)], dim=1).flatten(0, 1)  # [2 N, num_ws, w_dim]
            pictures = self.generator.synthesis(both, noise_mode=self.noise_mode)
            yield {name: (images + 1) * 127.5 for name, images in pictures.items()}

    def _pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Latent [z_dim] and condition [c_dim] of a pair."""
        rng = stream(self.seed, "drawn-pair", index)
        z = rng.standard_normal(self.generator.z_dim, dtype=np.float32)
        return z, self.features[rng.integers(len(self.features))]

    def _drawn(self, z: np.ndarray, c: np.ndarray) -> Images:
        pictures = self.generator(
            self._tensor(z), self._tensor(c), truncation_psi=self.truncation, noise_mode=self.noise_mode
        )
        return {name: to_uint8(images) for name, images in pictures.items()}

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(next(self.generator.parameters()).device)
