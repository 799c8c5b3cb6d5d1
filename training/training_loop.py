"""The training loop: batches, iterations, ticks, snapshots."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dnnlib import console
from dnnlib.files import append_line, full_disk_named, keep_lines
from dnnlib.progress import progress
from torch_utils import distributed
from torch_utils.backend import full_memory_named
from torch_utils.images import from_uint8
from torch_utils.streams import stream
from torch_utils.training_stats import Moments
from training import monitor
from training.dataset import PairedFaces, endless_batches
from training.run_folder import GRID, NETWORK, STATE, STATS_FILE, copy_best, offer_best, prune, stamp
from training.snapshots import grid_shape, save_generator, save_grids, save_state
from training.trainer import Trainer

DRAW_BATCH = 16
SnapshotCallback = Callable[[Path, int], dict[str, float]]  # (network snapshot, images seen) -> {metric: value}


def _never() -> bool:
    return False


def train(
    trainer: Trainer,
    dataset: PairedFaces,
    run_dir: Path,
    metadata: dict[str, Any],
    on_snapshot: SnapshotCallback | None = None,
    best_by: tuple[str, bool] | None = None,
    stop: Callable[[], bool] = _never,
) -> bool:
    """Trains until its configuration's total_kimg, writing into `run_dir` (rank 0). Returns whether it got there.

    metadata: what the generators' headers say of their conditions. on_snapshot: called by every process after each
    network snapshot, returns metrics by name. best_by: which of them chooses best-network.safetensors, and whether
    higher is better. stop: called by every process after each iteration, with the same answer; when it says so,
    everything is saved and training ends early, without metrics, because there may be little time.
    """
    config = trainer.config
    world, rank = distributed.world_size(), distributed.rank()
    loading = endless_batches(
        dataset, config.batch // world, config.seed, rank, world, trainer.images_seen, config.workers
    )
    conditions = torch.from_numpy(dataset.features).to(trainer.device)
    total, tick_images = int(config.total_kimg * 1000), max(int(config.kimg_per_tick * 1000), 1)

    bar: tqdm = progress(desc="train", total=total, unit="img", initial=trainer.images_seen, show=rank == 0)
    with (
        full_disk_named(run_dir),
        full_memory_named("--batch-gpu", "fewer pairs at once need less, and --dry-run estimates how much"),
        contextlib.closing(Recorder(trainer, dataset, run_dir, metadata)) as recorder,
        contextlib.closing(loading) as batches,
        bar,
    ):
        while trainer.images_seen < total:
            began, tick, leaving = time.perf_counter(), trainer.images_seen // tick_images, False
            while trainer.images_seen < total and trainer.images_seen // tick_images == tick and not leaving:
                trainer.step(next(batches), conditions)
                bar.update(config.batch)
                leaving = stop()
            trainer.seconds += time.perf_counter() - began
            recorder.tick()
            if trainer.images_seen >= total or leaving or (tick + 1) % config.snapshot_ticks == 0:
                snapshot = recorder.save()
                if on_snapshot is not None and not leaving:
                    recorder.note_metrics(snapshot, on_snapshot(snapshot, trainer.images_seen), best_by)
            if leaving and trainer.images_seen < total:
                return False
    return True


class Recorder:
    """Writes what a run leaves behind: stats.jsonl, TensorBoard events, grids, snapshots, states (rank 0 alone)."""

    def __init__(self, trainer: Trainer, dataset: PairedFaces, run_dir: Path, metadata: dict[str, Any]) -> None:
        self.trainer, self.run_dir, self.metadata = trainer, run_dir, metadata
        self.writes = distributed.rank() == 0
        self.seconds, self.images = trainer.seconds, trainer.images_seen
        self.columns, rows = grid_shape(trainer.config.resolution)
        rng = stream(trainer.config.seed, "grid")
        chosen = rng.integers(len(dataset), size=self.columns * rows).tolist()
        self.z = torch.from_numpy(rng.standard_normal([len(chosen), trainer.generator.z_dim], dtype="float32"))
        self.c = torch.stack([dataset.feature(index) for index in chosen])
        if self.writes:
            # The ticks behind the state that training goes on from come again.
            limit = trainer.images_seen + 0.5
            keep_lines(run_dir / STATS_FILE, lambda line: line["progress/kimg"] * 1000 <= limit)
            copy_best(run_dir)
            from torch.utils.tensorboard import SummaryWriter  # takes a second to import

            self.board = SummaryWriter(str(run_dir))
            self.watch = monitor.DiversityWatch(dataset, trainer.generator.z_dim, trainer.config.seed, trainer.device)
            if trainer.images_seen == 0:
                pairs = [dataset[index][0] for index in chosen]
                reals = {name: from_uint8(torch.stack([pair[name] for pair in pairs])) for name in pairs[0]}
                save_grids(run_dir, "reals", reals, self.columns)

    def tick(self) -> None:
        """One line of stats.jsonl from what was reported since the last, and one above the bar."""
        trainer = self.trainer
        moments = trainer.stats.collect()
        images, seconds = trainer.images_seen - self.images, trainer.seconds - self.seconds
        self.images, self.seconds = trainer.images_seen, trainer.seconds
        scalars = {
            "progress/kimg": trainer.images_seen / 1000,
            "progress/seconds": trainer.seconds,
            "progress/seconds_per_kimg": seconds / images * 1000,
            "progress/skipped_total": float(trainer.skipped),
            **{f"augment/p_{name}": float(pipe.p) for name, pipe in trainer.pipes.items()},
        }
        if self.writes:
            seen = self.watch.look(trainer.ema.averaged)
            scalars |= monitor.scalars(seen)
            spread = {name: {"mean": m.mean, "sd": m.sd, "count": m.number} for name, m in moments.items()}
            append_line(self.run_dir / STATS_FILE, {"time": time.time(), **scalars, **spread})
            console.tell(_line(sorted(trainer.discriminators), scalars, moments))
            for text in self.watch.warnings(seen):
                console.warn(text)
            for name, value in {**scalars, **{name: m.mean for name, m in moments.items()}}.items():
                self.board.add_scalar(name, value, global_step=trainer.images_seen)

    def save(self) -> Path:
        """Grid, network snapshot and state of this moment; returns the snapshot's path."""
        trainer, name = self.trainer, stamp(self.trainer.images_seen)
        snapshot = self.run_dir / NETWORK.format(stamp=name)
        state = trainer.state()
        if self.writes:
            averaged = trainer.ema.averaged
            drawn = [
                averaged(z.to(trainer.device), c.to(trainer.device))
                for z, c in zip(self.z.split(DRAW_BATCH), self.c.split(DRAW_BATCH), strict=True)
            ]
            grids = {name: torch.cat([images[name] for images in drawn]) for name in drawn[0]}
            save_grids(self.run_dir, GRID.format(stamp=name), grids, self.columns)
            save_generator(snapshot, averaged, {**self.metadata, "images_seen": trainer.images_seen})
            save_state(self.run_dir / STATE.format(stamp=name), state)
            prune(self.run_dir, trainer.config.keep)
        distributed.barrier()
        return snapshot

    def note_metrics(self, snapshot: Path, values: dict[str, float], best_by: tuple[str, bool] | None) -> None:
        """Writes the metrics of a snapshot, and makes it the best network if it is."""
        if not self.writes or not values:
            return
        images = self.trainer.images_seen
        named = {f"metrics/{name}": float(value) for name, value in values.items()}
        append_line(self.run_dir / STATS_FILE, {"time": time.time(), "progress/kimg": images / 1000, **named})
        for name, value in named.items():
            self.board.add_scalar(name, value, global_step=images)
        if best_by is not None and best_by[0] in values:
            metric, higher = best_by
            offer_best(self.run_dir, snapshot, images, metric, float(values[metric]), higher)

    def close(self) -> None:
        """Flushes the TensorBoard events."""
        if self.writes:
            self.board.close()


def _line(spectra: list[str], scalars: dict[str, float], moments: dict[str, Moments]) -> str:
    """kimg, speed, and for each spectrum the scores of real and fake, R1, p and diversity."""
    parts = [f"kimg {scalars['progress/kimg']:<8.1f} sec/kimg {scalars['progress/seconds_per_kimg']:<7.1f}"]
    for name in spectra:
        real, fake = moments[f"scores/real_{name}"].mean, moments[f"scores/fake_{name}"].mean
        text = f"{name}: real {real:+.2f} fake {fake:+.2f}"
        if f"loss/r1_{name}" in moments:
            text += f" R1 {moments[f'loss/r1_{name}'].mean:.3g}"
        if f"augment/p_{name}" in scalars:
            text += f" p {scalars[f'augment/p_{name}']:.3f}"
        if f"diversity/{name}" in scalars:
            text += f" div {scalars[f'diversity/{name}']:.3f}"
        parts.append(text)
    if scalars["progress/skipped_total"]:
        parts.append(f"steps skipped for NaN {scalars['progress/skipped_total']:.0f}")
    return "  ".join(parts)
