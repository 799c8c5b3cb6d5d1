"""What calc_metrics.py does. Wiring only; the work is in metrics/, and generation/measuring.py brings the networks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import torch

from arcface.alignment import FILTERS, Template, sight, template_of
from arcface.embed import default_workers
from arcface.weights import load_recognition
from dnnlib import console
from dnnlib.cli import refuse_others
from dnnlib.errors import UserError, option_named
from dnnlib.files import append_lines, check_place, read_lines, sha256_file
from generation import networks
from generation.measuring import ARCFACE, Instruments, network_side
from metrics.choices import METRICS_FILE, VIS_AND_NIR
from metrics.detector_files import INCEPTION
from metrics.folder_side import Sources, folder_side, inspect
from metrics.measure import check_metrics, looked_with, measure, refuse_conditions
from metrics.pictures import Side
from metrics.public_files import way_to
from metrics.real import RealPictures
from metrics.registry import Metric, detectors_of, parse_metrics
from torch_utils import distributed
from torch_utils.backend import full_memory_named
from torch_utils.description import read_description
from torch_utils.feature_file import FILE_NAME, load_features, refuse_other_model
from torch_utils.launch import find_world, launch
from torch_utils.memory import keep_freed_memory
from torch_utils.picture_source import open_pictures, open_spectra
from torch_utils.readers import lost_reader_named
from torch_utils.spectra import SPECTRA
from torch_utils.stop_signals import StopSignals
from training.draw import Drawings
from training.snapshots import load_generator

OF_NETWORK = {"features", "truncation", "noise_mode"}  # options


def run(gpus: int | None, **options: Any) -> None:
    """Measures, records and shows."""
    world = find_world(gpus, options["device"])
    launch(world, partial(prepare, options), work)


class Plan(NamedTuple):
    """What all processes must know to do the same work, checked."""

    options: dict[str, Any]
    metrics: list[Metric]  # that are not recorded yet
    instruments: Instruments
    digest: str  # of the real pictures
    out: Path
    constants: dict[str, Any]  # of each line


def prepare(options: dict[str, Any]) -> Plan | None:
    """Checks the inputs, in one process. None: all is measured already."""
    metrics = parse_metrics(options["metrics"]) if options["metrics"] else None
    if (options["gen_model"] is None) == (options["fake"] is None):
        raise UserError("--gen-model: one of --gen-model, a network, and --fake, pictures, is needed")
    if options["gen_model"] is None:
        refuse_others({*click.get_current_context().params} - OF_NETWORK, "is for --gen-model; leave it out")
    sources = sources_of(options["data"], options["spectra"])
    alignment = template_of(read_description(Path(options["data"]), "--data"))
    looks = [options[name] for name in ("detector", "resize")]
    instruments = Instruments(options["rec_model"], options["rec_arch"], alignment, options["batch"], *looks)
    metrics = default_metrics(instruments, options["fake"] is None) if metrics is None else metrics
    observers = instruments.open(metrics)
    workers = default_workers() if options["workers"] is None else options["workers"]
    pixels, digest = inspect(sources, workers)
    fake, of_fake = (
        check_network(options, alignment, pixels, metrics)
        if options["fake"] is None
        else check_pictures(options, alignment, pixels, workers)
    )
    real = folder_side(sources, options["batch"])
    for warning in check_metrics(metrics, real, fake, observers):
        console.warn(warning)
    if ARCFACE in observers and options["rec_model"] is not None:
        seen = sight(alignment, load_recognition(options["rec_model"], arch=options["rec_arch"]).alignment)
        if seen:
            console.tell(seen)
    constants = {**of_fake, "data": options["data"], "data_digest": digest}
    out = Path(options["out"]) if options["out"] else default_out(options)
    check_place(out, "--out")
    known = recorded(metrics, out, {**constants, "seed": options["seed"]}, observers)
    missing = metrics if options["overwrite"] else [metric for metric in metrics if not known[metric.name]]
    if not missing:
        show([line for metric in metrics for line in known[metric.name]])
        console.tell(f"All is recorded in {out} already; --overwrite measures again")
        return None
    return Plan({**options, "workers": workers}, missing, instruments, digest, out, constants)


def default_metrics(instruments: Instruments, network: bool) -> list[Metric]:
    """FID, or where there is no Inception what stands for it, under its own name."""
    if instruments.has_inception():
        name, why = "fid50k_full" if network else "fid", "for there is an Inception"
    else:
        name = "fd_arcface"
        why = f"which is no FID, for there is no Inception: {way_to(INCEPTION)}"
    console.tell(f"Measuring {name}, {why}")
    return parse_metrics(name)


def work(plan: Plan, stop: StopSignals) -> None:
    """Measures; called by every process. Rank 0 alone prints and writes."""
    keep_freed_memory()
    options = plan.options
    device = distributed.everywhere(partial(distributed.pick_device, options["device"]))
    networks.prepare(device)
    observers = distributed.everywhere(partial(plan.instruments.open, plan.metrics, device))
    sources = distributed.everywhere(partial(sources_of, options["data"], options["spectra"]))
    real = folder_side(sources, options["batch"], options["workers"], digest=plan.digest)
    fake = distributed.everywhere(partial(fake_side, options, device))
    found = measure(plan.metrics, RealPictures(real, observers), fake, options["seed"], device)
    with full_memory_named("--batch", "a smaller one needs less"):
        lines = lost_reader_named(partial(record, found, plan))
    if distributed.rank() == 0:
        show(lines)
        console.tell(f"Recorded in {plan.out}")


# ----------------------------------------------------------------------------
# The two sides.


def sources_of(path: str, spectra: str, option: str = "--data") -> Sources:
    """The pictures of the wanted spectra at a path. Raises UserError where they are not there."""
    if spectra != VIS_AND_NIR:
        return {spectra: open_pictures(path, spectra, option)}
    found = open_spectra(path, next(iter(SPECTRA)), option)
    missing = [name for name in SPECTRA if name not in found]
    if missing:
        raise UserError(f"{option}: {path}: no {SPECTRA[missing[0]].folder} pictures; --spectra vis measures one alone")
    return {name: found[name] for name in SPECTRA}


def check_network(
    options: dict[str, Any], alignment: Template | None, pixels: int, metrics: list[Metric]
) -> tuple[None, dict[str, Any]]:
    """Its size, conditions and alignment; and what the record says of it."""
    where, path = f"--gen-model: {options['gen_model']}", features_path(options)
    generator, features = load_generator(options["gen_model"]), load_features(path)
    length, wanted = features.features.shape[1], generator.metadata.get("recognition_model")
    refuse_other_size(where, generator.resolution, options["data"], pixels)
    refuse_other_alignment(where, template_of(generator.metadata, where), options["data"], alignment)
    if not generator.c_dim:  # whatever it is given, it draws from the latent alone
        refuse_conditions(metrics)
    elif length != generator.c_dim:
        raise UserError(f"--features: {path}: {length} numbers each; {generator.c_dim} are needed")
    elif wanted not in (None, features.model):
        raise UserError(f"--features: {path}: of recognition model {features.model}; the network knows {wanted}")
    if any(metric.family.conditions for metric in metrics) and ARCFACE in detectors_of(metrics):
        model = load_recognition(options["rec_model"], arch=options["rec_arch"])
        refuse_other_model(features, f"--features: {path}", model.fingerprint, options["rec_model"])
    names = ("gen_model", "truncation", "noise_mode")
    digests = {"gen_model_sha256": sha256_file(options["gen_model"]), "features_sha256": sha256_file(path)}
    return None, {**{name: options[name] for name in names}, **digests}


def check_pictures(
    options: dict[str, Any], alignment: Template | None, pixels: int, workers: int
) -> tuple[Side, dict[str, Any]]:
    """Their size, filter and alignment; and what the record says of them."""
    path = options["fake"]
    sources = sources_of(path, options["spectra"], "--fake")
    own, digest = inspect(sources, workers, "--fake")
    refuse_other_size(f"--fake: {path}", own, options["data"], pixels)
    described = read_description(Path(path), "--fake")
    refuse_other_filter(f"--fake: {path}", described, options["data"])
    refuse_other_alignment(f"--fake: {path}", template_of(described), options["data"], alignment)
    return folder_side(sources, options["batch"]), {"fake": path, "fake_digest": digest}


def refuse_other_size(where: str, own: int, data: str, pixels: int) -> None:
    if own != pixels:
        raise UserError(f"{where}: pictures of {own}x{own}, but those of --data {data} are {pixels}x{pixels}")


def refuse_other_filter(where: str, described: dict[str, Any], data: str) -> None:
    """Of pictures that were made smaller; those that were drawn have none (PAIN_POINTS row 10)."""
    known = list(FILTERS)
    own, theirs = described.get("resize"), read_description(Path(data)).get("resize")
    if own in known and theirs in known and own != theirs:
        raise UserError(f"{where}: reduced by {own}, but --data {data} by {theirs}; prepare both in one way")


def refuse_other_alignment(where: str, own: Template | None, data: str, alignment: Template | None) -> None:
    """Distances between pictures that are cut out in another way say nothing (PAIN_POINTS row 10)."""
    if own is not None and alignment is not None and not np.allclose(own.points, alignment.points, atol=1e-6):
        raise UserError(f"{where}: its faces are aligned to another template than those of --data {data}")


def features_path(options: dict[str, Any]) -> Path:
    return Path(options["features"]) if options["features"] else Path(options["data"]) / FILE_NAME


def fake_side(options: dict[str, Any], device: torch.device) -> Side:
    """What is measured, in this process."""
    if options["fake"] is not None:
        sources = sources_of(options["fake"], options["spectra"], "--fake")
        return folder_side(sources, options["batch"], options["workers"], options["seed"])
    generator, features = load_generator(options["gen_model"], device), load_features(features_path(options)).features
    drawn = [options[name] for name in ("seed", "batch", "truncation", "noise_mode")]
    spectra = tuple(SPECTRA) if options["spectra"] == VIS_AND_NIR else (options["spectra"],)
    return network_side(Drawings(generator, features, *drawn), spectra)


# ----------------------------------------------------------------------------
# The record.


def default_out(options: dict[str, Any]) -> Path:
    path = Path(options["gen_model"] or options["fake"])
    return (path if path.is_dir() else path.parent) / METRICS_FILE


def record(found: Iterable[list[dict[str, Any]]], plan: Plan) -> list[dict[str, Any]]:
    """All lines, with what is the same in each. Rank 0 appends those of a metric at once: none is there in part."""
    lines = []
    for own in ([{**line, **plan.constants} for line in several] for several in found):
        if distributed.rank() == 0:
            plan.out.parent.mkdir(parents=True, exist_ok=True)
            append_lines(plan.out, own)
        lines += own
    return lines


def recorded(
    metrics: list[Metric], out: Path, same: dict[str, Any], observers: dict[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """By metric its latest lines in `out`, of the same pictures, settings and detectors. Some figures have no value
    for some pictures, so any line says that the metric was measured."""
    with option_named("--out", out):
        lines = read_lines(out) if out.exists() else []
    found = {}
    for metric in metrics:
        wanted = {**same, **looked_with(metric, observers)}
        own = [line for line in lines if wanted.items() <= line.items() and line["metric"] in metric.figures]
        found[metric.name] = list({(line["metric"], line["spectrum"]): line for line in own}.values())
    return found


def show(lines: list[dict[str, Any]]) -> None:
    """A line a result."""
    for line in lines:
        spread = f" (sd {line['sd']:.4g})" if line.get("sd") is not None else ""
        value = math.nan if line["value"] is None else line["value"]  # JSON has no NaN
        console.result(line, f"{line['metric']:28} {line['spectrum']:8} {value:.6g}{spread}")
