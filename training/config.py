"""From command-line options to the whole configuration of a training run: pure, and tested for each preset."""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from dnnlib.errors import UserError
from torch_utils.spectra import SPECTRA
from training.choices import AUGMENT_SETS, CLAMP

# ----------------------------------------------------------------------------
# Presets. None: by the formula of `auto` (below). They fill only what the user left open.


@dataclass(frozen=True)
class Preset:
    """One row of the table; see FACTS for the published ones."""

    gpus: int | None  # that the batch was divided among: a GPU never handles more at once. None: as many as there are
    kimg: int
    batch: int | None
    mbstd: int | None
    fmaps: float | None  # channel_base / 32768
    lr: float | None
    gamma: float | None
    ema_kimg: float | None
    rampup: float | None
    mapping_layers: int = 8
    channel_max: int = 512
    regular: bool = True  # False (cifar): no path length, no style mixing, no residual discriminator


# fmt: off
PRESETS: dict[str, Preset] = {
    #                  gpus   kimg  batch mbstd fmaps   lr   gamma  ema  ramp  map  max
    "auto":       Preset(None,  10000, None, None, None,  None,  None, None, .05),
    "auto_512":   Preset(None,  10000, None, None, None,  None,  None, None, .05),
    "stylegan2":  Preset(   8,  25000,   32,    4,    1,  .002,    10,   10, None),
    "paper256":   Preset(   8,  25000,   64,    8,   .5, .0025,     1,   20, None),
    "paper512":   Preset(   8,  25000,   64,    8,    1, .0025,    .5,   20, None),
    "paper1024":  Preset(   8,  25000,   32,    4,    1,  .002,     2,   10, None),
    "cifar":      Preset(   2, 100000,   64,   32,    1, .0025,   .01,  500, .05,    2, regular=False),
    "biface256":  Preset(   1,  25000,   12,    4,   .5, .0025,     1,   20, None),
    "tiny32":     Preset(   1,     10,   16,    4, 1/16, .0025,  None,    1, .05,    2, 128),
    "tiny64":     Preset(   1,    100,   16,    4,  1/8, .0025,  None,    5, .05,    8, 128),
}
# fmt: on


PRECISIONS = ("auto", *CLAMP)
AUGPIPE, ADA_SIGNAL = "bgc", "each"  # where the user says nothing
MAX_BATCH = 1 << 20


