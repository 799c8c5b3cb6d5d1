"""What a recognition training computes: its configuration, and the schedules that are pure functions of a step."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from arcface.backbones import ARCHITECTURES, FULL_INPUT_SIZE, SMALLEST_INPUT_SIZE
from arcface.recognition_augment import AugmentConfig
from arcface.recognition_data import SPECTRA_CHOICES
from dnnlib.errors import UserError
from torch_utils.streams import stream


@dataclass(frozen=True)
class RecognitionConfig:
    """All that decides what a run computes; RUN/config.json.

    spectra       'vis', 'nir' or 'vis+nir'.
    backbone      key of arcface.backbones.ARCHITECTURES.
    input_size    side of the network's input in pixels.
    steps         batches in all.
    batch         pictures a batch.
    lr            highest learning rate.
    warmup        share of the steps in which the rate rises from 0.
    momentum, weight_decay   of SGD; the decay is on matrices and kernels, not on biases and norms.
    scale, margin of the ArcFace head; radians.
    dropout       probability before the last layer (iResNet).
    clip          largest norm of the gradient.
    seed          of everything random.
    tick          steps between lines of stats.jsonl.
    snap          steps between training states.
    data          what is trained on, for the record: path, digest, identities, pictures, held-out identities.
    """

    spectra: str = "vis"
    backbone: str = "r10n"
    input_size: int = 32
    steps: int = 1000
    batch: int = 64
    lr: float = 0.05
    warmup: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    scale: float = 16.0
    margin: float = 0.5
    dropout: float = 0.0
    clip: float = 5.0
    seed: int = 0
    tick: int = 20
    snap: int = 200
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    data: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


DEFAULTS = RecognitionConfig()
DEFAULT_EPOCHS = 8


def build_config(
    *,
    pictures: int,
    picture_size: int,
    data: dict[str, Any],
    spectra: str = DEFAULTS.spectra,
    backbone: str = DEFAULTS.backbone,
    resolution: int | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    batch: int = DEFAULTS.batch,
    lr: float = DEFAULTS.lr,
    scale: float = DEFAULTS.scale,
    margin: float = DEFAULTS.margin,
    seed: int = DEFAULTS.seed,
) -> RecognitionConfig:
    """Command line -> configuration.

    Args:
        pictures: how many there are to train on, both spectra counted.
        picture_size: their side in pixels.
        data: for the record.
        resolution: the network's input size; None: the pictures' own for a narrow backbone, 112 for a full one.
        epochs, steps: how long, one of them; None both: DEFAULT_EPOCHS.

    Raises:
        UserError: a value that cannot be, or options that contradict one another.
    """
    if spectra not in SPECTRA_CHOICES:
        raise UserError(f"--spectra: {spectra!r}; one of {', '.join(SPECTRA_CHOICES)}")
    if backbone not in ARCHITECTURES:
        raise UserError(f"--backbone: {backbone!r}; one of {', '.join(ARCHITECTURES)}")
    if epochs is not None and steps is not None:
        raise UserError("--epochs and --steps: give one of them")
    for option, value in {
        "--epochs": epochs,
        "--steps": steps,
        "--batch": batch - 1,
        "--lr": lr,
        "--scale": scale,
        "--margin": margin + 1e-9,
    }.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"{option}: must be greater than {1 if option == '--batch' else 0}")
    if pictures < batch:
        raise UserError(f"--batch: {batch}, but there are only {pictures} pictures to train on")
    size = _input_size(backbone, resolution, picture_size)
    if steps is None:
        steps = max(1, round((DEFAULT_EPOCHS if epochs is None else epochs) * (pictures // batch)))
    return RecognitionConfig(
        spectra=spectra,
        backbone=backbone,
        input_size=size,
        steps=steps,
        batch=batch,
        lr=lr,
        scale=scale,
        margin=margin,
        seed=seed,
        data=data,
    )


def _input_size(backbone: str, resolution: int | None, picture_size: int) -> int:
    low, high = SMALLEST_INPUT_SIZE, FULL_INPUT_SIZE
    if not ARCHITECTURES[backbone].narrow:
        if resolution not in (None, high):
            raise UserError(f"--resolution: {backbone} takes {high} only; the narrow backbones take {low} to {high}")
        return high
    if resolution is None:
        return min(max(picture_size, low), high)
    if not low <= resolution <= high:
        raise UserError(f"--resolution: {resolution}; {low} to {high} is possible")
    return resolution


# ----------------------------------------------------------------------------
# Schedules.


def learning_rate(config: RecognitionConfig, step: int) -> float:
    """Linear from 0 over the warm-up, then half a cosine down to 0 at the end."""
    warm = max(1, round(config.warmup * config.steps))
    if step < warm:
        return config.lr * (step + 1) / warm
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, config.steps - warm)))


def batch_indices(config: RecognitionConfig, count: int, step: int) -> np.ndarray:
    """The pictures of a step, [batch] of 0..count-1: an epoch is a permutation of its own, cut into whole batches
    (its rest is left out)."""
    epoch, place = divmod(step, count // config.batch)
    order = stream(config.seed, "recognition order", epoch).permutation(count)
    return order[place * config.batch : (place + 1) * config.batch]
