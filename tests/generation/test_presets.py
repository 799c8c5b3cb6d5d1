"""Options to rules: what is in force, and what does not go together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dnnlib.errors import UserError
from generation.presets import PRESETS, RuleOptions, build_rules, compared_features, tries
from generation.rules import FIRST, NONE, Rule, Rules
from generation.thresholds import from_moments


def build(**options):
    return build_rules(RuleOptions(**options))


def refusal(**options):
    with pytest.raises(UserError) as refused:
        build(**options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def names(rules):
    return ",".join(rule.value for rule in rules.active)


def test_left_open_all_but_quality_are_in_force():
    assert build() == Rules()
    assert names(build()) == "face,frontal,private,unique,same,repeat"
    assert tries(RuleOptions()) == 2500 and tries(RuleOptions(tries=7)) == 7


def test_rules_are_switched():
    assert names(build(rules="repeat, private")) == "private,repeat"
    assert names(build(no_privacy_check=True)) == "face,frontal,unique,same,repeat"
    assert names(build(detector="none")) == "private,unique,same,repeat"
    assert names(build(min_sharpness=3.0)) == "face,frontal,quality,private,unique,same,repeat"
    found = build(rules="face,quality", min_feature_norm=20.0, min_face_prob=0.5, absolute=True)
    assert found == Rules((Rule.FACE, Rule.QUALITY), min_face_prob=0.5, absolute=True, min_feature_norm=20.0)
    assert build(check_nir=True).checked == ("nir",)


def test_the_original_preset_to_the_letter():
    rules = build(filter_preset="arcbiface")
    assert rules == Rules(absolute=True, compared=FIRST, preset="arcbiface")
    mean, sd = PRESETS["arcbiface"].moments or (0, 0)
    limits = from_moments(mean, sd, "m")
    assert [limits.unique, limits.same, limits.repeat] == pytest.approx([0.622, 0.622, 0.853])
    assert rules.min_face_prob == 0.97 and tries(RuleOptions(filter_preset="arcbiface")) == 2500
    assert rules.as_dict()["filter_preset"] == "arcbiface"
    assert rules.as_dict()["real_features_compared"] == "first of each person"
    # What says the same may stand beside it.
    agreeing: dict[str, Any] = {
        "absolute": True,
        "min_face_prob": 0.97,
        "tries": 2500,
        "rules": "same,face,frontal,private,unique,repeat",
    }
    assert build(filter_preset="arcbiface", **agreeing) == rules


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("rules", "private,unique"),
        ("min_face_prob", 0.9),
        ("min_feature_norm", 1.0),
        ("min_sharpness", 1.0),
        ("check_nir", True),
        ("no_privacy_check", True),
        ("detector", "none"),
        ("thresholds", "t.json"),
        ("tries", 100),
    ],
)
def test_what_contradicts_the_original_preset(option, value):
    words = refusal(filter_preset="arcbiface", **{option: value})
    assert words.startswith(f"--{option.replace('_', '-')}: --filter-preset arcbiface has ")


def test_what_does_not_go_together():
    assert refusal(rules="face,faces").startswith("--rules: 'faces' is no rule; some of face,frontal,quality,private,")
    assert refusal(rules="tries").startswith("--rules: 'tries' is no rule")
    assert "private cannot be in force with --no-privacy-check" in refusal(rules="private", no_privacy_check=True)
    assert "face cannot be in force with --detector none" in refusal(rules="frontal,face", detector="none")
    assert refusal(rules="face", min_sharpness=1.0).startswith("--min-sharpness: asks for quality")
    assert refusal(rules="quality").startswith("--rules: quality needs a number")
    assert refusal(min_sharpness=float("nan")).startswith("--min-sharpness: nan is no limit")
    assert refusal(rules="unique", check_nir=True).startswith("--check-nir: applies the rules private and same")
    assert refusal(detector="none", min_face_prob=0.9).startswith("--min-face-prob: the rule face is not in force")


def test_the_first_listed_feature_of_each_person():
    features = np.arange(10).reshape(5, 2)
    people = ["b", "a", "b", "c", "a"]
    np.testing.assert_array_equal(compared_features(features, people, Rules(compared=FIRST)), features[[0, 1, 3]])
    assert compared_features(features, people, Rules()) is features
    assert compared_features(features, people, Rules(compared=NONE)).shape == (0, 2)
    assert build(no_privacy_check=True).compared == NONE
