"""What filter.py apply filters with, read and checked before anything is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from arcface.alignment import Template, frame_between
from arcface.detection import FaceDetector
from arcface.weights import RecognitionModel
from generation.inputs import detector_for, model_record
from generation.privacy_diversity import Unit
from generation.real_people import RealPeople
from generation.rules import Rules
from generation.thresholds import Thresholds


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
    people = RealPeople.load(real_features)
    warnings = people.of_model(model.fingerprint, rec_model)
    people.check_size(model.num_features, f"--rec-model {rec_model} gives {model.num_features}")
    limits = people.thresholds(thresholds, rules, model, rec_model)
    warnings += [*limits.warnings, *people.not_promised(rules)]
    record = {
        "recognition_model": model_record(rec_model, model, frame_between(alignment, model.alignment)),
        "real_features": people.record(),
        "detector": detector,
    }
    finder = detector_for(detector, model.device)
    return ApplyInputs(model, finder, people.compared(rules, model.num_features), limits, record, warnings)
