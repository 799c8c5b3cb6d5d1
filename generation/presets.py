"""From the options of a command line to the rules in force: pure, and every contradiction is one line.

A preset fills what the user leaves open:

    preset     compared with              cosine  thresholds                          probability  tries
    default    every real feature         signed  calibrated (--thresholds)           0.97         2500
    arcbiface  a real person's first one  |cos|   0.622, 0.622, 0.853, the paper's    0.97         2500

`arcbiface` is the original's filter to the letter (FACTS.md). Its one feature a person lets people through who are
near to another picture of somebody real; it is there to compare with, not to release data. What is given beside it
must not say otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnnlib.errors import UserError
from generation.choices import NO_DETECTOR
from generation.rules import EVERY, FIRST, MIN_FACE_PROBABILITY, NONE, SWITCHED, USUAL, Rule, Rules
from generation.thresholds import PAPER_MEAN, PAPER_SD
from torch_utils.spectra import SPECTRA

TRIES = 2500


@dataclass(frozen=True)
class Preset:
    """moments: mean and sd of mated scores that the thresholds come from; None: from a file or the real features."""

    absolute: bool = False
    compared: str = EVERY
    min_face_prob: float = MIN_FACE_PROBABILITY
    tries: int = TRIES
    moments: tuple[float, float] | None = None

    @property
    def fixed(self) -> bool:
        """Whether it allows of no other settings."""
        return self.moments is not None


PRESETS = {
    "default": Preset(),
    "arcbiface": Preset(absolute=True, compared=FIRST, moments=(PAPER_MEAN, PAPER_SD)),
}


@dataclass(frozen=True)
class RuleOptions:
    """The options that say how to filter; None and False: left open."""

    filter_preset: str = "default"
    rules: str | None = None  # names, between commas
    min_face_prob: float | None = None
    absolute: bool = False
    min_feature_norm: float | None = None
    min_sharpness: float | None = None
    check_nir: bool = False
    no_privacy_check: bool = False
    detector: str = ""
    thresholds: str | None = None
    tries: int | None = None

    @classmethod
    def of(cls, options: dict[str, Any]) -> RuleOptions:
        """Those of a command that has some of them."""
        return cls(**{name: options[name] for name in cls.__dataclass_fields__ if name in options})


def build_rules(options: RuleOptions) -> Rules:
    """The rules in force. Raises UserError for options that contradict one another or the preset."""
    preset = PRESETS[options.filter_preset]
    if preset.fixed:
        _refuse_others(options, preset)
    active = _active(options)
    return Rules(
        active=active,
        min_face_prob=preset.min_face_prob if options.min_face_prob is None else options.min_face_prob,
        absolute=preset.absolute or options.absolute,
        min_feature_norm=options.min_feature_norm,
        min_sharpness=options.min_sharpness,
        checked=tuple(name for name in SPECTRA if name != "vis") if options.check_nir else (),
        compared=NONE if options.no_privacy_check else preset.compared,
        preset=options.filter_preset,
    )


def tries(options: RuleOptions) -> int:
    """Candidates of an identity at most."""
    return PRESETS[options.filter_preset].tries if options.tries is None else options.tries


def compared_features(features: NDArray, identities: Iterable[str], rules: Rules) -> NDArray:
    """The rows of `features` [M, D] that samples are compared with: all, the first listed of each person, or none."""
    if rules.compared == NONE:
        return features[:0]
    if rules.compared == EVERY:
        return features
    first: dict[str, int] = {}
    for row, identity in enumerate(identities):
        first.setdefault(identity, row)
    return features[np.array(list(first.values()), dtype=np.int64)]


# ----------------------------------------------------------------------------
# What does not go together.


def _refuse_others(options: RuleOptions, preset: Preset) -> None:
    """Raises UserError for what a fixed preset has otherwise."""
    usual = ",".join(rule.value for rule in USUAL)
    rules = None if options.rules is None else ",".join(rule.value for rule in _named(options.rules))
    wanted: dict[str, tuple[Any, Any]] = {
        "rules": (rules, usual),
        "min_face_prob": (options.min_face_prob, preset.min_face_prob),
        "min_feature_norm": (options.min_feature_norm, "no such rule"),
        "min_sharpness": (options.min_sharpness, "no such rule"),
        "check_nir": (options.check_nir or None, "VIS pictures only"),
        "no_privacy_check": (options.no_privacy_check or None, "the private rule"),
        "detector": (NO_DETECTOR if options.detector == NO_DETECTOR else None, "a face detector"),
        "thresholds": (options.thresholds, "thresholds of its own"),
        "tries": (options.tries, preset.tries),
    }
    for name, (given, fixed) in wanted.items():
        if given is not None and given != fixed:
            raise UserError(
                f"--{name.replace('_', '-')}: --filter-preset {options.filter_preset} has {fixed}, as the original "
                "did; leave one of the two out"
            )


def _active(options: RuleOptions) -> tuple[Rule, ...]:
    """The rules in force, in their order."""
    given = {name: getattr(options, name) for name in ("min_feature_norm", "min_sharpness")}
    numbers = [name for name, value in given.items() if value is not None]
    for name in numbers:
        if not math.isfinite(given[name]):
            raise UserError(f"--{name.replace('_', '-')}: {given[name]} is no limit; a number is needed")
    off = {
        "--no-privacy-check": {Rule.PRIVATE} if options.no_privacy_check else set(),
        f"--detector {NO_DETECTOR}": {Rule.FACE, Rule.FRONTAL} if options.detector == NO_DETECTOR else set(),
    }
    if options.rules is None:
        wanted = {*USUAL, *([Rule.QUALITY] if numbers else [])} - set().union(*off.values())
    else:
        wanted = set(_named(options.rules))
        for words, rules in off.items():
            if both := [rule.value for rule in SWITCHED if rule in wanted & rules]:
                raise UserError(f"--rules: {both[0]} cannot be in force with {words}; leave one of the two out")
        if numbers and Rule.QUALITY not in wanted:
            raise UserError(f"--{numbers[0].replace('_', '-')}: asks for quality, which is not among the --rules given")
        if Rule.QUALITY in wanted and not numbers:
            raise UserError("--rules: quality needs a number: --min-feature-norm or --min-sharpness")
    if options.check_nir and not wanted & {Rule.PRIVATE, Rule.SAME}:
        raise UserError("--check-nir: applies the rules private and same, and neither is in force")
    if options.min_face_prob is not None and Rule.FACE not in wanted:
        raise UserError("--min-face-prob: the rule face is not in force; leave the option out")
    return tuple(rule for rule in SWITCHED if rule in wanted)


def _named(text: str) -> list[Rule]:
    """'face,private' -> the rules, in their order."""
    words = [word.strip() for word in text.split(",")]
    known = {rule.value: rule for rule in SWITCHED}
    if unknown := [word for word in words if word not in known]:
        raise UserError(f"--rules: {unknown[0]!r} is no rule; some of {','.join(known)} are needed")
    return [rule for rule in SWITCHED if rule.value in words]
