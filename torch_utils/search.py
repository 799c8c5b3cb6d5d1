"""Exact nearest neighbours among rows of length one, by cosine, in blocks.

A score is a float32 matrix product, which decides nothing: it only says which rows may be the nearest. Whatever comes
within the rounding error of the best is scored again, product by product in float64 and summed in one fixed order, and
of equal ones the first counts. So similarity and index depend on the two rows alone, not on tiles, threads or device.

Memory: a tile of scores and one of rows, whatever the number of probes and of rows. Tiles are small enough that the
scores are still in the processor's cache when their maximum is taken, and only probes whose maximum could change are
looked at again, so that nearly all the time goes into the product.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Rows = NDArray[np.float32]

PROBES = {"cpu": 512, "cuda": 4096}  # probes of a tile
SCORES = {"cpu": 1 << 19, "cuda": 1 << 26}  # of a tile: 2 MiB stay in the cache; a GPU wants work
RESCORED = 1 << 22  # numbers that are multiplied in float64 at a time
LENGTH_TOLERANCE = 1e-3


class Gallery:
    """Rows of length one, kept on a device, to search in; rows can be added.

    size: numbers of a row. capacity: rows that there is room for from the start; more double the room.
    """

    def __init__(self, size: int, device: torch.device | str = "cpu", capacity: int = 0) -> None:
        self._store = torch.empty([capacity, size], device=device)
        self._count = 0

    @classmethod
    def of(cls, rows: Rows, device: torch.device | str = "cpu") -> Gallery:
        """A gallery of `rows` [M, D]; on the CPU it shares their memory."""
        gallery = cls(rows.shape[1], device)
        gallery._store = _checked(rows, device)
        gallery._count = len(rows)
        return gallery

    def __len__(self) -> int:
        return self._count

    @property
    def device(self) -> torch.device:
        return self._store.device

    @property
    def rows(self) -> Tensor:
        """float32 [M, D] on the device."""
        return self._store[: self._count]

    def append(self, rows: Rows) -> None:
        """Add rows [N, D] behind those that are there. Raises ValueError for rows that are not of length one."""
        added = _checked(rows, self.device)
        end = self._count + len(added)
        if end > len(self._store):
            store = torch.empty([max(end, 2 * len(self._store)), self._store.shape[1]], device=self.device)
            store[: self._count] = self.rows
            self._store = store
        self._store[self._count : end] = added
        self._count = end


def nearest(
    probes: Rows,
    gallery: Gallery | Rows,
    absolute: bool = False,
    exclude: ArrayLike | None = None,
    until: ArrayLike | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The gallery row most similar to each probe, exactly: (similarity [N], index [N]).

    probes [N, D], gallery [M, D]: rows of length one; what is searched more than once should be a Gallery. absolute:
    by the cosine's absolute value. exclude [N]: for each probe a row that does not count, -1 for none. until [N]: only
    the rows before this one count. With nothing to compare with, the similarity is -inf and the index -1. Raises
    ValueError for rows that are not of length one.
    """
    gallery = gallery if isinstance(gallery, Gallery) else Gallery.of(gallery)
    rows = gallery.rows
    similarity, index = np.full(len(probes), -np.inf), np.full(len(probes), -1, dtype=np.int64)
    limits = [None if limit is None else np.asarray(limit, dtype=np.int64) for limit in (exclude, until)]
    block = PROBES[rows.device.type]
    with full_float32():
        for start in range(0, len(probes) if len(rows) else 0, block):
            part = slice(start, start + block)
            placed = [None if limit is None else torch.from_numpy(limit[part]).to(rows.device) for limit in limits]
            best = _Best(_checked(probes[part], rows.device), len(rows), absolute, *placed)
            for first in range(0, len(rows), best.width):
                best.look_at(rows, first)
            similarity[part], index[part] = best.similarity.cpu().numpy(), best.index.cpu().numpy()
    return similarity, index


def over(rows: Rows, highest: float, absolute: bool = False, device: torch.device | str = "cpu") -> NDArray[np.bool_]:
    """[N, N], true at [i, j] where j < i and the two rows are more than `highest` similar. Memory: N times N."""
    placed = _checked(rows, device)
    with full_float32():
        scores = torch.tril(_scores(placed, placed, absolute), -1)
        above = torch.tril(scores > highest + slack(rows.shape[1]), -1)
        doubtful = torch.tril((scores - highest).abs() <= slack(rows.shape[1]), -1)
    for i, j in _in_parts(doubtful, rows.shape[1]):
        exact = _dot(placed[i], placed[j])
        above[i, j] = (exact.abs() if absolute else exact) > highest
    return above.cpu().numpy()


def cosines(first: Rows, second: Rows) -> NDArray[np.float64]:
    """The similarity that `nearest` gives, of rows [N, D] and rows [N, D] or one row [1, D], in pairs: [N]."""
    return _dot(_checked(first, "cpu"), _checked(second, "cpu")).numpy()


