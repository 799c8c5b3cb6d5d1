"""Pictures on disk as a side of a comparison."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from dnnlib.errors import UserError, option_named
from dnnlib.files import sha256_bytes
from dnnlib.progress import progress
from metrics.pictures import GROUP, GROUPS, PAIRS, Pictures, Side, Stream
from torch_utils import distributed
from torch_utils.image_tree import PairedTree, content_digest
from torch_utils.picture_source import StoredPictures, TreePictures
from torch_utils.readers import lost_reader_named, made_in_order
from torch_utils.spectra import SPECTRA
from torch_utils.streams import stream

Sources = Mapping[str, StoredPictures]  # spectrum -> its pictures; those of all in one order


def inspect(sources: Sources, workers: int, option: str = "--data") -> tuple[int, str]:
    """(side in pixels, content digest) of pictures that are to be measured. Reads and decodes each.

    Raises UserError, starting with `option`, for one that is broken, not square, or of another size than the first.
    """
    return lost_reader_named(partial(_inspected, sources, workers, option))


def _inspected(sources: Sources, workers: int, option: str) -> tuple[int, str]:
    first = next(iter(sources.values()))
    hashes, side = [], 0
    with contextlib.closing(made_in_order(partial(_facts, sources, option), len(first), workers, prefetch=8)) as made:
        for index, found in enumerate(progress(made, desc="check", total=len(first), unit="pair")):
            for spectrum, (height, width, digest) in found.items():
                side = side or height
                if (height, width) != (side, side):
                    where = f"{option}: {SPECTRA[spectrum].folder}/{sources[spectrum].names[index]}"
                    raise UserError(f"{where}: {width}x{height}, but the first picture is {side}x{side}; all must be")
                hashes.append((f"{SPECTRA[spectrum].folder}/{sources[spectrum].names[index]}", digest))
    return side, content_digest(hashes)


def tree_sources(tree: PairedTree) -> Sources:
    """The pictures of a tree of pairs."""
    return {name: TreePictures(one, name, by_folder=False) for name, one in tree.trees.items()}


def _facts(sources: Sources, option: str, index: int) -> dict[str, tuple[int, int, str]]:
    """(height, width, SHA-256) of picture `index` in each spectrum."""
    found = {}
    for spectrum, source in sources.items():
        with option_named(option, source.names[index]):
            height, width = source.decode(index).shape[:2]
            found[spectrum] = height, width, sha256_bytes(source.read(index))
    return found


def folder_side(
    sources: Sources, batch: int, workers: int = 0, seed: int | None = None, digest: str | None = None
) -> Side:
    """Pictures on disk, in their order, or with a seed shuffled: then the first few stand for all of them.

    Groups are the pictures of one person, GROUP at most; a person with one picture is none.
    """
    names = next(iter(sources.values())).names
    order = np.arange(len(names)) if seed is None else stream(seed, "measured-order").permutation(len(names))
    identities = np.array(next(iter(sources.values())).identities)[order]
    groups = [order[rows] for rows in _groups(identities)]
    few = partial(_few, groups, len(names))
    pairs = [order[first : first + 1] for first in range(len(names))]
    return Side(
        spectra=tuple(sources),
        number=len(names),
        streams={
            PAIRS: Stream(lambda number: _batches(sources, _joined(_own(pairs[:number]), batch), workers)),
            GROUPS: Stream(lambda number: _batches(sources, _own(groups[: few(number)]), workers), few),
        },
        labels=lambda number: {"identities": identities[:number]},
        digest=digest,
    )


def _groups(identities: NDArray[np.str_]) -> list[np.ndarray]:
    """Rows of each person who has several pictures, in the order of first appearance."""
    rows: dict[str, list[int]] = {}
    for row, identity in enumerate(identities):
        rows.setdefault(identity, []).append(row)
    return [np.array(own[:GROUP]) for own in rows.values() if len(own) > 1]


def _few(groups: Sequence[np.ndarray], all_pairs: int, number: int) -> int:
    """How many groups stand for `number` pictures."""
    return len(groups) if number >= all_pairs else min(len(groups), max(1, number // GROUP))


def _own(items: Sequence[np.ndarray]) -> list[np.ndarray]:
    return list(items[distributed.rank() :: distributed.world_size()])


def _joined(items: Sequence[np.ndarray], batch: int) -> list[np.ndarray]:
    return [np.concatenate(items[first : first + batch]) for first in range(0, len(items), batch)]


def _batches(sources: Sources, indices: Sequence[np.ndarray], workers: int) -> Iterable[Pictures]:
    make = partial(_batch, sources, indices)
    with contextlib.closing(made_in_order(make, len(indices), workers)) as made:
        yield from made


def _batch(sources: Sources, indices: Sequence[np.ndarray], number: int) -> Pictures:
    return {spectrum: _stacked(source, indices[number]) for spectrum, source in sources.items()}


def _stacked(source: StoredPictures, indices: np.ndarray) -> torch.Tensor:
    pictures = np.stack([source.decode(int(index)) for index in indices])  # [N, H, W, C]
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
