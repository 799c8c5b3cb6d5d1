"""What the rules in force promise of every pair of a dataset, in plain words: for report.html and datasheet.md."""

from __future__ import annotations

from typing import Any

from generation.rules import FIRST, NONE, Rule
from generation.thresholds import Thresholds
from torch_utils.spectra import SPECTRA

Promise = tuple[str, str]  # a few words, and a sentence or two


def promised(settings: dict[str, Any], limits: Thresholds) -> list[Promise]:
    """A promise a rule in force, and a plain word for each that is not. settings: as in settings.json."""
    active = {Rule(name) for name in settings["rules"]}
    sign = "in either direction " if settings["absolute"] else ""
    other = f"more than {limits.unique:.3f} {sign}like"
    found = [_private(settings, active, other)]
    alone = {
        Rule.UNIQUE: ("Nobody twice", f"No picture is {other} the first picture of any other synthetic person."),
        Rule.SAME: (
            "One person each",
            f"Every picture of a person is at least {limits.same:.3f} like that person's first.",
        ),
        Rule.REPEAT: ("No copies", f"No two pictures of a person are more than {limits.repeat:.3f} alike."),
    }
    found += [promise for rule, promise in alone.items() if rule in active]
    found += _spectra(settings, active, limits) + _faces(settings, active) + _quality(settings, active)
    if off := [rule.value for rule in alone if rule not in active]:
        words = "this rule was" if len(off) == 1 else "these rules were"
        found.append((f"Not promised: {', '.join(off)}", f"By choice, {words} not in force (--rules)."))
    return found


def _private(settings: dict[str, Any], active: set[Rule], other: str) -> Promise:
    real, compared = settings["real_features"], settings["real_features_compared"]
    if compared == NONE or not real:
        why = "This run had --no-privacy-check" if compared == NONE else "This run had no real features"
        return ("Not compared with real people", f"{why}: nothing here is promised about likeness to real people.")
    pictures = f"{real['count']:,} pictures of {real['people']:,} real people"
    if Rule.PRIVATE not in active:
        return (
            "Not promised: private",
            f"Every picture was compared with {pictures}, but by choice none was refused for it (--rules).",
        )
    if compared == FIRST:
        return (
            "Nobody real, as the original compared",
            f"No picture is {other} the first listed picture of any of {real['people']:,} real people. Their other "
            "pictures were not compared, and some of them may be more alike.",
        )
    return (
        "Nobody real",
        f"No picture is {other} any of the {pictures}. Every picture was compared with every real one.",
    )


def _spectra(settings: dict[str, Any], active: set[Rule], limits: Thresholds) -> list[Promise]:
    found = []
    for name in settings["checked_spectra"]:
        if name == "vis":
            continue
        folder = SPECTRA[name].folder
        kinds = []
        if Rule.PRIVATE in active and settings["real_features"]:
            kinds.append(f"no {folder} picture is more than {limits.unique:.3f} like any real one that was compared")
        if Rule.SAME in active:
            kinds.append(
                f"every one of a person is at least {limits.same:.3f} like that person's first {folder} picture"
            )
        found.append((f"{folder} pictures, too", f"By their own features, {' and '.join(kinds)}."))
    return found


def _faces(settings: dict[str, Any], active: set[Rule]) -> list[Promise]:
    if settings["detector"] == "none":
        return [("Faces not checked", "This run went without a face detector.")]
    kinds = []
    if Rule.FACE in active:
        kinds.append(f"shows exactly one face, detected with a probability of at least {settings['min_face_prob']:g}")
    if Rule.FRONTAL in active:
        kinds.append("looks into the camera")
    return [("A face to begin with", f"Each person's first picture {' and '.join(kinds)}.")]


def _quality(settings: dict[str, Any], active: set[Rule]) -> list[Promise]:
    if Rule.QUALITY not in active:
        return []
    kinds = []
    if settings["min_feature_norm"] is not None:
        kinds.append(f"a raw feature at least {settings['min_feature_norm']:g} long")
    if settings["min_sharpness"] is not None:
        kinds.append(f"a sharpness (variance of the Laplacian) of at least {settings['min_sharpness']:g}")
    return [("Clear pictures", f"Every VIS picture has {' and '.join(kinds)}.")]
