"""Everything that goes into a run, read and checked before anything is made.

A network, a file of features and a file of thresholds each say which recognition model they belong to. Features of one
model mean nothing to another, so what does not belong together is refused by name (PAIN_POINTS.md, row 11).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from arcface.alignment import Template, frame_between, template_of
from arcface.detection import FaceDetector
from arcface.preprocess import Frame, protocol
from arcface.weights import RecognitionModel, load_recognition
from dnnlib.errors import UserError
from dnnlib.files import StrPath, sha256_file
from generation import thresholds as limits
from generation.identity_sampling import PAPER_NORM
from generation.thresholds import Thresholds
from torch_utils.feature_file import UNKNOWN_MODEL, FeatureSet, load_features, refuse_other_model
from training.generator import Generator
from training.snapshots import load_generator

NO_DETECTOR = "none"
DEFAULT_DETECTOR = "facenet-pytorch"


@dataclass
class Inputs:
    """Loaded and consistent. alignment: of the pictures that the generator has learned, None: not known. `sources` goes
    into settings.json; `warnings` are lines for the user."""

    generator: Generator
    alignment: Template | None
    model: RecognitionModel
    detector: FaceDetector | None
    real: FeatureSet | None
    thresholds: Thresholds
    feature_norm: float  # of the conditions that the generator knows
    sources: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def load_inputs(
    *,
    gen_model: StrPath,
    rec_model: StrPath,
    real_features: StrPath | None,
    thresholds: StrPath | None,
    detector: str,
    identities: str,
    privacy_check: bool,
    rec_arch: str | None = None,
    device: torch.device | str = "cpu",
) -> Inputs:
    """Read and check all inputs of generate_dataset.py; nothing is created.

    Raises UserError for a file that is missing or broken, for things of different recognition models, for a run without
    real features that does not say --no-privacy-check, and where no thresholds can be had.
    """
    real = _real(real_features, identities, privacy_check)
    generator = load_generator(gen_model, device)
    model = load_recognition(rec_model, device, rec_arch)
    alignment = template_of(generator.metadata, f"--gen-model: {gen_model}")
    frame = frame_between(alignment, model.alignment)
    warnings = _same_model(generator, gen_model, model, rec_model, real, real_features, identities)
    chosen = thresholds_for(thresholds, real, real_features, model, rec_model)
    warnings += chosen.warnings
    if not generator.c_dim:
        raise UserError(
            f"--gen-model: {gen_model}: an unconditional network, which cannot draw a person twice; one that was "
            "trained on identity features is needed (train.py --cond true --init-from can begin with others)"
        )
    if real is not None and real.features.shape[1] != generator.c_dim:
        raise UserError(
            f"--real-features: {real_features}: features of {real.features.shape[1]} numbers, but the generator "
            f"{gen_model} is conditioned on {generator.c_dim}"
        )
    if not privacy_check:
        warnings.append(
            "--no-privacy-check: the samples are not compared with real people; nothing is promised about it"
        )
    norm, norm_warnings = _feature_norm(generator, gen_model, rec_model, real)
    warnings += norm_warnings
    sources: dict[str, Any] = {
        "generator": {
            "name": Path(gen_model).name,
            "sha256": sha256_file(gen_model),
            "resolution": generator.resolution,
            "images seen": generator.metadata.get("images_seen"),
        },
        "recognition_model": model_record(rec_model, model, frame),
        "real_features": None if real is None or real_features is None else features_record(real_features, real),
        "detector": detector,
        **(alignment.record() if alignment is not None else {}),
    }
    finder = detector_for(detector, device)
    return Inputs(generator, alignment, model, finder, real, chosen, norm, sources, warnings)


def model_record(path: StrPath, model: RecognitionModel, frame: Frame | None = None) -> dict[str, Any]:
    """What settings.json says of the recognition model. frame: the part of the pictures that it sees, None: all."""
    record = {"name": Path(path).name, "architecture": model.arch, "fingerprint": model.fingerprint}
    return record if frame is None else {**record, "sees": protocol(model.input_size, model.color_order, frame)}


def features_record(path: StrPath, real: FeatureSet) -> dict[str, Any]:
    """What settings.json says of the real features."""
    return {
        "name": Path(path).name,
        "sha256": sha256_file(path),
        "count": len(real),
        "people": len(set(real.identities)),
    }


def detector_for(detector: str, device: torch.device | str) -> FaceDetector | None:
    """--detector: none, the installed weights, or those in a folder or wheel."""
    if detector == NO_DETECTOR:
        return None
    return FaceDetector.load(None if detector == DEFAULT_DETECTOR else detector, device=str(device))


def _real(path: StrPath | None, identities: str, privacy_check: bool) -> FeatureSet | None:
    if path is None:
        if privacy_check:
            raise UserError(
                "--real-features: needed, so that nobody real is drawn: the identity_features.safetensors of the "
                "generator's training data (dataset_tool.py features makes it), or --no-privacy-check to go without"
            )
        if identities == "real-like":
            raise UserError("--identities: real-like needs --real-features")
        return None
    return load_features(path, "--real-features")


def _same_model(
    generator: Generator,
    gen_model: StrPath,
    model: RecognitionModel,
    rec_model: StrPath,
    real: FeatureSet | None,
    real_features: StrPath | None,
    identities: str,
) -> list[str]:
    """Refuses what belongs to different recognition models; returns warnings for what cannot be known."""
    warnings = []
    conditioned_on = generator.metadata.get("recognition_model", UNKNOWN_MODEL)
    if real is not None:
        refuse_other_model(real, f"--real-features: {real_features}", model.fingerprint, rec_model)
    if real is not None and real.model == UNKNOWN_MODEL:
        warnings.append(f"--real-features: {real_features} does not say which model made it; {rec_model} is assumed")
    if conditioned_on not in (model.fingerprint, UNKNOWN_MODEL):
        if identities == "real-like":
            raise UserError(
                f"--rec-model: {rec_model} is {model.fingerprint}, but the generator {gen_model} is conditioned on "
                f"features of {conditioned_on}; real-like identities need that model"
            )
        warnings.append(
            f"--rec-model: {rec_model} filters, but the generator was conditioned on features of another model"
        )
    return warnings


def _feature_norm(
    generator: Generator, gen_model: StrPath, rec_model: StrPath, real: FeatureSet | None
) -> tuple[float, list[str]]:
    """The norm of the conditions that the generator knows; released pickles say nothing about their conditions."""
    known = generator.metadata.get("feature_norm")
    if generator.metadata.get("recognition_model", UNKNOWN_MODEL) != UNKNOWN_MODEL:
        return float(known or PAPER_NORM), []
    norm = float(known or (real.norm if real is not None else PAPER_NORM))
    source = "its own" if known else "that of --real-features" if real is not None else "the paper's"
    return norm, [
        f"--gen-model: {gen_model} does not say whose features it was conditioned on; those of {rec_model} are "
        f"assumed, with {source} norm {norm:.4g}"
    ]


def thresholds_for(
    path: StrPath | None,
    real: FeatureSet | None,
    real_features: StrPath | None,
    model: RecognitionModel,
    rec_model: StrPath,
) -> Thresholds:
    """From the file, or else calibrated on the real features."""
    if path is not None:
        loaded = limits.load_thresholds(path)
        if loaded.recognition_model != model.fingerprint:
            raise UserError(
                f"--thresholds: {path}: calibrated for recognition model {loaded.recognition_model}, but --rec-model "
                f"{rec_model} is {model.fingerprint}; run filter.py calibrate with it"
            )
        return loaded
    if real is None:
        raise UserError("--thresholds: needed where there are no --real-features; filter.py calibrate makes them")
    try:
        return limits.calibrate(real.features, real.identities, model.fingerprint)
    except ValueError as error:
        raise UserError(
            f"--thresholds: not given, and {real_features} gives none: {error}; features of mode all are needed, or "
            "filter.py calibrate --out thresholds.json"
        ) from error
