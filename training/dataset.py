"""Pairs and their identity features for training, in an order that depends on nothing but the seed."""

from collections.abc import Generator, Iterable, Iterator

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from torch_utils.feature_file import FeatureSet
from torch_utils.image_tree import PairedTree
from torch_utils.readers import Loader, loader_options
from torch_utils.spectra import SPECTRA
from torch_utils.streams import stream

Batch = tuple[dict[str, torch.Tensor], torch.Tensor]  # {spectrum: uint8 [N, C, H, W]}, features float32 [N, C]


class PairedFaces(Dataset):
    """Pairs of a tree with the feature of each.

    mirror: every pair appears once more, flipped left to right, with the same feature. subset: only that many pairs,
    drawn by the seed; None is all.
    """

    def __init__(
        self, tree: PairedTree, features: FeatureSet, mirror: bool = False, subset: int | None = None, seed: int = 0
    ) -> None:
        self.tree, self.mirror = tree, mirror
        key = features.identities if features.mode == "one" else features.names
        row_of = {name: row for row, name in enumerate(key)}
        wanted = tree.identities if features.mode == "one" else tree.names
        chosen: np.ndarray = np.arange(len(tree))
        if subset is not None and subset < len(tree):
            chosen = np.sort(stream(seed, "training-subset").permutation(len(tree))[:subset])
        self.names = [tree.names[index] for index in chosen]
        self.features = features.features[[row_of[wanted[index]] for index in chosen]]  # float32 [N, C]

    def __len__(self) -> int:
        return len(self.names) * (2 if self.mirror else 1)

    def __getitem__(self, index: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        row, flipped = index % len(self.names), index >= len(self.names)
        images = {}
        for name in SPECTRA:
            pixels = self.tree.decode(name, self.names[row])  # [H, W, C]
            pixels = pixels[:, ::-1] if flipped else pixels
            images[name] = torch.from_numpy(pixels.transpose(2, 0, 1).copy())  # [C, H, W]
        return images, self.feature(index)

    def feature(self, index: int) -> torch.Tensor:
        """The feature of item `index` alone, float32 [C]; no picture is read."""
        return torch.from_numpy(self.features[index % len(self.names)])


class EndlessSampler(Sampler[int]):
    """Indices of this process without end: epoch after epoch, each in an order of its own.

    Position k of all processes together is element k of the concatenated epochs, so training goes on at any position
    and with any number of processes without a state to save.
    """

    def __init__(self, size: int, seed: int, rank: int = 0, world_size: int = 1, start: int = 0) -> None:
        self.size, self.seed, self.rank, self.world_size, self.start = size, seed, rank, world_size, start

    def __iter__(self) -> Iterator[int]:
        order: np.ndarray = np.empty(0, dtype=np.int64)
        position, epoch = self.start + self.rank, -1
        while True:
            if position // self.size != epoch:
                epoch = position // self.size
                order = stream(self.seed, "training-order", epoch).permutation(self.size)
            yield int(order[position % self.size])
            position += self.world_size


def endless_batches(
    dataset: PairedFaces, batch: int, seed: int, rank: int, world_size: int, start: int, workers: int
) -> Generator[Batch, None, None]:
    """Batches of this process, `batch` pairs each, from position `start` on; read by `workers` processes (0: none).

    Closing the generator ends the workers.
    """
    yield from _loader(dataset, batch, EndlessSampler(len(dataset), seed, rank, world_size, start), workers)


def _loader(dataset: PairedFaces, batch: int, sampler: Iterable[int], workers: int) -> Loader:
    options = loader_options(workers, prefetch=2)
    return Loader(dataset, batch, sampler=sampler, persistent_workers=workers > 0, **options)
