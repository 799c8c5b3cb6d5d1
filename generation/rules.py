"""Which rules the privacy-and-diversity filter has, and what says how they are applied. What they decide is in
generation.privacy_diversity; command lines, which name them, import this alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Any

MIN_FACE_PROBABILITY = 0.97
KEPT = "kept"
EVERY, FIRST, NONE = "every one", "first of each person", "none"


class Rule(str, Enum):
    """What can refuse a candidate. The value is the verdict in manifest.jsonl and the key in summary.json."""

    FACE = "face"
    FRONTAL = "frontal"
    QUALITY = "quality"
    PRIVATE = "private"
    UNIQUE = "unique"
    SAME = "same"
    REPEAT = "repeat"
    TRIES = "tries"


SWITCHED = tuple(rule for rule in Rule if rule is not Rule.TRIES)  # --rules; the tries always end
USUAL = tuple(rule for rule in SWITCHED if rule is not Rule.QUALITY)


@dataclass(frozen=True)
class Rules:
    """Which rules are in force, and their numbers; the cosines at which they decide are generation.thresholds'.

    A rule that is not in force refuses nobody and promises nothing; its similarities are recorded all the same.
    """

    active: tuple[Rule, ...] = USUAL
    min_face_prob: float = MIN_FACE_PROBABILITY
    absolute: bool = False  # |cos| in the private and unique rules
    min_feature_norm: float | None = None  # quality: length of the raw VIS feature. None: any
    min_sharpness: float | None = None  # quality: of the VIS picture, see `sharpness`. None: any
    checked: tuple[str, ...] = ()  # spectra beside VIS whose own embedding must be private and of the same person
    compared: str = EVERY  # the real features that samples are compared with: EVERY, FIRST (lets people through), NONE
    preset: str = "default"

    def ceiling(self, rule: Rule, threshold: float) -> float:
        """The similarity that the rule allows at most: any, where it is not in force."""
        return threshold if rule in self.active else inf

    def floor(self, rule: Rule, threshold: float) -> float:
        """The similarity that the rule wants at least: any, where it is not in force."""
        return threshold if rule in self.active else -inf

    def as_dict(self) -> dict[str, Any]:
        """What settings.json says about the rules."""
        return {
            "filter_preset": self.preset,
            "rules": [rule.value for rule in self.active],
            "min_face_prob": self.min_face_prob,
            "absolute": self.absolute,
            "min_feature_norm": self.min_feature_norm,
            "min_sharpness": self.min_sharpness,
            "checked_spectra": ["vis", *self.checked],
            "real_features_compared": self.compared,
        }


USUAL_RULES = Rules()