def auto_batch(resolution: int, gpus: int, cfg: str) -> int:
    """Pictures in a batch over all GPUs, by the formula of `auto`, cut to a multiple of any number of GPUs."""
    batch = max(min(gpus * min(4096 // resolution, 32), 64), gpus)
    batch = max(batch // 2, gpus) if cfg == "auto_512" else batch
    return batch - batch % gpus


# ----------------------------------------------------------------------------
# The configuration.


@dataclass(frozen=True)
class TrainingOptions:
    """What the user may say. None: the preset decides."""

    cfg: str = "auto"
    gpus: int = 1
    seed: int = 0
    kimg: float | None = None
    batch: int | None = None
    batch_gpu: int | None = None
    gamma: float | None = None
    lr: float | None = None
    fmaps: float | None = None
    nir_weight: float = 1.0
    nir_r1: bool = True
    cond: bool = True
    cond_nir: bool = False
    aug: str = "ada"
    p: float | None = None
    target: float | None = None
    augpipe: str | None = None
    ada_signal: str | None = None
    mirror: bool = False
    subset: int | None = None
    snap: int = 50
    keep: int | None = None
    tick: float | None = None
    workers: int = 1
    resume: str | None = None
    init_from: str | None = None
    freezed: int = 0
    precision: str = "auto"
    fp32: bool = False
    nhwc: bool = False
    allow_tf32: bool = False
    nobench: bool = False
    cuda: bool = False  # whether the networks run on a GPU


@dataclass(frozen=True)
class DatasetFacts:
    """What the configuration depends on of a dataset."""

    resolution: int
    pairs: int
    feature_dim: int


@dataclass(frozen=True)
class TrainingConfig:
    """All that training does, in one place; config.json is this."""

    resolution: int
    seed: int
    gpus: int
    total_kimg: float
    batch: int  # pictures over all processes in an iteration
    batch_gpu: int  # pictures a process handles at once; the rest follows in further rounds
    kimg_per_tick: float
    snapshot_ticks: int
    keep: int | None  # newest training states that are kept, with their snapshots; None: all
    workers: int

    generator: dict[str, Any]  # constructor arguments
    discriminators: dict[str, dict[str, Any]]  # constructor arguments by spectrum
    learning_rate: float
    generator_reg_interval: int  # path length, each so many iterations; 0: never
    discriminator_reg_interval: int  # R1 likewise
    ema_kimg: float
    ema_rampup: float | None

    gamma: float
    r1_spectra: tuple[str, ...]
    adversarial_weight: dict[str, float]
    path_length_weight: float
    style_mixing: float

    augment: tuple[str, ...]  # transforms; () is none
    augment_p: float  # where it starts
    ada_target: float | None  # None: p is fixed
    ada_interval: int
    ada_kimg: float
    ada_signal: str

    mirror: bool
    subset: int | None

    init_from: str | None  # the file whose weights a new run begins with
    freeze_layers: int  # of each discriminator, from the picture on
    precision: str  # of the highest resolutions: fp32, fp16 or bf16
    allow_tf32: bool
    cudnn_benchmark: bool

    def to_json(self) -> dict[str, Any]:
        """Plain containers, for config.json."""
        return json.loads(self.to_text())

    def to_text(self, **more: Any) -> str:
        """The same as indented text, for --dry-run; `more` stands behind it."""
        return json.dumps({**dataclasses.asdict(self), **more}, indent=2)


def build_training_config(options: TrainingOptions, data: DatasetFacts) -> TrainingConfig:
    """Options and dataset -> configuration. Raises UserError that names the option at fault."""
    _check(options, data)
    preset = PRESETS[options.cfg]
    resolution, gpus = data.resolution, options.gpus
    batch = options.batch or preset.batch or auto_batch(resolution, gpus, options.cfg)
    batch_gpu = _batch_gpu(options, preset, batch)
    fmaps = options.fmaps or preset.fmaps or (1 if resolution >= 512 else 0.5)
    widths = {"channel_base": int(fmaps * 32768), "channel_max": preset.channel_max}
    if widths["channel_base"] < resolution:
        raise UserError(
            f"--fmaps: {fmaps} leaves no channel at {resolution}x{resolution}; {resolution / 32768} is the least"
        )
    gamma = options.gamma if options.gamma is not None else preset.gamma
    conditional = {"vis": options.cond, "nir": options.cond and options.cond_nir}
    precision = _precision(options)
    clamp = CLAMP[precision]
    return TrainingConfig(
        resolution=resolution,
        seed=options.seed,
        gpus=gpus,
        total_kimg=options.kimg if options.kimg is not None else preset.kimg,
        batch=batch,
        batch_gpu=batch_gpu,
        kimg_per_tick=options.tick if options.tick is not None else 4,
        snapshot_ticks=options.snap,
        keep=options.keep,
        workers=options.workers,
        generator={
            "resolution": resolution,
            "c_dim": data.feature_dim if options.cond else 0,
            "mapping_layers": preset.mapping_layers,
            "clamp": clamp,
            **widths,
        },
        discriminators={
            name: {
                "resolution": resolution,
                "image_channels": spectrum.channels,
                "c_dim": data.feature_dim if conditional[name] else 0,
                "mbstd_group": preset.mbstd or min(batch // gpus, 4),
                "residual": preset.regular,
                "clamp": clamp,
                **widths,
            }
            for name, spectrum in SPECTRA.items()
        },
        learning_rate=options.lr or preset.lr or (0.002 if resolution >= 1024 else 0.0025),
        generator_reg_interval=4 if preset.regular else 0,
        discriminator_reg_interval=16,
        ema_kimg=preset.ema_kimg or batch * 10 / 32,
        # Weights that were trained before need no averages that forget their beginning, and no slow start of p.
        ema_rampup=preset.rampup if options.init_from is None else None,
        gamma=gamma if gamma is not None else 0.0002 * resolution**2 / batch,
        r1_spectra=tuple(SPECTRA) if options.nir_r1 else ("vis",),
        adversarial_weight={"vis": 1.0, "nir": options.nir_weight},
        path_length_weight=2.0 if preset.regular else 0.0,
        style_mixing=0.9 if preset.regular else 0.0,
        augment=AUGMENT_SETS[options.augpipe or AUGPIPE] if options.aug != "noaug" else (),
        augment_p=options.p or 0.0,
        ada_target=(options.target if options.target is not None else 0.6) if options.aug == "ada" else None,
        ada_interval=4,
        ada_kimg=500 if options.init_from is None else 100,
        ada_signal=options.ada_signal or ADA_SIGNAL,
        mirror=options.mirror,
        subset=options.subset,
        init_from=options.init_from,
        freeze_layers=options.freezed,
        precision=precision,
        allow_tf32=options.allow_tf32,
        cudnn_benchmark=not options.nobench,
    )


def _precision(options: TrainingOptions) -> str:
    """auto is fp16 on a GPU; a CPU computes in float32 whatever is asked for."""
    if options.fp32 or not options.cuda:
        return "fp32"
    return "fp16" if options.precision == "auto" else options.precision


def notices(options: TrainingOptions) -> list[str]:
    """Lines about options that are accepted and have no effect here."""
    lines = []
    if options.precision in ("fp16", "bf16") and not options.cuda:
        lines.append(f"--precision: {options.precision} is for a GPU; on the CPU everything is computed in fp32")
    if options.allow_tf32 and not options.cuda:
        lines.append("--allow-tf32: has no effect on the CPU")
    return lines


# ----------------------------------------------------------------------------
# Checks.


def _batch_gpu(options: TrainingOptions, preset: Preset, batch: int) -> int:
    """Pictures that a process handles at once; by a preset's own batch, no more than on the GPUs it was made for."""
    gpus, size = options.gpus, options.batch_gpu
    if batch % gpus:
        less, more = batch // gpus * gpus, -(-batch // gpus) * gpus
        raise UserError(
            f"--batch: {batch} pairs do not divide among {gpus} processes (--gpus); "
            f"{f'{less} or {more}' if less else more} would do"
        )
    share = batch // gpus
    if size is not None and share % size:
        raise UserError(
            f"--batch-gpu: {share} pairs, a process's share of the batch, do not divide into rounds of {size}"
        )
    if size is not None or options.batch is not None or preset.gpus is None or preset.batch is None:
        return size or share
    most = min(preset.batch // preset.gpus, share)
    return max(size for size in range(1, most + 1) if share % size == 0)


def _check(options: TrainingOptions, data: DatasetFacts) -> None:
    resolution = data.resolution
    if resolution < 8 or resolution & (resolution - 1):
        raise UserError(
            f"--data: {resolution}x{resolution} pictures; the side must be a power of two, at least 8, as "
            "`dataset_tool.py prepare --resolution 256` makes it"
        )
    if options.cfg not in PRESETS:
        raise UserError(f"--cfg: {options.cfg} is not one of {', '.join(PRESETS)}")
    if options.augpipe is not None and options.aug == "noaug":
        raise UserError("--augpipe: only goes with --aug ada or fixed (here --aug noaug)")
    if options.ada_signal is not None and options.aug != "ada":
        raise UserError(f"--ada-signal: only goes with --aug ada (here --aug {options.aug})")
    if options.cond_nir and not options.cond:
        raise UserError("--cond-nir: only goes with --cond true; without it no network is conditional")
    if options.augpipe not in (None, *AUGMENT_SETS):
        raise UserError(f"--augpipe: {options.augpipe} is not one of {', '.join(AUGMENT_SETS)}")
    if options.aug == "fixed" and options.p is None:
        raise UserError("--aug: fixed needs --p, the probability of the transforms")
    if options.p is not None and options.aug != "fixed":
        raise UserError(f"--p: only goes with --aug fixed (here --aug {options.aug})")
    if options.target is not None and options.aug != "ada":
        raise UserError(f"--target: only goes with --aug ada (here --aug {options.aug})")
    if options.precision not in PRECISIONS:
        raise UserError(f"--precision: {options.precision} is not one of {', '.join(PRECISIONS)}")
    if options.fp32 and options.precision in ("fp16", "bf16"):
        raise UserError(f"--fp32: contradicts --precision {options.precision}; leave one of them out")
    _check_freezed(options, resolution)
    _check_range("--p", options.p, 0, 1)
    _check_range("--target", options.target, 0, 1)
    _check_range("--gpus", options.gpus, 1, None)
    _check_range("--batch", options.batch, 1, MAX_BATCH)
    _check_range("--batch-gpu", options.batch_gpu, 1, MAX_BATCH)
    _check_range("--gamma", options.gamma, 0, None)
    _check_range("--fmaps", options.fmaps, 1 / 256, 8)
    _check_range("--nir-weight", options.nir_weight, 0, None)
    _check_range("--snap", options.snap, 1, None)
    _check_range("--keep", options.keep, 1, None)
    _check_range("--workers", options.workers, 0, None)
    _check_range("--subset", options.subset, 1, data.pairs)
    for option, above_zero in (("--lr", options.lr), ("--kimg", options.kimg), ("--tick", options.tick)):
        if above_zero is not None and not (math.isfinite(above_zero) and above_zero > 0):
            raise UserError(f"{option}: {above_zero} is not above 0")


def _check_freezed(options: TrainingOptions, resolution: int) -> None:
    if options.freezed and options.init_from is None and options.resume is None:
        raise UserError("--freezed: only goes with --init-from or --resume; layers that know nothing must learn")
    residual = PRESETS[options.cfg].regular
    _check_range("--freezed", options.freezed, 0, 1 + (3 if residual else 2) * (resolution.bit_length() - 3))


def _check_range(option: str, value: float | None, low: float, high: float | None) -> None:
    if value is not None and not (math.isfinite(value) and low <= value and (high is None or value <= high)):
        limits = f"between {low} and {high}" if high is not None else f"at least {low}"
        raise UserError(f"{option}: {value} is not {limits}")
