"""Metrics of drawn pictures, as lines of metrics.jsonl, and as training asks for them after each snapshot."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dnnlib import console
from dnnlib.errors import UserError
from dnnlib.files import append_lines, keep_lines
from metrics.choices import METRICS_FILE
from metrics.observers import Observer
from metrics.pictures import GROUPS, Rows, Side
from metrics.real import RealPictures
from metrics.registry import Metric, Result, Setting
from metrics.rows import Seen, brought_together, collect, stats_of
from torch_utils import distributed
from torch_utils.backend import without_tf32

# ----------------------------------------------------------------------------
# Before any work.


def check_metrics(
    metrics: Sequence[Metric],
    real: Side,
    fake: Side | None,
    observers: Mapping[str, Observer],
    option: str = "--metrics",
) -> list[str]:
    """Warnings about numbers of pictures. Raises UserError where a metric cannot be had of what there is.

    fake: None: a network draws them, with conditions and all streams.
    """
    warnings = []
    assert real.number is not None
    for metric in metrics:
        family, there_are = metric.family, None if fake is None else fake.number
        num_fake = metric.num_fake(real.number, there_are)
        if there_are is not None and num_fake > there_are:
            whole = family.plain
            raise UserError(f"{option}: {metric.name}: there are {there_are} drawn pairs; {whole} measures all of them")
        if num_fake < family.least or (family.real and real.number < family.least):
            count = f"{real.number} real and {num_fake} drawn"
            raise UserError(f"{option}: {metric.name}: {count} pictures; {family.least} of each are the least")
        if family.both and len(real.spectra) < 2:
            raise UserError(
                f"{option}: {metric.name}: compares the two spectra of a pair, and {real.spectra[0]} is alone"
            )
        streams = {observers[kind].stream for kind in family.needs}
        if fake is not None and (family.conditions or not streams <= fake.streams.keys()):
            raise UserError(f"{option}: {metric.name}: asks a network, and pictures are no network; use --gen-model")
        if GROUPS in streams:
            _check_groups(f"{option}: {metric.name}", real, fake, num_fake)
        if min(num_fake, real.number) < family.fewest:
            warnings.append(
                f"{metric.name}: {real.number} real and {num_fake} drawn pictures, under {family.fewest}: the "
                "value is too high, and to be compared only with values of the same numbers"
            )
    return warnings


def refuse_conditions(metrics: Sequence[Metric], option: str = "--metrics") -> None:
    """Raises UserError for a metric that asks what a network was given, where it is given nothing."""
    for metric in metrics:
        if metric.family.conditions:
            raise UserError(
                f"{option}: {metric.name}: compares with the condition, and the network has none; leave it out"
            )


def _check_groups(where: str, real: Side, fake: Side | None, num_fake: int) -> None:
    """There must be people with several pictures."""
    for which, side, number in (("real", real, real.number), ("drawn", fake, num_fake)):
        if side is not None and not side.streams[GROUPS].items(number or 0):
            raise UserError(f"{where}: no {which} person has several pictures, which it compares")


# ----------------------------------------------------------------------------
# The measuring.


def measure(
    metrics: Sequence[Metric], real: RealPictures, fake: Side, seed: int, device: torch.device | str = "cpu"
) -> Iterator[list[dict[str, Any]]]:
    """The lines of each metric, one a spectrum and figure, with all that is needed to repeat it; in every process the
    same.

    Each picture is drawn once and shown to every detector. `seconds` are those of a metric's own computation and of
    the looking, which all metrics share. seed: of the drawn pictures, and of what a metric chooses among them.
    """
    began = time.perf_counter()
    numbers = {metric.name: metric.num_fake(real.number, fake.number) for metric in metrics}
    looked = _look(metrics, fake, real.observers, numbers)
    whole = {kind: brought_together(looked[kind]) for kind in _kinds(metrics, statistics=False)}
    shared, setting = time.perf_counter() - began, Setting(seed, torch.device(device))
    for metric in metrics:
        began, family, number = time.perf_counter(), metric.family, numbers[metric.name]
        theirs = _drawn(metric, fake, looked, whole, real.observers, number)
        ours = _real(metric, real)
        results = distributed.from_rank_zero(partial(family.compute, ours, theirs, setting))
        seconds = round(shared + time.perf_counter() - began, 3)
        yield [_line(metric, result, real, number, seed, seconds) for result in results]


def _kinds(metrics: Sequence[Metric], statistics: bool) -> list[str]:
    """Kinds of observers whose statistics, or else rows, are needed."""
    return sorted({kind for one in metrics if one.family.statistics == statistics for kind in one.family.needs})


def _look(
    metrics: Sequence[Metric], fake: Side, observers: Mapping[str, Observer], numbers: Mapping[str, int]
) -> dict[str, Rows]:
    """This process's rows of the drawn pictures, by kind: one pass over each stream."""
    most = {kind: max(numbers[one.name] for one in metrics if kind in one.family.needs) for kind in _all_kinds(metrics)}
    found: dict[str, Rows] = {}
    for stream in dict.fromkeys(observers[kind].stream for kind in most):
        own = [observers[kind] for kind in most if observers[kind].stream == stream]
        number = max(most[observer.kind] for observer in own)
        found |= collect(fake.streams[stream].batches(number), own)
    return found


