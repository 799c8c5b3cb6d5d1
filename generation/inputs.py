"""Everything that goes into a run, read and checked before anything is made.

A network, a file of features and a file of thresholds each say which recognition model they belong to. Features of one
model mean nothing to another, so what does not belong together is refused by name (PAIN_POINTS.md, row 11).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from arcface.alignment import Template, frame_between, sight, template_of
from arcface.detection import FaceDetector
from arcface.preprocess import Frame, protocol
from arcface.weights import RecognitionModel, load_recognition
from dnnlib.errors import UserError
from dnnlib.files import StrPath, sha256_file
from generation.choices import DEFAULT_DETECTOR, KINDS, NO_DETECTOR
from generation.identity_sampling import PAPER_NORM, load_given
from generation.real_people import OPTION, RealPeople, features_record
from generation.rules import Rule, Rules
from generation.thresholds import Thresholds
from torch_utils.feature_file import UNKNOWN_MODEL, FeatureSet
from training.generator import Generator
from training.snapshots import load_generator

NORMALISED = 1e-3  # from length 1


class Files(NamedTuple):
    """What the user named. real_features: none, one, or several of the same model."""

    gen_model: str
    rec_model: str
    real_features: tuple[str, ...]
    thresholds: str | None
    detector: str
    identities: str  # one of generation.choices.KINDS, or a file
    rec_arch: str | None = None


@dataclass
class Networks:
    """Loaded, on a device."""

    generator: Generator
    model: RecognitionModel
    detector: FaceDetector | None


@dataclass
class Inputs:
    """Checked and consistent. alignment: of the pictures that the generator has learned, None: not known. `sources`
    goes into settings.json; `warnings` are lines for the user, `lines` what he may like to know."""

    alignment: Template | None
    thresholds: Thresholds
    feature_norm: float  # of the conditions that the generator knows
    sources: dict[str, Any]
    given: int | None = None  # features in the file of --identities
    warnings: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def load_networks(files: Files, device: torch.device | str = "cpu") -> Networks:
    """Raises UserError for a file that is missing or broken."""
    generator = load_generator(files.gen_model, device)
    model = load_recognition(files.rec_model, device, files.rec_arch)
    return Networks(generator, model, detector_for(files.detector, device))


def load_identities(files: Files, generator: Generator) -> FeatureSet | None:
    """The features of the user's own people; None where --identities names no file. Raises UserError."""
    if files.identities in KINDS:
        return None
    return load_given(files.identities, generator.c_dim, _conditioned_on(generator))


def check_inputs(files: Files, ids: int, rules: Rules) -> Inputs:
    """Read and check all inputs of generate_dataset.py; nothing is created. ids: identities wanted.

    Raises UserError for a file that is missing or broken, for things of different recognition models, for a run without
    real features that does not say --no-privacy-check, and where no thresholds can be had.
    """
    _check_wishes(files, rules)
    real = RealPeople.load(files.real_features)
    networks = load_networks(files)
    generator, model = networks.generator, networks.model
    alignment = template_of(generator.metadata, f"--gen-model: {files.gen_model}")
    warnings = _same_model(networks, files, real)
    chosen = real.thresholds(files.thresholds, rules, model, files.rec_model)
    _check_sizes(generator, files, real)
    norm, more = _feature_norm(generator, files, real)
    warnings += [*chosen.warnings, *more]
    warnings += real.not_promised(rules)
    sources = _sources(networks, files, real, alignment)
    own = load_identities(files, generator)
    if own is not None:
        warnings += _check_given(own, files.identities, ids)
        sources["identity_file"] = features_record(files.identities, own)
    seen = sight(alignment, model.alignment)
    given = None if own is None else len(own)
    return Inputs(alignment, chosen, norm, sources, given, warnings, [seen] if seen else [])


def _check_wishes(files: Files, rules: Rules) -> None:
    if not files.real_features and Rule.PRIVATE in rules.active:
        raise UserError(
            f"{OPTION}: needed, so that nobody real is drawn: the identity_features.safetensors of the "
            "generator's training data (dataset_tool.py features makes it), or --no-privacy-check to go without"
        )
    if not files.real_features and files.identities == "real-like":
        raise UserError(f"--identities: real-like needs {OPTION}")


