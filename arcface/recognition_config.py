"""What a recognition training computes: its configuration, and the schedules that are pure functions of a step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from arcface.choices import (
    ARCHITECTURES,
    FULL_INPUT_SIZE,
    HEADS,
    PARTS,
    SMALLEST_INPUT_SIZE,
    SPECTRA_CHOICES,
    AugmentConfig,
)
from dnnlib.errors import UserError
from torch_utils.streams import stream

SCHEDULES = ("cosine", "step", "poly")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
MILESTONES = (0.5, 0.75, 0.9)  # shares of the run, where no --milestones are given


@dataclass(frozen=True)
class RecognitionConfig:
    """All that decides what a run computes; RUN/config.json.

    spectra       'vis', 'nir' or 'vis+nir'.
    backbone      key of arcface.choices.ARCHITECTURES.
    input_size    side of the network's input in pixels.
    head          key of arcface.choices.HEADS; scale and margin are its, None for softmax.
    steps         batches in all.
    steps_per_epoch   whole batches in a pass over the pictures.
    batch         pictures a batch, of all processes together.
    gpus          processes.
    precision     'fp32', or what the backbone computes in on a GPU: 'fp16', 'bf16'.
    lr            highest learning rate.
    schedule      'cosine' or 'poly' (a parabola) to zero, or 'step': a tenth at each milestone.
    milestones    steps, for 'step'.
    warmup        share of the steps in which the rate rises from 0.
    momentum, weight_decay   of SGD; the decay is on matrices and kernels, not on biases and norms.
    dropout       probability before the last layer (iResNet).
    clip          largest norm of the gradient; 0: it is not clipped.
    seed          of everything random.
    tick          steps between lines of stats.jsonl.
    snap          steps between training states.
    eval_every    steps between evaluations; None: at the end alone.
    init_from     where the backbone's weights came from: path and fingerprint; None: drawn.
    data          what is trained on, for the record: path, digest, identities, pictures, held-out identities.
    """

    spectra: str = "vis"
    backbone: str = "r10n"
    input_size: int = 32
    head: str = "arcface"
    scale: float | None = 64.0
    margin: float | None = 0.5
    steps: int = 1000
    steps_per_epoch: int = 100
    batch: int = 64
    gpus: int = 1
    precision: str = "fp32"
    lr: float = 0.05
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()
    warmup: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    dropout: float = 0.0
    clip: float = 5.0
    seed: int = 0
    tick: int = 20
    snap: int = 200
    eval_every: int | None = None
    init_from: dict[str, str] | None = None
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    data: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


DEFAULTS = RecognitionConfig()
DEFAULT_EPOCHS = 8


class DataFacts(NamedTuple):
    """What building a configuration must know of the data: pictures (all spectra), their side in pixels, a record."""

    pictures: int
    picture_size: int
    record: dict[str, Any]


# ----------------------------------------------------------------------------
# Command line -> configuration.


def build_config(
    facts: DataFacts, options: Mapping[str, Any], gpus: int = 1, cuda: bool = False, init_from: dict | None = None
) -> RecognitionConfig:
    """Command line -> configuration.

    Args:
        options: by the names of the command line's, what is left out as in DEFAULTS. Beside the fields of
            RecognitionConfig and AugmentConfig: epochs (passes over the pictures), resolution (the input size; None:
            the pictures' own for a narrow backbone, 112 for a full one), milestones and eval_every in epochs.
        gpus: processes.
        cuda: whether they work on GPUs.
        init_from: path and fingerprint of the weights to begin with.

    Raises:
        UserError: a value that cannot be, or options that contradict one another.
    """
    given = {name: value for name, value in options.items() if value is not None}
    _check_names(given)
    _check_ranges(given)
    batch = given.get("batch", DEFAULTS.batch)
    if facts.pictures < batch:
        raise UserError(f"--batch: {batch}, but there are only {facts.pictures} pictures to train on; as many at most")
    if batch % gpus or (batch // gpus < 2):
        raise UserError(f"--batch: {batch} pictures do not divide among {gpus} processes, two or more for each")
    per_epoch = facts.pictures // batch
    steps = given.get("steps") or max(1, round(given.get("epochs", DEFAULT_EPOCHS) * per_epoch))
    backbone = given.get("backbone", DEFAULTS.backbone)
    plain = ("spectra", "lr", "warmup", "momentum", "weight_decay", "dropout", "clip", "seed", "tick", "snap")
    return RecognitionConfig(
        backbone=backbone,
        input_size=_input_size(backbone, given.get("resolution"), facts.picture_size),
        **_head(given),
        steps=steps,
        steps_per_epoch=per_epoch,
        batch=batch,
        gpus=gpus,
        precision=_precision(given.get("precision", "auto"), cuda),
        **_schedule(given, steps, per_epoch),
        eval_every=_every(given.get("eval_every"), per_epoch),
        init_from=init_from,
        augment=AugmentConfig(**{name: float(value) for name, value in given.items() if name in PARTS}),
        data=facts.record,
        **{name: given[name] for name in plain if name in given},
    )


def _check_names(given: Mapping[str, Any]) -> None:
    choices: dict[str, Iterable[str]] = {
        "spectra": SPECTRA_CHOICES,
        "backbone": ARCHITECTURES,
        "head": HEADS,
        "schedule": SCHEDULES,
        "precision": PRECISIONS,
    }
    for name, known in choices.items():
        if name in given and given[name] not in known:
            raise UserError(f"--{name}: {given[name]!r}; one of {', '.join(known)}")
    if "epochs" in given and "steps" in given:
        raise UserError("--epochs and --steps: give one of them")


def _check_ranges(given: Mapping[str, Any]) -> None:
    """Each value within its bounds, which themselves belong to it or not. The upper ones keep float32 finite."""
    shares = {name for name in PARTS if name in ("flip", "crop", "low_res", "blur", "erase")}
    ranges: dict[str, tuple[float, float, str]] = {
        **dict.fromkeys(("epochs", "eval_every", "lr", "scale"), (0, 1e6, "(]")),
        **dict.fromkeys(("steps", "tick", "snap"), (0, 1e9, "(]")),
        **dict.fromkeys(("weight_decay", "clip"), (0, 1e6, "[]")),
        **dict.fromkeys(PARTS, (0, 5, "[]")),
        "turn": (0, 180, "[]"),
        "margin": (0, 10, "[]"),
        **dict.fromkeys(("warmup", *shares), (0, 1, "[]")),
        **dict.fromkeys(("dropout", "momentum"), (0, 1, "[)")),
        "batch": (1, 1e9, "(]"),
    }
    for name, (low, high, ends) in ranges.items():
        value = given.get(name)
        if value is None:
            continue
        if not (
            low < value < high or (ends[0] == "[" and value == low) or (ends[1] == "]" and value == high)
        ):  # NaN, too
            bound = f"{'at least' if ends[0] == '[' else 'greater than'} {low:g} and "
            bound += f"{'at most' if ends[1] == ']' else 'less than'} {high:g}"
            raise UserError(f"--{name.replace('_', '-')}: {value}; it must be {bound}")


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


def _head(given: Mapping[str, Any]) -> dict[str, Any]:
    """Head, scale and margin, each the head's own where it is not given."""
    name = given.get("head", DEFAULTS.head)
    values: dict[str, Any] = {"head": name}
    for part in ("scale", "margin"):
        own = getattr(HEADS[name], part)
        if own is None and part in given:
            raise UserError(f"--{part}: the {name} head has none; leave the option out, or choose another --head")
        values[part] = given.get(part, own)
    return values


def _precision(name: str, cuda: bool) -> str:
    """On the CPU everything is float32, whatever was asked for: half precision is slow or missing there."""
    if not cuda:
        return "fp32"
    return "fp16" if name == "auto" else name


def _schedule(given: Mapping[str, Any], steps: int, per_epoch: int) -> dict[str, Any]:
    name, text = given.get("schedule", DEFAULTS.schedule), given.get("milestones")
    if name != "step":
        if text is not None:
            raise UserError(f"--milestones: the {name} schedule has none; --schedule step has")
        return {"schedule": name}
    if text is None:
        return {"schedule": name, "milestones": tuple(round(share * steps) for share in MILESTONES)}
    try:
        epochs = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--milestones: {text!r}; epochs with commas between them, such as 12,20,24") from error
    places = tuple(round(epoch * per_epoch) if 0 < epoch < steps else -1 for epoch in epochs)  # NaN: -1
    if list(places) != sorted(set(places)) or places[0] <= 0 or places[-1] >= steps:
        raise UserError(f"--milestones: {text} must rise, from above 0 to below the {steps / per_epoch:g} epochs")
    return {"schedule": name, "milestones": places}


def _every(epochs: float | None, per_epoch: int) -> int | None:
    return None if epochs is None else max(1, round(epochs * per_epoch))


# ----------------------------------------------------------------------------
# Schedules.


def learning_rate(config: RecognitionConfig, step: int) -> float:
    """Linear from 0 over the warm-up; then what the schedule says, the highest rate first."""
    warm = max(1, round(config.warmup * config.steps))
    if step < warm:
        return config.lr * (step + 1) / warm
    done = (step - warm) / max(1, config.steps - warm)
    if config.schedule == "step":
        return config.lr * 0.1 ** sum(step >= milestone for milestone in config.milestones)
    if config.schedule == "poly":
        return config.lr * (1 - done) ** 2
    return config.lr * 0.5 * (1 + math.cos(math.pi * done))


@lru_cache(maxsize=2)
def epoch_order(seed: int, count: int, epoch: int) -> np.ndarray:
    """The order in which an epoch shows pictures 0..count-1."""
    return stream(seed, "recognition order", epoch).permutation(count)


def batch_indices(config: RecognitionConfig, count: int, step: int) -> np.ndarray:
    """The pictures of a step, [batch] of 0..count-1: an epoch is a permutation of its own, cut into whole batches
    (its rest is left out)."""
    epoch, place = divmod(step, count // config.batch)
    return epoch_order(config.seed, count, epoch)[place * config.batch : (place + 1) * config.batch]
