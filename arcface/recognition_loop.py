"""Training of a recognition network on labelled pictures: batches, steps, lines, states, evaluations, the model.

The files it leaves are those of recognition_run. Rank 0 alone writes them; every process calls everything here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from arcface.recognition_config import RecognitionConfig, batch_indices
from arcface.recognition_curves import draw_curves
from arcface.recognition_data import TrainingPictures, fits_memory, read_batches
from arcface.recognition_run import (
    MODEL_FILE,
    STATS_FILE,
    evaluated_steps,
    forget_later,
    latest_state,
    note_metrics,
    open_run,
    save_state,
)
from arcface.recognition_trainer import NotFinite, RecognitionTrainer
from arcface.weights import RecognitionModel, load_recognition, save_recognition
from dnnlib.errors import SharedUserError
from dnnlib.files import append_line, full_disk_named
from dnnlib.progress import progress
from torch_utils import distributed
from torch_utils.backend import full_memory_named
from torch_utils.readers import lost_reader_named

Evaluation = Callable[[RecognitionModel], list[dict[str, Any]]]  # lines for metrics.jsonl


def _never() -> bool:
    return False


def train_recognition(
    config: RecognitionConfig,
    pictures: TrainingPictures,
    outdir: Path,
    device: str | torch.device = "cpu",
    evaluate: Evaluation | None = None,
    stop: Callable[[], bool] = _never,
    workers: int = 0,
    show_progress: bool = True,
) -> RecognitionModel | None:
    """Trains, or goes on where a run in `outdir` stopped, and writes outdir/recognition.safetensors.

    Args:
        evaluate: takes the model as it is and returns the lines of metrics.jsonl; rank 0 calls it every
            config.eval_every steps and at the end, before the model is written: a run whose model exists is complete.
        stop: called by every process after each step, with the same answer; when it says so, the state is saved.
        workers: processes that decode pictures.

    Returns:
        The finished model (of a run that is complete, the model that is there), or None where it was stopped.

    Raises:
        UserError: outdir holds a run with another configuration, a picture cannot be read, the loss is not finite.
    """
    device, writes = torch.device(device), distributed.rank() == 0
    distributed.from_rank_zero(lambda: open_run(config, outdir))
    if distributed.from_rank_zero((outdir / MODEL_FILE).exists):
        return load_recognition(outdir / MODEL_FILE, device)
    trainer = distributed.everywhere(lambda: _trainer(config, pictures.classes, device, outdir))
    remedy = "a smaller batch, or more GPUs, would do"
    with (
        torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]),
        full_disk_named(outdir),
        full_memory_named("--batch", remedy),
        contextlib.closing(_Recorder(trainer, outdir, pictures, evaluate, writes)) as recorder,
    ):
        recorder.evaluate_if_due()
        if not lost_reader_named(lambda: _steps(trainer, pictures, recorder, stop, workers, show_progress and writes)):
            return None
        return recorder.finish()


def _trainer(config: RecognitionConfig, classes: int, device: torch.device, outdir: Path) -> RecognitionTrainer:
    """As the latest state has it, or new."""
    found = latest_state(outdir)
    weights = None
    if found is None and config.init_from is not None:
        weights = load_recognition(config.init_from["path"], option="--init-from").backbone.state_dict()
    trainer = RecognitionTrainer(config, classes, device, weights)
    if found is not None:
        trainer.load(*found)
    return trainer


def _steps(
    trainer: RecognitionTrainer,
    pictures: TrainingPictures,
    recorder: _Recorder,
    stop: Callable[[], bool],
    workers: int,
    show_progress: bool,
) -> bool:
    """All steps that are left; whether none is left now."""
    config, rank, world = trainer.config, distributed.rank(), distributed.world_size()
    left = range(trainer.steps_done, config.steps)
    if not left:
        return True
    whole = (batch_indices(config, len(pictures), step) for step in left)
    mine = (batch[rank::world] for batch in whole)
    reading = read_batches(
        pictures, config.input_size, mine, workers, fits_memory(pictures, config.input_size), show_progress
    )
    options: dict[str, Any] = {"total": config.steps, "initial": left.start, "unit": "step", "show": show_progress}
    bar = progress(left, desc="train recognition", **options)
    recorder.since = time.perf_counter()
    with contextlib.closing(reading) as batches:
        for step in bar:
            indices = batch_indices(config, len(pictures), step)
            images = next(batches)
            labels = torch.from_numpy(pictures.labels[indices[rank::world]])
            try:
                measured = trainer.step(images, labels)
            except NotFinite as error:
                raise SharedUserError(_divergence(step, str(error), [pictures.name(i) for i in indices])) from error
            bar.set_postfix(loss=f"{measured['loss']:.2f}", refresh=False)
            recorder.add(measured)
            leaving = stop() and step + 1 < config.steps
            if leaving or recorder.is_due() or (step + 1) % config.snap == 0:
                recorder.save()
            if leaving:
                return False
            recorder.evaluate_if_due()
    return True


def _divergence(step: int, reason: str, names: list[str]) -> str:
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"--lr: step {step}: {reason}; the batch was {shown}; look at these pictures or lower --lr"


# ----------------------------------------------------------------------------
# What a run leaves beside its weights.


class _Recorder:
    """Lines of stats.jsonl, TensorBoard events, states, evaluations and, at the end, curves and the model."""

    def __init__(
        self,
        trainer: RecognitionTrainer,
        outdir: Path,
        pictures: TrainingPictures,
        evaluate: Evaluation | None,
        writes: bool,
    ) -> None:
        self.trainer, self.outdir, self.evaluate, self.writes = trainer, outdir, evaluate, writes
        config = trainer.config
        self.alignment = pictures.alignment
        self.training = {**config.data, "spectra": config.spectra, "head": config.head, "seed": config.seed}
        self.sums: dict[str, float] = {}
        self.count, self.since = 0, time.perf_counter()
        self.board: Any = None
        if writes:
            forget_later(outdir, trainer.steps_done)
            from torch.utils.tensorboard import SummaryWriter  # takes a second to import

            self.board = SummaryWriter(str(outdir), purge_step=trainer.steps_done + 1)
        self.evaluated = evaluated_steps(outdir) if writes else set()

    def add(self, measured: dict[str, float]) -> None:
        """Takes in the values of one step; each tick their means become a line."""
        config, step = self.trainer.config, self.trainer.steps_done
        for name, value in measured.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        if not self.writes or (step % config.tick and step != config.steps):
            return
        seconds = time.perf_counter() - self.since
        line = {"step": step, "epoch": round(step / config.steps_per_epoch, 4)}
        line |= {name: total / self.count for name, total in self.sums.items()}
        line |= {"images_per_second": round(self.count * config.batch / max(seconds, 1e-9), 1)}
        append_line(self.outdir / STATS_FILE, line)
        for name, value in line.items():
            self.board.add_scalar(name, value, global_step=step)
        self.sums, self.count, self.since = {}, 0, time.perf_counter()

    def save(self) -> None:
        if self.writes:
            save_state(self.outdir, self.trainer.state())

    def is_due(self) -> bool:
        """Whether this step's weights are to be evaluated, or are the last."""
        config, step = self.trainer.config, self.trainer.steps_done
        return step == config.steps or bool(step and config.eval_every and step % config.eval_every == 0)

    def evaluate_if_due(self) -> None:
        """Evaluates this step's weights, whose state is saved, if that has not been done before a kill."""
        step = self.trainer.steps_done
        if self.evaluate is None or not self.is_due():
            return
        if self.writes and step not in self.evaluated:
            lines = self.evaluate(self.trainer.model(self.training, self.alignment))
            note_metrics(self.outdir, step, lines)
            for line in lines:
                self.board.add_scalar("/".join(_name_of(line)), line["value"], global_step=step)
            self.since = time.perf_counter()
        distributed.barrier()

    def finish(self) -> RecognitionModel:
        """Writes the curves and, last of all, the model."""
        config = self.trainer.config
        model = self.trainer.model({**self.training, "steps": config.steps}, self.alignment)
        if self.writes:
            draw_curves(self.outdir)
            save_recognition(
                self.outdir / MODEL_FILE,
                model.backbone,
                model.arch,
                model.input_size,
                training=model.training,
                alignment=model.alignment,
            )
        distributed.barrier()
        return model

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


def _name_of(line: dict[str, Any]) -> list[str]:
    return [str(line[key]) for key in ("metric", "benchmark", "spectrum") if key in line]
