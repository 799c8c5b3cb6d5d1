"""What filter.py apply filters with, read and checked before anything is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arcface.alignment import Template, frame_between
from arcface.detection import FaceDetector
from arcface.weights import RecognitionModel
from dnnlib.errors import UserError
from generation.inputs import check_spread, described_features, detector_for, model_record, thresholds_for
from generation.presets import PRESETS, compared_features
from generation.privacy_diversity import Rules, Unit, unit_rows
from generation.thresholds import Thresholds, from_moments
from torch_utils.feature_file import UNKNOWN_MODEL, load_features, refuse_other_model

OPTION = "--real-features"


@dataclass
class ApplyInputs:
    """Loaded and consistent. real [R, D]: what is compared with; record: of settings.json."""

    model: RecognitionModel
    detector: FaceDetector | None
    real: Unit
    thresholds: Thresholds
    record: dict[str, Any]
    warnings: list[str]


def check_apply_inputs(
    model: RecognitionModel,
    rec_model: str,
    real_features: Sequence[str],
    thresholds: str | None,
    rules: Rules,
    detector: str,
    alignment: Template | None,
) -> ApplyInputs:
    """Raises UserError for files that are missing or broken, and for what belongs to another recognition model.

    alignment: of the dataset's pictures. Without `thresholds` the first features give them, or the rules' preset.
    """
    paths = real_features
    sets = [load_features(path, OPTION) for path in paths]
    warnings = []
    for path, real in zip(paths, sets, strict=True):
        check_spread(real, f"{OPTION}: {path}")
        refuse_other_model(real, f"{OPTION}: {path}", model.fingerprint, rec_model)
        if real.model == UNKNOWN_MODEL:
            warnings.append(f"{OPTION}: {path} does not say which model made it; {rec_model} is assumed")
        if real.features.shape[1] != model.num_features:
            raise UserError(
                f"{OPTION}: {path}: features of {real.features.shape[1]} numbers, but --rec-model {rec_model} gives "
                f"{model.num_features}"
            )
    moments = PRESETS[rules.preset].moments
    if moments is not None:
        limits = from_moments(*moments, model.fingerprint)
    else:
        limits = thresholds_for(thresholds, sets[0], paths[0], model, rec_model)
    rows = [unit_rows(compared_features(real.features, real.identities, rules)) for real in sets]
    record = {
        "recognition_model": model_record(rec_model, model, frame_between(alignment, model.alignment)),
        "real_features": described_features(paths, sets),
        "detector": detector,
    }
    finder = detector_for(detector, model.device)
    return ApplyInputs(model, finder, np.concatenate(rows), limits, record, [*warnings, *limits.warnings])
