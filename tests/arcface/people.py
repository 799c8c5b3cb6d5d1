"""People for tests of recognition training, pictures that are made when they are asked for; and a network for them."""

from collections.abc import Sequence

import numpy as np
import torch

from arcface.recognition_data import PictureSet, TrainingPictures
from torch_utils.spectra import SPECTRA


class NoisyPeople:
    """A PictureSource of blurry random people: a fixed picture each, with noise; the noise is the sample."""

    def __init__(self, spectrum: str, count: int = 4, samples: int = 4, size: int = 32) -> None:
        self.spectrum = spectrum
        self.names = [f"{person}_{sample}.png" for person in range(count) for sample in range(samples)]
        self.identities = [str(person) for person in range(count) for _ in range(samples)]
        generator = torch.Generator().manual_seed(len(spectrum) + SPECTRA[spectrum].channels)
        base = torch.rand(count, SPECTRA[spectrum].channels, 4, 4, generator=generator)
        base = torch.nn.functional.interpolate(base, size, mode="bilinear").repeat_interleave(samples, dim=0)
        noise = 0.05 * torch.randn(base.shape, generator=generator)
        self.images = ((base + noise).clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()  # [N, S, S, C]

    def decode(self, index: int) -> np.ndarray:
        return self.images[index]

    def __len__(self) -> int:
        return len(self.names)


def people(spectra: Sequence[str] = ("vis", "nir"), count: int = 4, size: int = 32) -> TrainingPictures:
    sources = tuple(NoisyPeople(spectrum, count, size=size) for spectrum in spectra)
    return TrainingPictures([PictureSet("PEOPLE", "--data", sources, tuple(map(str, range(count))))])


def settled(backbone: torch.nn.Module, size: int = 32) -> torch.nn.Module:
    """The network with moments of normalisation as training leaves them: its features have a length of about 10 then,
    where those of a new network are smaller than the tolerance of any test."""
    with torch.no_grad():
        for _ in range(30):
            backbone.train()(torch.randn(16, 3, size, size, generator=torch.Generator().manual_seed(0)))
    return backbone.eval()