# ----------------------------------------------------------------------------
# One block of probes against one tile after another.


class _Best:
    """The nearest row so far of each probe of a block."""

    def __init__(
        self, probes: Tensor, count: int, absolute: bool, exclude: Tensor | None, until: Tensor | None
    ) -> None:
        """count: rows that there are to look at."""
        self.probes, self.absolute, self.exclude, self.until = probes, absolute, exclude, until
        self.width = max(1, min(count, SCORES[probes.device.type] // len(probes)))  # rows of a tile
        self.scores = probes.new_empty([len(probes), self.width])
        self.slack = slack(probes.shape[1])
        self.rough = probes.new_full([len(probes)], -torch.inf)  # highest float32 score
        self.similarity = torch.full([len(probes)], -torch.inf, dtype=torch.float64, device=probes.device)
        self.index = torch.full([len(probes)], -1, dtype=torch.int64, device=probes.device)

    def look_at(self, rows: Tensor, first: int) -> None:
        """Compare with rows [first, first + width)."""
        tile = rows[first : first + self.width]
        out = self.scores if len(tile) == self.width else None
        scores = self._without_excluded(_scores(self.probes, tile, self.absolute, out), first)  # [N, W]
        top = scores.amax(dim=1)  # [N]
        torch.maximum(self.rough, top, out=self.rough)
        floor = (self.rough - self.slack).clamp_(min=torch.finfo(torch.float32).min)  # -inf is no candidate
        changed = torch.nonzero(top >= floor).squeeze(1)  # [C] probes
        if not len(changed):
            return
        for probe, column in _in_parts(scores[changed] >= floor[changed, None], rows.shape[1]):
            self._score_again(changed[probe], column + first, rows)

    def _without_excluded(self, scores: Tensor, first: int) -> Tensor:
        if self.exclude is not None:
            here = torch.nonzero((self.exclude >= first) & (self.exclude < first + scores.shape[1])).squeeze(1)
            scores[here, self.exclude[here] - first] = -torch.inf
        if self.until is not None:
            columns = torch.arange(first, first + scores.shape[1], device=scores.device)
            scores.masked_fill_(columns >= self.until[:, None], -torch.inf)
        return scores

    def _score_again(self, probe: Tensor, row: Tensor, rows: Tensor) -> None:
        """Pairs [P] in the order of their rows: the first of the highest is kept."""
        exact = _dot(self.probes[probe], rows[row])  # [P]
        exact = exact.abs() if self.absolute else exact
        before = self.similarity.clone()
        self.similarity.scatter_reduce_(0, probe, exact, "amax")
        winners = torch.nonzero((exact == self.similarity[probe]) & (exact > before[probe])).squeeze(1)
        first = torch.full_like(self.index, len(rows)).scatter_reduce_(0, probe[winners], row[winners], "amin")
        self.index = torch.where(first < len(rows), first, self.index)


def slack(size: int) -> float:
    """How far a float32 score of the best row and one of another row can be out of order.

    A sum of D products in any order is wrong by at most D u / (1 - D u) times the sum of the products' absolute values,
    u = 2^-24, and that sum is at most the product of the lengths. Twice, for there are two scores.
    """
    error = size * 2.0**-24 / (1 - size * 2.0**-24) * (1 + LENGTH_TOLERANCE) ** 2
    return 2.01 * error + 1e-9


def _scores(probes: Tensor, rows: Tensor, absolute: bool, out: Tensor | None = None) -> Tensor:
    scores = torch.mm(probes, rows.T, out=out)
    return scores.abs_() if absolute else scores


def _in_parts(mask: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Row and column of what is true in `mask`, row by row, as many at a time as may be multiplied."""
    pairs = torch.nonzero(mask)  # [P, 2]
    for part in pairs.split(max(1, RESCORED // size)):
        yield part[:, 0], part[:, 1]


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """float64 [P] of float32 [P, D]: products, which are exact, summed by halves: one order on every device."""
    products = first.double() * second.double()  # [P, D]
    while products.shape[1] > 1:
        half = (products.shape[1] + 1) // 2
        rest = products.shape[1] - half
        products[:, :rest] += products[:, half:]
        products = products[:, :half]
    return products.squeeze(1)


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Inside the block a float32 product is one: no TF32 and no bfloat16, which would break the bound of `slack`."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _checked(rows: Rows, device: torch.device | str) -> Tensor:
    """The rows on the device. Raises ValueError where one is not of length one, as one with NaN is not."""
    plain = np.ascontiguousarray(rows, dtype=np.float32)
    tensor = torch.from_numpy(plain if plain.flags.writeable else plain.copy()).to(device)
    lengths = torch.linalg.vector_norm(tensor, dim=1)
    if not bool(((lengths - 1).abs() <= LENGTH_TOLERANCE).all()):
        raise ValueError("rows of length one are needed")
    return tensor
