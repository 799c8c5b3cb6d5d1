"""Metrics of drawn pictures, as lines of metrics.jsonl, and as training asks for them after each snapshot."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dnnlib.errors import UserError
from dnnlib.files import append_line, keep_lines
from metrics.real import RealPictures
from metrics.registry import FEWEST_PICTURES, Fakes, Metric
from torch_utils import distributed

METRICS_FILE = "metrics.jsonl"


def check_metrics(metrics: Sequence[Metric], num_real: int, option: str = "--metrics") -> list[str]:
    """Warnings about numbers of pictures. Raises UserError where a metric cannot be had of that many real ones."""
    warnings = []
    for metric in metrics:
        num_fake = metric.num_fake(num_real)
        if min(num_real, num_fake) < 2:
            raise UserError(f"{option}: {metric.name}: {num_real} real picture has no statistics; two are the least")
        if min(num_real, num_fake) < FEWEST_PICTURES:
            warnings.append(
                f"Warning: {metric.name}: {num_real} real and {num_fake} drawn pictures, under {FEWEST_PICTURES}: the "
                "value is too high, and to be compared only with values of the same numbers"
            )
    return warnings


def measure(metrics: Sequence[Metric], real: RealPictures, fakes: Fakes, seed: int) -> Iterator[dict[str, Any]]:
    """A line for each metric and spectrum, with all that is needed to repeat it, the same in every process.

    fakes: see registry.Fakes. seed: of the drawn pictures.
    """
    for metric in metrics:
        began = time.perf_counter()
        num_fake = metric.num_fake(real.number)
        own = metric.family.compute(real, fakes, num_fake)
        parts = torch.tensor(list(own.values()), dtype=torch.float64)
        values = distributed.all_reduce_sum(parts).tolist()
        seconds = time.perf_counter() - began
        for spectrum, value in zip(own, values, strict=True):
            yield {
                "metric": metric.name,
                "spectrum": spectrum,
                "value": value,
                "num_real": real.number,
                "num_fake": num_fake,
                "detector": real.detector.name,
                "detector_sha256": real.detector.sha256,
                "resize": real.detector.resize,
                "seed": seed,
                "seconds": round(seconds, 3),
            }


def geometric_mean(values: Sequence[float]) -> float:
    """One figure for several spectra, in which a tenth less counts the same in each.

    A sum would not do: features of infrared pictures under a model of visible light spread little, and so their
    distances are a thirtieth of the others'. What is below 0 counts as 0.
    """
    return math.prod(max(value, 0.0) for value in values) ** (1 / len(values))


@dataclass
class SnapshotMetrics:
    """Measures each network snapshot of a training run (training_loop.SnapshotCallback).

    fakes_of: a network snapshot's path -> its drawn pictures. run_dir: gets metrics.jsonl.
    """

    metrics: Sequence[Metric]
    real: RealPictures
    fakes_of: Callable[[Path], Fakes]
    run_dir: Path
    seed: int

    def __call__(self, snapshot: Path, images_seen: int) -> dict[str, float]:
        """Values by name: `metric/spectrum` for each, and `metric` for all spectra together. Every process calls."""
        values: dict[str, float] = {}
        by_metric: dict[str, list[float]] = {metric.name: [] for metric in self.metrics}
        for line in measure(self.metrics, self.real, self.fakes_of(snapshot), self.seed):
            values[f"{line['metric']}/{line['spectrum']}"] = line["value"]
            by_metric[line["metric"]].append(line["value"])
            if distributed.rank() == 0:
                seen = {"snapshot": snapshot.name, "images_seen": images_seen}
                append_line(self.run_dir / METRICS_FILE, {**line, **seen})
        values |= {name: geometric_mean(several) for name, several in by_metric.items()}
        if distributed.rank() == 0:
            tqdm.write("  ".join(f"{name} {value:.4g}" for name, value in values.items()))
        return values

    def forget_later(self, images_seen: int) -> None:
        """Drops the lines behind the state that training goes on from: they come again."""
        if distributed.rank() == 0:
            keep_lines(self.run_dir / METRICS_FILE, lambda line: line["images_seen"] <= images_seen)

    @property
    def best_by(self) -> tuple[str, bool] | None:
        """The value that decides about the best network, and whether higher is better: the first metric's."""
        return (self.metrics[0].name, self.metrics[0].family.higher_is_better) if self.metrics else None
