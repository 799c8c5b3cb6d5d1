"""The real pictures that metrics compare with; what detectors see of them is kept between runs.

The key is all that the numbers depend on: the content of the pictures, the detector's weights, the resize protocol,
the spectrum (PAIN_POINTS row 6), and of rows whose each picture is, in order, for a digest of content knows neither
order nor groups. A cached file that is broken or of another key is made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from dnnlib import console
from dnnlib.cache import cache_folder
from dnnlib.errors import UserError
from dnnlib.files import atomic_write_bytes, sha256_bytes
from metrics.feature_stats import FeatureStats
from metrics.observers import Observer
from metrics.pictures import Rows, Side
from metrics.rows import FEATURES, Seen, brought_together, collect
from torch_utils import distributed

STATS, ROWS = "arcbifacegan-feature-stats-1", "arcbifacegan-feature-rows-1"
T = TypeVar("T")


@dataclass
class RealPictures:
    """All pairs of a dataset, as several observers see them."""

    side: Side
    observers: Mapping[str, Observer]
    _stats: dict[str, dict[str, FeatureStats]] = field(default_factory=dict)
    _rows: dict[str, Rows] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """Of pairs."""
        assert self.side.number is not None, "real pictures are a folder or a zip"
        return self.side.number

    def seen(self, statistics: Sequence[str], rows: Sequence[str], labelled: bool) -> Seen:
        """What metrics ask for, by kind of observer; every process calls it. Rows and labels are in the first alone."""
        stats = {kind: self.stats(kind) for kind in statistics}
        found = {kind: self.rows(kind) for kind in rows}
        labels = self.side.labels(self.number) if labelled and distributed.rank() == 0 else {}
        return Seen(self.number, stats, found, labels)

    def stats(self, kind: str) -> dict[str, FeatureStats]:
        """Statistics by spectrum, the same in every process: from memory, from the cache, or from the pictures."""
        if kind not in self._stats:
            found = {
                spectrum: self._cached(STATS, kind, spectrum, partial(load_stats, number=self.number))
                for spectrum in self.side.spectra
            }
            missing = [spectrum for spectrum, stats in found.items() if stats is None]
            for spectrum, stats in self._stream_stats(self.observers[kind], missing).items():
                found[spectrum] = stats
                tensors = {"number": np.array([stats.number]), "mean": stats.mean, "scatter": stats.scatter}
                self._keep(STATS, kind, spectrum, tensors)
            self._stats[kind] = {spectrum: stats for spectrum, stats in found.items() if stats is not None}
        return self._stats[kind]

    def rows(self, kind: str) -> Rows:
        """Rows of all pictures in the first process, elsewhere nothing."""
        if kind not in self._rows:
            observer = self.observers[kind]
            found = self._cached(ROWS, kind, "", load_rows) if observer.sha256 else None
            if found is None:
                number = min(self.number, observer.most or self.number)
                own = collect(self.side.streams[observer.stream].batches(number), [observer])[kind]
                found = brought_together(own)
                if observer.sha256:
                    self._keep(ROWS, kind, "", found)
            self._rows[kind] = found
        return self._rows[kind]

    def _stream_stats(self, observer: Observer, spectra: Sequence[str]) -> dict[str, FeatureStats]:
        """Statistics without holding the features: pictures may be many, and the first process need not hold all."""
        seen: dict[str, FeatureStats] = {}
        for pictures in self.side.streams[observer.stream].batches(self.number) if spectra else ():
            rows = observer.observe({spectrum: pictures[spectrum] for spectrum in spectra})
            for spectrum in spectra:
                features = rows[f"{spectrum}/{FEATURES}"]
                seen.setdefault(spectrum, FeatureStats.empty(features.shape[1])).append(features)
        dims = distributed.gathered({spectrum: len(stats.mean) for spectrum, stats in seen.items()})
        return {
            spectrum: (seen.get(spectrum) or FeatureStats.empty(max(dim.get(spectrum, 0) for dim in dims))).summed()
            for spectrum in spectra
        }

    def _key(self, form: str, kind: str, spectrum: str) -> str:
        observer = self.observers[kind]
        facts = [form, self.side.digest, observer.kind, observer.sha256, observer.resize, spectrum]
        if form == ROWS:
            labels = {name: values.tolist() for name, values in self.side.labels(self.number).items()}
            facts.append(sha256_bytes(json.dumps(labels).encode()))
        return json.dumps(facts)

    def _cached(self, form: str, kind: str, spectrum: str, load: Callable[[Path, str], T | None]) -> T | None:
        """From the file, where there is a sound one; the first process reads it and says so."""
        key = self._key(form, kind, spectrum)
        path = cached_path(key)
        if form == STATS:
            found = distributed.from_rank_zero(partial(load, path, key))
            hit = found is not None
        else:  # rows are the first process's alone
            found = load(path, key) if distributed.rank() == 0 else None
            hit = distributed.from_rank_zero(lambda: found is not None)
            found = found if found is not None or not hit else {}  # type: ignore[assignment]
        if distributed.rank() == 0:
            what = f"{spectrum} pictures" if spectrum else "pairs"
            console.tell(f"Real {what} as {kind} sees them: cache {'hit' if hit else 'miss'} ({path})")
        return found

    def _keep(self, form: str, kind: str, spectrum: str, tensors: Rows) -> None:
        if distributed.rank() != 0:
            return
        key = self._key(form, kind, spectrum)
        whole = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
        try:
            atomic_write_bytes(cached_path(key), save(whole, metadata={form: key}))
        except (UserError, OSError) as error:  # a cache that cannot be written costs time, not the run
            console.warn(f"what {kind} sees of real pictures is not kept: {error}")


# ----------------------------------------------------------------------------
# The files.


def cached_path(key: str) -> Path:
    """Where what belongs to that key is kept."""
    return cache_folder("feature-stats", f"{sha256_bytes(key.encode())[:32]}.safetensors")


def load_stats(path: Path, key: str, number: int) -> FeatureStats | None:
    """The cached statistics of `number` pictures; None where there is no sound file of that key."""
    found = _load(path, STATS, key)
    try:
        stats = FeatureStats(int(found["number"][0]), found["mean"], found["scatter"])
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    dim = len(stats.mean) if stats.mean.ndim == 1 else 0
    sound = stats.number == number and stats.scatter.shape == (dim, dim) and stats.scatter.dtype == np.float64
    sound = sound and bool(np.isfinite(stats.mean).all() and np.isfinite(stats.scatter).all())
    return stats if sound else None


def load_rows(path: Path, key: str) -> Rows | None:
    """The cached rows; None where there is no sound file of that key."""
    found = _load(path, ROWS, key)
    return found if found and all(bool(np.isfinite(rows).all()) for rows in found.values()) else None


def _load(path: Path, form: str, key: str) -> Rows:
    try:
        with safe_open(str(path), framework="numpy") as file:
            sound = (file.metadata() or {}).get(form) == key
        return load_file(path) if sound else {}
    except (SafetensorError, OSError, TypeError, ValueError):
        return {}
