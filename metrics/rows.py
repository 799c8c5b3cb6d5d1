"""Rows of all pictures of a side: collected batch by batch by each process, and brought together in the first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from metrics.feature_stats import FeatureStats
from metrics.observers import Observer
from metrics.pictures import Pictures, Rows
from torch_utils import distributed
from torch_utils.spectra import SPECTRA

FEATURES = "features"


@dataclass(frozen=True)
class Seen:
    """What a metric gets of one side, in the first process.

    number: of pictures. stats: by kind of detector and spectrum. rows: by kind. labels: see pictures.Side.
    """

    number: int
    stats: Mapping[str, Mapping[str, FeatureStats]] = field(default_factory=dict)
    rows: Mapping[str, Rows] = field(default_factory=dict)
    labels: Rows = field(default_factory=dict)

    def by_spectrum(self, kind: str, name: str = FEATURES) -> dict[str, np.ndarray]:
        """A detector's rows [N, ...] of that name, of each spectrum that there is."""
        rows = {spectrum: self.rows[kind].get(f"{spectrum}/{name}") for spectrum in SPECTRA}
        return {spectrum: found for spectrum, found in rows.items() if found is not None}


def collect(batches: Iterable[Pictures], observers: Sequence[Observer]) -> dict[str, Rows]:
    """Rows of this process's share by the observers' kind, each batch drawn once."""
    parts: dict[str, dict[str, list[np.ndarray]]] = {observer.kind: {} for observer in observers}
    wanted = {observer.kind: None if observer.most is None else share_of(observer.most) for observer in observers}
    for pictures in batches:
        for observer in observers:
            own, most = parts[observer.kind], wanted[observer.kind]
            if most is not None and own and all(sum(map(len, rows)) >= most for rows in own.values()):
                continue
            for name, rows in observer.observe(pictures).items():
                own.setdefault(name, []).append(np.asarray(rows))
    return {
        kind: {name: np.concatenate(rows)[: wanted[kind]] for name, rows in own.items()} for kind, own in parts.items()
    }


def share_of(number: int) -> int:
    """How many of the first `number` items are this process's."""
    return max(0, -(-(number - distributed.rank()) // distributed.world_size()))


def stats_of(rows: Rows, number: int, spectra: Sequence[str]) -> dict[str, FeatureStats]:
    """Statistics of the first `number` pictures' features by spectrum, of all processes together."""
    found = {}
    for spectrum in spectra:
        own = rows.get(f"{spectrum}/{FEATURES}")
        dim = max(distributed.gathered(0 if own is None else own.shape[1]))
        seen = FeatureStats.empty(dim)
        if own is not None:
            for part in np.array_split(own[: share_of(number)], max(1, len(own) // 4096)):
                seen.append(part)
        found[spectrum] = seen.summed()
    return found


def brought_together(rows: Rows) -> Rows:
    """All processes' rows in the order of the pictures, in the first process; nothing in the others."""
    shares = distributed.gathered_at_first(rows)
    if len(shares) < 2:
        return shares[0] if shares else {}
    whole: Rows = {}
    for name in shares[0]:
        several = [share[name] for share in shares if name in share]  # one without any picture has no rows
        whole[name] = np.empty((sum(map(len, several)), *several[0].shape[1:]), dtype=several[0].dtype)
        for place, own in enumerate(several):
            whole[name][place :: len(shares)] = own
    return whole
