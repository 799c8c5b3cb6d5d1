"""What a plan will take, before anything runs; of each figure, what it rests on.

Times of the miniature were measured, on a machine of two cores with nothing else to do. Of the paper's scale none was
measured by us on the GPUs that it is made for, so no time is told: only how much work there is, the memory (counted by
training.estimate) and the disk (counted from what is written).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reproduction.experiment import SOURCES, Experiment
from reproduction.paper import RESOLUTION
from reproduction.stages import Stage, needed_by
from torch_utils.spectra import SPECTRA
from training.config import DatasetFacts, TrainingOptions, build_training_config
from training.estimate import GIB, build_meta, constant_bytes, estimate

NOT_MEASURED = "not measured"

# Seconds of the miniature's stages, by the beginning of their names; the longest that fits counts.
MEASURED: dict[str, float] = {
    **{"people-instrument": 125, "people-": 51, "instrument": 169, "features": 6, "thresholds": 9, "generator": 1106},
    **{"unfiltered": 29, "filtered": 133, "quality-drawn": 68, "quality-heldout": 50, "audit-": 16},
    **{f"{source}-": 73 for source in SOURCES},
}

BACKBONE_BYTES = 4 * 43_600_000  # weights of an iResNet-50 in float32
PNG_SHARE = 0.6  # of the raw bytes, of faces at 256x256 as PNG


class Cost(NamedTuple):
    """Of one stage. seconds, disk (bytes): None where nobody knows. work: in words."""

    seconds: float | None
    disk: int | None
    work: str


def costs_of(experiment: Experiment, stages: Sequence[Stage]) -> dict[str, Cost]:
    """By stage."""
    if experiment.scale == "mini":
        return {stage.name: Cost(_measured(stage.name), None, "") for stage in stages}
    return {stage.name: _counted(experiment, stage) for stage in stages}


def _measured(name: str) -> float | None:
    fitting = [beginning for beginning in MEASURED if name.startswith(beginning)]
    return MEASURED[max(fitting, key=len)] if fitting else None


def _counted(experiment: Experiment, stage: Stage) -> Cost:
    pairs = experiment.ids * experiment.samples
    if stage.name == "generator":
        return _generator(experiment)
    if stage.script == "generate_dataset.py":
        raw = sum(spectrum.channels for spectrum in SPECTRA.values()) * RESOLUTION**2
        return Cost(None, int(pairs * raw * PNG_SHARE), f"{pairs:,} pairs, and the candidates that are refused")
    if stage.script == "train_recognition.py":
        steps, batch = (_after(stage, option) for option in ("--steps", "--batch"))
        # The newest state (weights and momentum, of backbone and head) beside the model itself.
        return Cost(None, 3 * BACKBONE_BYTES, f"{steps} steps of {batch} pictures at 112x112, iResNet-50")
    if stage.script == "calc_metrics.py":
        number = experiment.heldout.pairs if experiment.heldout else experiment.real.pairs
        return Cost(None, None, f"{number:,} pairs against {experiment.real.pairs:,}")
    if stage.name == "features":
        return Cost(
            None, experiment.real.pairs * 512 * 4, f"{experiment.real.pairs:,} pictures through {_model(stage)}"
        )
    return Cost(None, None, "")


def _generator(experiment: Experiment) -> Cost:
    """kimg, and what a GPU must hold."""
    given = dict(zip(experiment.training[::2], experiment.training[1::2], strict=True))
    options = TrainingOptions(
        cfg=given["--cfg"],
        gpus=int(given["--gpus"]),
        batch=int(given["--batch"]),
        kimg=float(given["--kimg"]) if "--kimg" in given else None,
        mirror=True,
        cuda=True,
    )
    config = build_training_config(options, DatasetFacts(RESOLUTION, experiment.real.pairs, 512))
    found = estimate(config)
    work = found["tflop_per_kimg"]
    state = constant_bytes(*build_meta(config))
    memory = f"{found['memory_gib_per_gpu']:.1f} GiB and 1 to 2 GiB more on each of {config.gpus} GPUs"
    return Cost(
        None,
        int(given["--keep"]) * 2 * state,
        f"{config.total_kimg:,.0f} thousand pairs, {work:,.0f} TFLOP each; {memory}",
    )


def _after(stage: Stage, option: str) -> str:
    arguments = [str(argument) for argument in stage.arguments]
    return arguments[arguments.index(option) + 1]


def _model(stage: Stage) -> str:
    return _after(stage, "--rec-model").rsplit("/", 1)[-1]


# ----------------------------------------------------------------------------
# In words.


def plan_text(experiment: Experiment, stages: Sequence[Stage], done: Sequence[str], slots: int) -> str:
    """Each stage with its command and what it takes; what of it is finished; the sum."""
    costs = costs_of(experiment, stages)
    mini = experiment.scale == "mini"
    lines = [f"{len(stages)} stages of --scale {experiment.scale}; every command runs inside --outdir", ""]
    for number, stage in enumerate(stages, 1):
        cost = costs[stage.name]
        facts = ["done"] if stage.name in done else []
        facts += [f"{stage.slots} {'core' if mini else 'GPU'}{'s' * (stage.slots > 1)}", cost.work, _time(cost, mini)]
        facts += [f"{cost.disk / GIB:.2f} GiB of disk"] if cost.disk else []
        lines += [f"{number:3}  {stage.name}: {', '.join(filter(None, facts))}", f"     {stage.line()}"]
    return "\n".join([*lines, "", *_sums(stages, costs, mini, slots)])


def least_seconds(stages: Sequence[Stage], seconds: Sequence[float], slots: int) -> float:
    """What the plan takes at least: all work shared out evenly, or the longest chain of stages that wait for one
    another, whatever the number of slots."""
    until: dict[str, float] = {}  # stage -> the end of the chain that it is the last of
    for (name, before), own in zip(needed_by(stages).items(), seconds, strict=True):
        until[name] = own + max((until[other] for other in before), default=0.0)
    work = sum(own * min(stage.slots, slots) for stage, own in zip(stages, seconds, strict=True))
    return max(work / slots, *until.values())


def _time(cost: Cost, mini: bool) -> str:
    if cost.seconds is not None:
        return f"about {cost.seconds:.0f} s"
    return f"time {NOT_MEASURED}" if mini else f"GPU hours {NOT_MEASURED}"


def _sums(stages: Sequence[Stage], costs: dict[str, Cost], mini: bool, slots: int) -> list[str]:
    known = [second for stage in stages if (second := costs[stage.name].seconds) is not None]
    disk = sum(cost.disk or 0 for cost in costs.values())
    lines = []
    if mini and len(known) == len(stages):
        least = least_seconds(stages, known, slots)
        lines.append(
            f"Time: {least / 60:.0f} minutes or a little more on {slots} cores, by what each stage took where it was "
            "measured (two quiet cores)"
        )
    else:
        lines.append(f"Time: {NOT_MEASURED}; `train.py` and the others tell theirs while they run")
    if disk:
        lines.append(f"Disk: about {disk / GIB:.1f} GiB, counted from the sizes of pictures, weights and states")
    return lines
