"""What looks at the pictures: a feature extractor as a function, with what a result must say about it."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from metrics.feature_stats import FeatureStats

Pictures = Mapping[str, torch.Tensor]  # spectrum -> uint8 [N, C, H, W], C 3 or 1


class Detector(NamedTuple):
    """A feature extractor.

    kind: what metrics ask for ('arcface'). name: its architecture. sha256: of its weights, or the fingerprint that
    stands for it. resize: the protocol by which pictures are brought to its size. dim: numbers in a feature.
    features: uint8 [N, C, H, W], C 1 or 3 -> float [N, dim].
    """

    kind: str
    name: str
    sha256: str
    resize: str
    dim: int
    features: Callable[[torch.Tensor], np.ndarray]


def stats_of(pairs: Iterable[Pictures], detector: Detector, spectra: Iterable[str]) -> dict[str, FeatureStats]:
    """Statistics of the features of each spectrum's pictures, each of them read once."""
    stats = {spectrum: FeatureStats.empty(detector.dim) for spectrum in spectra}
    for pictures in pairs:
        for spectrum, found in stats.items():
            found.append(detector.features(pictures[spectrum]))
    return stats