def _all_kinds(metrics: Sequence[Metric]) -> list[str]:
    return sorted({kind for metric in metrics for kind in metric.family.needs})


def _drawn(
    metric: Metric,
    fake: Side,
    looked: Mapping[str, Rows],
    whole: Mapping[str, Rows],
    observers: Mapping[str, Observer],
    number: int,
) -> Seen:
    if metric.family.statistics:
        return Seen(number, stats={kind: stats_of(looked[kind], number, fake.spectra) for kind in metric.family.needs})
    rows = {
        kind: {name: values[: fake.streams[observers[kind].stream].items(number)] for name, values in found.items()}
        for kind, found in whole.items()
        if kind in metric.family.needs
    }
    return Seen(number, rows=rows, labels=fake.labels(number) if distributed.rank() == 0 else {})


def _real(metric: Metric, real: RealPictures) -> Seen:
    family = metric.family
    if not family.real:
        return Seen(real.number)
    needs = family.needs
    return real.seen(needs if family.statistics else (), () if family.statistics else needs, not family.statistics)


def looked_with(metric: Metric, observers: Mapping[str, Observer]) -> dict[str, str]:
    """What a line says of the detectors of a metric."""
    own = [observers[kind] for kind in metric.family.needs]
    return {
        "detector": _joined(observer.name for observer in own),
        "detector_sha256": _joined(observer.sha256 for observer in own),
        "resize": _joined(observer.resize for observer in own),
    }


def _joined(words: Iterable[str]) -> str:
    return "+".join(word for word in words if word)


def _line(
    metric: Metric, result: Result, real: RealPictures, num_fake: int, seed: int, seconds: float
) -> dict[str, Any]:
    assert result.part in metric.family.parts, f"{metric.name} names no part {result.part!r}"
    return {
        "metric": metric.name_of(result.part),
        "spectrum": result.spectrum,
        "value": result.value,
        **({} if result.sd is None else {"sd": result.sd}),
        "num_real": real.number,
        "num_fake": num_fake,
        **looked_with(metric, real.observers),
        "seed": seed,
        "seconds": seconds,
    }


# ----------------------------------------------------------------------------
# While a network trains.


def geometric_mean(values: Sequence[float]) -> float:
    """One figure for several spectra, in which a tenth less counts the same in each.

    A sum would not do: features of infrared pictures under a model of visible light spread little, and so their
    distances are a thirtieth of the others'. What is below 0 counts as 0.
    """
    return math.prod(max(value, 0.0) for value in values) ** (1 / len(values))


@dataclass
class SnapshotMetrics:
    """Measures each network snapshot of a training run (training_loop.SnapshotCallback), in whole float32 as
    calc_metrics.py does: what is kept of real pictures serves both.

    fake_of: a network snapshot's path -> its drawn pictures. run_dir: gets metrics.jsonl.
    """

    metrics: Sequence[Metric]
    real: RealPictures
    fake_of: Callable[[Path], Side]
    run_dir: Path
    seed: int
    device: torch.device

    @without_tf32()
    def prepare(self) -> None:
        """Looks at the real pictures: what cannot be had is better known now than at the first snapshot."""
        for metric in self.metrics:
            _real(metric, self.real)

    @without_tf32()
    def __call__(self, snapshot: Path, images_seen: int) -> dict[str, float]:
        """Values by name: `metric/spectrum` for each, and `metric` for all spectra together. Every process calls."""
        values: dict[str, float] = {}
        by_metric: dict[str, list[float]] = {}
        seen = {"snapshot": snapshot.name, "images_seen": images_seen}
        for lines in measure(self.metrics, self.real, self.fake_of(snapshot), self.seed, self.device):
            for line in lines:
                values[f"{line['metric']}/{line['spectrum']}"] = line["value"]
                by_metric.setdefault(line["metric"], []).append(line["value"])
            if distributed.rank() == 0:
                append_lines(self.run_dir / METRICS_FILE, [{**line, **seen} for line in lines])
        values |= {name: geometric_mean(several) for name, several in by_metric.items()}
        if distributed.rank() == 0:
            console.tell("  ".join(f"{name} {value:.4g}" for name, value in values.items()))
        return values

    def forget_later(self, images_seen: int) -> None:
        """Drops the lines behind the state that training goes on from: they come again. Those of calc_metrics.py, which
        writes beside the network too, stay."""
        if distributed.rank() == 0:
            keep_lines(self.run_dir / METRICS_FILE, lambda line: line.get("images_seen", 0) <= images_seen)

    @property
    def best_by(self) -> tuple[str, bool] | None:
        """The value that decides about the best network, and whether higher is better: the first metric's."""
        first = self.metrics[0] if self.metrics else None
        return None if first is None else (first.figures[0], first.family.higher_is_better)
