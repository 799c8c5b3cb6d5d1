"""The real pictures that metrics compare with, their statistics kept between runs.

The key is all that the numbers depend on: the content of the pictures, the detector's weights, the resize protocol,
the spectrum (PAIN_POINTS row 6). A cached file that is broken or of another key is made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dnnlib.cache import cache_folder
from dnnlib.errors import UserError
from dnnlib.files import atomic_write_bytes, sha256_bytes
from metrics.detectors import Detector, Pictures, stats_of
from metrics.feature_stats import FeatureStats
from torch_utils import distributed
from torch_utils.spectra import SPECTRA

FORMAT = "arcbifacegan-feature-stats-1"


@dataclass
class RealPictures:
    """All pairs of a dataset, as one detector sees them.

    digest: the dataset's content digest. number: of pairs, over all processes. pairs: gives this process's share of
    them, in batches.
    """

    digest: str
    number: int
    pairs: Callable[[], Iterable[Pictures]]
    detector: Detector
    _stats: dict[str, FeatureStats] = field(default_factory=dict)

    def stats(self) -> dict[str, FeatureStats]:
        """Statistics by spectrum, the same in every process: from memory, from the cache, or from the pictures."""
        if not self._stats:
            first = distributed.rank() == 0
            paths = {spectrum: stats_path(self._key(spectrum)) for spectrum in SPECTRA}
            for spectrum, path in paths.items():
                cached = distributed.from_rank_zero(partial(load_stats, path, self._key(spectrum), self.number))
                if cached is not None:
                    self._stats[spectrum] = cached
                if first:
                    print(f"Statistics of real {spectrum} pictures: cache {'hit' if cached else 'miss'} ({path})")
            missing = [spectrum for spectrum in SPECTRA if spectrum not in self._stats]
            for spectrum, own in stats_of(self.pairs() if missing else (), self.detector, missing).items():
                self._stats[spectrum] = own.summed()
                if first:
                    _keep(paths[spectrum], self._key(spectrum), self._stats[spectrum])
        return self._stats

    def _key(self, spectrum: str) -> str:
        detector = self.detector
        parts = (FORMAT, self.digest, detector.kind, detector.sha256, detector.resize, spectrum)
        return json.dumps(parts)


# ----------------------------------------------------------------------------
# The files.


def stats_path(key: str) -> Path:
    """Where statistics of that key are kept."""
    return cache_folder("feature-stats", f"{sha256_bytes(key.encode())[:32]}.safetensors")


def _keep(path: Path, key: str, stats: FeatureStats) -> None:
    tensors = {"number": np.array([stats.number]), "mean": stats.mean, "scatter": stats.scatter}
    try:
        atomic_write_bytes(path, save(tensors, metadata={FORMAT: key}))
    except (UserError, OSError) as error:  # a cache that cannot be written costs time, not the run
        print(f"Statistics of real pictures are not kept: {error}")


def load_stats(path: Path, key: str, number: int) -> FeatureStats | None:
    """The cached statistics of `number` pictures; None where there is no sound file of that key."""
    try:
        with safe_open(str(path), framework="numpy") as file:
            if (file.metadata() or {}).get(FORMAT) != key:
                return None
            stats = FeatureStats(int(file.get_tensor("number")[0]), file.get_tensor("mean"), file.get_tensor("scatter"))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, IndexError):
        return None
    dim = len(stats.mean) if stats.mean.ndim == 1 else 0
    sound = stats.number == number and stats.scatter.shape == (dim, dim) and stats.scatter.dtype == np.float64
    sound = sound and bool(np.isfinite(stats.mean).all() and np.isfinite(stats.scatter).all())
    return stats if sound else None
