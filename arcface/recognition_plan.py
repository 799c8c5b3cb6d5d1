"""From the options of a recognition training to what its processes do, checked before anything is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from arcface.benchmarks import check_pictures, find_benchmarks
from arcface.choices import ARCHITECTURES
from arcface.recognition_config import DataFacts, RecognitionConfig, build_config
from arcface.recognition_data import PictureSet, TrainingPictures, available_spectra, open_set
from arcface.recognition_run import check_run
from arcface.recognition_trainer import count_parameters
from arcface.weights import load_recognition
from dnnlib.errors import UserError
from torch_utils import distributed

MAX_WORKERS = 256  # all of them are started, whether there is work for them or not


class Plan(NamedTuple):
    """What all processes must know to do the same work, checked."""

    config: RecognitionConfig
    pictures: TrainingPictures
    held_out: PictureSet | None
    outdir: Path
    device: str
    workers: int
    overwrite: bool
    allow_tf32: bool
    benchmarks: Sequence[str]


def make_plan(options: Mapping[str, Any], gpus: int, device: str, dry_run: bool = False) -> Plan:
    """Checks the inputs, in one process.

    Args:
        options: of train_recognition.py, by their names there.
        gpus: processes.
        dry_run: the device need not be of this machine.

    Raises:
        UserError: what cannot be, by option and file.
    """
    learned, held_out = open_set(options["data"], options["spectra"]).split(options["holdout"])
    pictures = TrainingPictures([learned, *_second_set(options)])
    if not 0 <= options["workers"] <= MAX_WORKERS:
        raise UserError(f"--workers: {options['workers']}; 0 to {MAX_WORKERS} is possible")
    if options.get("eval_every") is not None and not options["holdout"] and not options["benchmarks"]:
        raise UserError("--eval-every: there is nothing to test on; name --holdout or --benchmarks, too")
    for path in options["benchmarks"]:
        check_pictures(find_benchmarks(path))
    given, start = begin_with(options)
    facts = DataFacts(len(pictures), pictures.decode(0).shape[0], {**pictures.record(), "holdout": options["holdout"]})
    pick = distributed.named_device if dry_run and device != "auto" else distributed.pick_device
    config = build_config(facts, given, gpus, pick(device).type == "cuda", start)
    outdir = Path(options["outdir"])
    check_run(config, outdir, options["overwrite"])
    return Plan(
        config,
        pictures,
        held_out,
        outdir,
        device,
        options["workers"],
        options["overwrite"],
        options["allow_tf32"],
        options["benchmarks"],
    )


def _second_set(options: Mapping[str, Any]) -> list[PictureSet]:
    """That of --real, if any."""
    path, spectra = options["real"], options["real_spectra"]
    if path is None:
        if spectra is not None:
            raise UserError("--real-spectra: says which pictures of --real are trained on; there is no --real")
        return []
    return [open_set(path, spectra or available_spectra(path, options["spectra"], "--real"), "--real")]


def begin_with(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str] | None]:
    """--init-from: the options with its --backbone and --resolution, and its path and fingerprint; None without it.

    Raises UserError where the file is no network that can be trained on, or another one was asked for.
    """
    path, given = options["init_from"], dict(options)
    if path is None:
        return given, None
    model = load_recognition(path, option="--init-from")
    if model.arch not in ARCHITECTURES:
        raise UserError(f"--init-from: {path}: a graph of its own cannot be trained; a .pth or .safetensors can")
    if model.color_order != "RGB":
        raise UserError(f"--init-from: {path}: takes {model.color_order}; training is in RGB")
    for name, own in (("backbone", model.arch), ("resolution", model.input_size)):
        if given[name] not in (None, own):
            raise UserError(f"--{name}: {given[name]}, but --init-from: {path} has {own}; leave the option out")
        given[name] = own
    return given, {"path": str(path), "fingerprint": model.fingerprint}


def describe(plan: Plan) -> dict[str, Any]:
    """What a dry run prints."""
    config = plan.config
    backbone, head = count_parameters(config, plan.pictures.classes)
    counts = {"backbone_parameters": backbone, "head_parameters": head}
    return {**config.to_json(), **counts, "classes": plan.pictures.classes, "pictures": len(plan.pictures)}
