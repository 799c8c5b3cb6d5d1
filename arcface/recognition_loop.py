"""Training of a recognition network: margin softmax on labelled pictures (Deng et al. 2019, section 3).

SGD with momentum, linear warm-up and a cosine to zero. All randomness of a step comes from the streams of
(seed, step), so that a run that was stopped goes on bit for bit; the state that is kept is weights, momentum and
the step. A loss that is not finite stops the run and names the pictures of the batch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from arcface.backbones import NUM_FEATURES, build_backbone
from arcface.heads import ArcFaceHead, MarginHead
from arcface.recognition_augment import augment
from arcface.recognition_config import RecognitionConfig, batch_indices, learning_rate
from arcface.recognition_data import PictureSet
from arcface.weights import RecognitionModel, fingerprint, load_recognition, read_checkpoint, save_recognition
from dnnlib.errors import UserError
from dnnlib.files import append_line, atomic_path, atomic_write_bytes, atomic_write_json, read_json, read_lines
from dnnlib.progress import progress
from torch_utils.streams import derived_seed

MODEL_FILE = "recognition.safetensors"
METRICS_FILE = "metrics.jsonl"
STATS_FILE = "stats.jsonl"
CONFIG_FILE = "config.json"
STATE_FILE = "training-state-{step:08d}.pt"
STATE_PATTERN = "training-state-*.pt"


Evaluation = Callable[[RecognitionModel], list[dict[str, Any]]]


def train_recognition(
    config: RecognitionConfig,
    pictures: PictureSet,
    outdir: Path,
    device: str | torch.device = "cpu",
    evaluate: Evaluation | None = None,
    stop_after: int | None = None,
    show_progress: bool = True,
) -> RecognitionModel | None:
    """Trains, or goes on where a run in `outdir` stopped, and writes outdir/recognition.safetensors.

    Args:
        evaluate: takes the trained model and returns the lines of metrics.jsonl, which is written before the model,
            so that a run whose model exists is complete.
        stop_after: stop early at this step, with the state written (tests, and runs in slices); None: do not.

    Returns:
        The finished model (of a run that is complete, the model that is there), or None where stop_after came first.

    Raises:
        UserError: outdir holds a run with another configuration, or the loss is not finite.
    """
    _open_run(config, outdir)
    if (outdir / MODEL_FILE).exists():
        return load_recognition(outdir / MODEL_FILE, device)
    run = _Run(config, len(pictures.identities), torch.device(device))
    first = run.resume(outdir)
    last = config.steps if stop_after is None else min(stop_after, config.steps)
    with torch.random.fork_rng(devices=[] if run.device.type == "cpu" else None):
        meter = _Meter(config, outdir)
        options: dict[str, Any] = {"total": config.steps, "initial": first, "unit": "step", "show": show_progress}
        bar = progress(range(first, last), desc="train recognition", **options)
        for step in bar:
            indices = batch_indices(config, len(pictures), step)
            measured = run.step(step, pictures, indices)
            meter.add(step + 1, measured)
            bar.set_postfix(loss=f"{measured['loss']:.2f}", refresh=False)
            if step + 1 == last or (step + 1) % config.snap == 0:
                run.save_state(outdir, step + 1)
    if last < config.steps:
        return None
    return _finish(config, run, outdir, evaluate)


def _finish(config: RecognitionConfig, run: _Run, outdir: Path, evaluate: Evaluation | None) -> RecognitionModel:
    training = {**config.data, "spectra": config.spectra, "steps": config.steps, "seed": config.seed}
    mark = fingerprint(run.backbone.state_dict())
    model = RecognitionModel(config.backbone, config.input_size, "RGB", mark, run.backbone.eval(), training)
    if evaluate is not None:
        lines = "".join(json.dumps(line) + "\n" for line in evaluate(model))
        atomic_write_bytes(outdir / METRICS_FILE, lines.encode())
    save_recognition(outdir / MODEL_FILE, run.backbone, config.backbone, config.input_size, training=training)
    return model


def remove_run(outdir: Path) -> None:
    """Removes what a run of recognition training wrote, and nothing else (--overwrite).

    Raises UserError where the folder holds something else's run.
    """
    config = outdir / CONFIG_FILE
    if config.exists() and "backbone" not in read_json(config, "--outdir"):
        raise UserError(f"--outdir: {outdir} holds a run of another program; choose another folder")
    names = (MODEL_FILE, METRICS_FILE, STATS_FILE, CONFIG_FILE, "log.txt")
    for path in [*(outdir / name for name in names), *outdir.glob(STATE_PATTERN)]:
        path.unlink(missing_ok=True)


# ----------------------------------------------------------------------------
# One run's networks and optimiser.


class _Run:
    """Backbone, head and optimiser, and what happens to them in a step."""

    def __init__(self, config: RecognitionConfig, classes: int, device: torch.device) -> None:
        self.config = config
        self.device = device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(config.seed, "recognition weights"))
            backbone = build_backbone(config.backbone, config.input_size, config.dropout)
            head = ArcFaceHead(NUM_FEATURES, classes, config.scale, config.margin)
        self.backbone = backbone.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.head: MarginHead = head.to(device)
        self.parameters = [p for p in [*self.backbone.parameters(), *head.parameters()] if p.requires_grad]
        decayed = [p for p in self.parameters if p.ndim > 1]
        others = [p for p in self.parameters if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=True)

    def step(self, step: int, pictures: PictureSet, indices: np.ndarray) -> dict[str, float]:
        """One batch. Returns its loss, accuracy, gradient norm and learning rate."""
        torch.manual_seed(derived_seed(self.config.seed, "recognition dropout", step))
        generator = torch.Generator().manual_seed(derived_seed(self.config.seed, "recognition augment", step))
        self.backbone.train()
        x, labels = pictures.batch(indices, self.config.input_size)  # [N, 3, S, S], [N]
        x, labels = augment(x.to(self.device), self.config.augment, generator), labels.to(self.device)
        features = self.backbone(x.contiguous(memory_format=torch.channels_last))  # [N, 512]
        logits = self.head(features, labels)  # [N, classes]
        loss = F.cross_entropy(logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
            raise UserError(_divergence(step, float(loss.detach()), float(norm), pictures.describe(indices)))
        rate = learning_rate(self.config, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        return {"loss": float(loss.detach()), "accuracy": float(accuracy), "grad_norm": float(norm), "lr": rate}

    def save_state(self, outdir: Path, step: int) -> None:
        """Writes the state of `step` and removes older ones."""
        state = {
            "step": step,
            "backbone": self.backbone.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        target = outdir / STATE_FILE.format(step=step)
        with atomic_path(target) as temporary:
            torch.save(state, temporary)
        for old in sorted(outdir.glob(STATE_PATTERN)):
            if old != target:
                old.unlink()

    def resume(self, outdir: Path) -> int:
        """Loads the latest state, if there is one, and drops the lines of stats.jsonl behind it. Returns the step."""
        files = sorted(outdir.glob(STATE_PATTERN))
        step = 0
        if files:
            where = f"--outdir: {files[-1]}"
            state = read_checkpoint(files[-1].read_bytes(), where)
            try:
                self.backbone.load_state_dict(state["backbone"])
                self.head.load_state_dict(state["head"])
                self.optimizer.load_state_dict(state["optimizer"])
                step = int(state["step"])
            except (KeyError, RuntimeError, ValueError, TypeError) as error:
                raise UserError(f"{where}: not a state of this run; remove it to start again") from error
        stats = outdir / STATS_FILE
        if stats.exists():
            lines = [json.dumps(line) + "\n" for line in read_lines(stats) if line["step"] <= step]
            atomic_write_bytes(stats, "".join(lines).encode())
        return step


def _divergence(step: int, loss: float, norm: float, names: list[str]) -> str:
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return (
        f"--lr: step {step}: the loss is {loss:g} and the gradient's norm {norm:g}; the batch was {shown}; "
        "look at these pictures or lower --lr"
    )


# ----------------------------------------------------------------------------
# What a run leaves beside its weights.


class _Meter:
    """Means over a tick's steps -> a line of stats.jsonl."""

    def __init__(self, config: RecognitionConfig, outdir: Path) -> None:
        self.config = config
        self.path = outdir / STATS_FILE
        self.sums: dict[str, float] = {}
        self.count = 0
        self.since = time.perf_counter()

    def add(self, step: int, measured: dict[str, float]) -> None:
        """Takes in the values of one step; `step` counts from 1."""
        for name, value in measured.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        if step % self.config.tick and step != self.config.steps:
            return
        seconds = time.perf_counter() - self.since
        line: dict[str, Any] = {"step": step, **{name: total / self.count for name, total in self.sums.items()}}
        line["images_per_second"] = round(self.count * self.config.batch / max(seconds, 1e-9), 1)
        append_line(self.path, line)
        self.sums, self.count, self.since = {}, 0, time.perf_counter()


def _open_run(config: RecognitionConfig, outdir: Path) -> None:
    """Writes config.json, or checks that the one there is the same."""
    path = outdir / CONFIG_FILE
    values = json.loads(json.dumps(config.to_json()))
    if path.exists():
        before = read_json(path, "--outdir")
        changed = sorted(key for key in {*values, *before} if values.get(key) != before.get(key))
        if changed:
            raise UserError(
                f"--outdir: {outdir} holds a run with another {changed[0]}; choose another folder or use --overwrite"
            )
        return
    outdir.mkdir(parents=True, exist_ok=True)
    atomic_write_json(path, values)
