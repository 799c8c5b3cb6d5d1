"""The real people whom nobody may resemble: the features of --real-features, for all commands that compare with them.

Features of one recognition model mean nothing to another, so a file that says it belongs to another is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arcface.weights import RecognitionModel
from dnnlib.errors import UserError
from dnnlib.files import StrPath, sha256_file
from generation import thresholds as limits
from generation.presets import PRESETS, compared_features
from generation.privacy_diversity import Unit, unit_rows
from generation.rules import FIRST, NONE, Rule, Rules
from generation.thresholds import Thresholds
from torch_utils.feature_file import UNKNOWN_MODEL, FeatureSet, load_features, refuse_other_model

OPTION = "--real-features"
ALIKE = 1e-6  # rounding apart, the same


@dataclass(frozen=True)
class RealPeople:
    """Features from none, one or several files of the same recognition model; false where there are none."""

    paths: Sequence[str]
    sets: list[FeatureSet]  # one a file

    @classmethod
    def load(cls, paths: Sequence[str]) -> RealPeople:
        """Raises UserError for a file that is missing, broken or says nothing."""
        sets = [load_features(path, OPTION) for path in paths]
        for path, real in zip(paths, sets, strict=True):
            check_spread(real, f"{OPTION}: {path}")
        return cls(paths, sets)

    def __bool__(self) -> bool:
        return bool(self.sets)

    def of_model(self, fingerprint: str, rec_model: StrPath) -> list[str]:
        """Warnings for what cannot be known. Raises UserError for features of another model than `rec_model`."""
        warnings = []
        for path, real in zip(self.paths, self.sets, strict=True):
            refuse_other_model(real, f"{OPTION}: {path}", fingerprint, rec_model)
            if real.model == UNKNOWN_MODEL:
                warnings.append(f"{OPTION}: {path} does not say which model made it; {rec_model} is assumed")
        return warnings

    def check_size(self, size: int, but: str) -> None:
        """Raises UserError for features that are not of `size` numbers; `but` says who has those."""
        for path, real in zip(self.paths, self.sets, strict=True):
            if real.features.shape[1] != size:
                raise UserError(f"{OPTION}: {path}: features of {real.features.shape[1]} numbers, but {but}")

    def compared(self, rules: Rules, size: int) -> Unit:
        """What samples are compared with: [R, size], of length one."""
        features = np.concatenate([np.empty((0, size), dtype=np.float32), *(real.features for real in self.sets)])
        people = [identity for real in self.sets for identity in real.identities]
        return unit_rows(compared_features(features, people, rules))

    def thresholds(self, path: StrPath | None, rules: Rules, model: RecognitionModel, rec_model: StrPath) -> Thresholds:
        """The preset's, those of the file, or else calibrated on the first set. Raises UserError."""
        moments = PRESETS[rules.preset].moments
        if moments is not None:
            return limits.from_moments(*moments, model.fingerprint)
        if path is not None:
            return thresholds_of(path, model, rec_model)
        if not self:
            raise UserError(f"--thresholds: needed where there are no {OPTION}; filter.py calibrate makes them")
        try:
            return limits.calibrate(self.sets[0].features, self.sets[0].identities, model.fingerprint)
        except ValueError as error:
            raise UserError(
                f"--thresholds: not given, and {self.paths[0]} gives none: {error}; features of mode all are needed, "
                "or filter.py calibrate --out thresholds.json"
            ) from error

    def not_promised(self, rules: Rules) -> list[str]:
        """Warnings for what the rules leave open about real people."""
        warnings = []
        if rules.compared == FIRST:
            warnings.append(
                f"--filter-preset: {rules.preset} compares with one feature of each real person, as the original did; "
                "who is like another picture of somebody real can slip through"
            )
        if Rule.PRIVATE not in rules.active:
            warnings.append(
                "--no-privacy-check: the samples are not compared with real people; nothing is promised about it"
                if not self or rules.compared == NONE
                else "--rules: private is not in force; likeness to real people is recorded, and nothing promised "
                "about it"
            )
        return warnings

    def record(self) -> dict[str, Any]:
        """What settings.json says of them."""
        records = [features_record(path, features) for path, features in zip(self.paths, self.sets, strict=True)]
        return {
            **{name: ", ".join(record[name] for record in records) for name in ("name", "sha256")},
            "count": sum(map(len, self.sets)),
            "people": len({person for features in self.sets for person in features.identities}),
        }


def features_record(path: StrPath, real: FeatureSet) -> dict[str, Any]:
    """What settings.json says of a file of features."""
    return {
        "name": Path(path).name,
        "sha256": sha256_file(path),
        "count": len(real),
        "people": len(set(real.identities)),
    }


def thresholds_of(path: StrPath, model: RecognitionModel, rec_model: StrPath) -> Thresholds:
    """Those of a file. Raises UserError where they are another model's."""
    loaded = limits.load_thresholds(path)
    if loaded.recognition_model != model.fingerprint:
        raise UserError(
            f"--thresholds: {path}: calibrated for recognition model {loaded.recognition_model}, but --rec-model "
            f"{rec_model} is {model.fingerprint}; run filter.py calibrate with it"
        )
    return loaded


def check_spread(real: FeatureSet, where: str) -> None:
    """Raises UserError, starting with `where`, for features that do not tell people apart: nothing could be private."""
    rows = real.features.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    people, owner = np.unique(real.identities, return_inverse=True)
    if len(rows) > 1 and np.linalg.norm(rows.mean(axis=0)) > 1 - ALIKE:
        raise UserError(f"{where}: all {len(rows)} features point the same way; the recognition model saw nothing")
    means = np.zeros((len(people), rows.shape[1]))
    np.add.at(means, owner, rows)
    means /= np.bincount(owner)[:, None]
    if len(people) > 1 and np.abs(means - means[0]).max() < ALIKE:
        raise UserError(f"{where}: the features of all {len(people)} people are the same; the file is broken")
