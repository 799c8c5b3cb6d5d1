"""A dataset's promises: one for each rule in force, and a plain word for each that is not."""

from __future__ import annotations

from generation.presets import RuleOptions, build_rules
from generation.promises import promised
from generation.thresholds import Thresholds

LIMITS = Thresholds("m", 0.7, 0.1, unique=0.5, same=0.6, repeat=0.8)


def promises(real=True, detector="facenet-pytorch", **options):
    rules = build_rules(RuleOptions(detector=detector, **options))
    people = {"count": 30, "people": 10} if real else None
    return dict(promised({**rules.as_dict(), "real_features": people, "detector": detector}, LIMITS))


def test_all_that_is_usual_is_promised():
    found = promises()
    assert list(found) == ["Nobody real", "Nobody twice", "One person each", "No copies", "A face to begin with"]
    assert "more than 0.500 like any of the 30 pictures of 10 real people" in found["Nobody real"]
    assert "at least 0.600" in found["One person each"] and "0.800 alike" in found["No copies"]
    assert "exactly one face, detected with a probability of at least 0.97 and looks" in found["A face to begin with"]


def test_a_rule_that_is_off_is_not_promised():
    found = promises(rules="face,same")
    assert list(found) == [
        *("Not promised: private", "One person each", "A face to begin with", "Not promised: unique, repeat")
    ]
    assert "camera" not in found["A face to begin with"]
    assert "Faces not checked" in promises(detector="none")


def test_who_was_not_compared_with_is_said():
    assert "--no-privacy-check" in promises(no_privacy_check=True)["Not compared with real people"]
    assert "no real features" in promises(real=False, rules="same")["Not compared with real people"]
    original = promises(filter_preset="arcbiface")
    assert "first listed picture of any of 10 real people" in original["Nobody real, as the original compared"]
    assert "in either direction like" in original["Nobody twice"] and "Nobody real" not in original


def test_quality_and_other_spectra():
    found = promises(min_feature_norm=20.0, min_sharpness=3.0, check_nir=True)
    assert "feature at least 20 long and a sharpness" in found["Clear pictures"]
    assert "no NIR picture is more than 0.500 like any real one" in found["NIR pictures, too"]
    assert "at least 0.600 like that person's first NIR picture" in found["NIR pictures, too"]
    same_only = promises(rules="same", check_nir=True)["NIR pictures, too"]
    assert (
        same_only
        == "By their own features, every one of a person is at least 0.600 like that person's first NIR picture."
    )