def _check_given(own: FeatureSet, path: str, ids: int) -> list[str]:
    """Of the features in the file of --identities; returns warnings for what cannot be known."""
    if ids > len(own):
        raise UserError(f"--identities: {path}: {len(own)} features cannot become {ids} identities; lower --ids")
    if own.model == UNKNOWN_MODEL:
        return [f"--identities: {path} does not say which model made it; the generator's is assumed"]
    return []


def _check_sizes(generator: Generator, files: Files, real: RealPeople) -> None:
    if not generator.c_dim:
        raise UserError(
            f"--gen-model: {files.gen_model}: an unconditional network, which cannot draw a person twice; one that was "
            "trained on identity features is needed (train.py --cond true --init-from can begin with others)"
        )
    real.check_size(generator.c_dim, f"the generator {files.gen_model} is conditioned on {generator.c_dim}")


def _sources(networks: Networks, files: Files, real: RealPeople, alignment: Template | None) -> dict[str, Any]:
    """What settings.json says of the inputs."""
    generator, model = networks.generator, networks.model
    frame = frame_between(alignment, model.alignment)
    return {
        "generator": {
            "name": Path(files.gen_model).name,
            "sha256": sha256_file(files.gen_model),
            "resolution": generator.resolution,
            "images seen": generator.metadata.get("images_seen"),
        },
        "recognition_model": model_record(files.rec_model, model, frame),
        "real_features": real.record() if real else None,
        "detector": files.detector,
        **(alignment.record() if alignment is not None else {}),
    }


def model_record(path: StrPath, model: RecognitionModel, frame: Frame | None = None) -> dict[str, Any]:
    """What settings.json says of the recognition model. frame: the part of the pictures that it sees, None: all."""
    record = {"name": Path(path).name, "architecture": model.arch, "fingerprint": model.fingerprint}
    return record if frame is None else {**record, "sees": protocol(model.input_size, model.color_order, frame)}


def detector_for(detector: str, device: torch.device | str) -> FaceDetector | None:
    """--detector: none, the installed weights, or those in a folder or wheel."""
    if detector == NO_DETECTOR:
        return None
    return FaceDetector.load(None if detector == DEFAULT_DETECTOR else detector, device=str(device))


def _same_model(networks: Networks, files: Files, real: RealPeople) -> list[str]:
    """Refuses what belongs to different recognition models; returns warnings for what cannot be known."""
    fingerprint, rec_model = networks.model.fingerprint, files.rec_model
    conditioned_on = _conditioned_on(networks.generator)
    warnings = real.of_model(fingerprint, rec_model)
    if conditioned_on not in (fingerprint, UNKNOWN_MODEL):
        if files.identities == "real-like" or (files.identities == "spread" and real):
            raise UserError(
                f"--rec-model: {rec_model} is {fingerprint}, but the generator {files.gen_model} is conditioned on "
                f"features of {conditioned_on}; {files.identities} identities need that model"
            )
        warnings.append(
            f"--rec-model: {rec_model} filters, but the generator was conditioned on features of another model"
        )
    return warnings


def _conditioned_on(generator: Generator) -> str:
    """Fingerprint of the recognition model whose features the generator has learned from."""
    return str(generator.metadata.get("recognition_model", UNKNOWN_MODEL))


def _feature_norm(generator: Generator, files: Files, real: RealPeople) -> tuple[float, list[str]]:
    """The norm of the conditions that the generator knows; released pickles say nothing about their conditions."""
    known = generator.metadata.get("feature_norm")
    if _conditioned_on(generator) != UNKNOWN_MODEL:
        return float(known or PAPER_NORM), []
    norm = float(known or (real.sets[0].norm if real else PAPER_NORM))
    if not known and real and abs(norm - 1) < NORMALISED:
        raise UserError(
            f"{OPTION}: {files.real_features[0]}: normalised features, all of length 1, and {files.gen_model} does not "
            "say how long those were that it was conditioned on; raw ones are needed (dataset_tool.py features)"
        )
    source = "its own" if known else f"that of {OPTION}" if real else "the paper's"
    return norm, [
        f"--gen-model: {files.gen_model} does not say whose features it was conditioned on; those of {files.rec_model} "
        f"are assumed, with {source} norm {norm:.4g}"
    ]
