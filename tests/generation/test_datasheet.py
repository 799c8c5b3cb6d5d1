"""The datasheet: every fact in its place, hostile names harmless, the audit's place found."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

from generation import datasheet
from generation.datasheet import AUDIT_BEGIN, AUDIT_END, TO_FILL_IN, build_datasheet, escape
from generation.rules import Rule, Rules
from metrics.identity import OperatingPoint
from tests.generation import fakes

LIMITS = replace(fakes.THRESHOLDS, error_rates={"unique": OperatingPoint(0.5, 1e-4, 0.03)}, warnings=("moved <up>",))
SUMMARY = {
    "identities_kept": 8,
    "pairs_kept": 40,
    "candidates": 400,
    "refused": {**{rule.value: 0 for rule in Rule}, "private": 300, "same": 60},
    "max_real_similarity": 0.4321,
    "mated_mean": 0.81,
    "mated_sd": 0.05,
    "nonmated_mean": None,
    "eer": 0.0123,
}


def settings(**changes):
    made = {
        "made_by": "generate_dataset.py",
        "seed": 0,
        "truncation": 0.7,
        **Rules().as_dict(),
        "privacy_check": True,
        "detector": "none",
        "generator": {"name": "g", "sha256": "0" * 64},
        "recognition_model": {"name": "r", "fingerprint": "fake"},
        "real_features": {"name": "f", "sha256": "1" * 64, "count": 30, "people": 30},
    }
    return {**made, **changes}


def test_facts():
    text = build_datasheet(settings(), SUMMARY, LIMITS, ["thresholds were moved"])
    for fact in (
        "40 pairs of pictures of 8 people who do not exist",
        "| generator | g | " + "0" * 64 + " |",
        "| recognition model of the filter | r | fake |",
        "30 features of 30 people",
        "| unique | 0.5000 | 0.0001 | 0.03 |",
        "| same | 0.6500 | not known | not known |",
        "| private | too like a real person | 300 | 75.00% |",
        "| kept |  | 40 | 10.00% |",
        "| highest similarity of a kept picture to a real feature | 0.4321 |",
        "| equal error rate between the people | 1.230% |",
        "mean | not measured |",
        "| truncation | 0.7 |",
        "**Nobody real.** No picture is more than 0.500 like any of the 30 pictures of 30 real people.",
        "**No copies.** No two pictures of a person are more than 0.780 alike.",
        "- thresholds were moved",
        r"moved &lt;up&gt;",
    ):
        assert fact in text, fact
    assert text.count(TO_FILL_IN) >= 5 and "licence of this dataset" in text


def test_the_audit_has_a_place_of_its_own():
    text = build_datasheet(settings(), SUMMARY, LIMITS)
    between = re.search(f"{AUDIT_BEGIN}(.*){AUDIT_END}", text, re.DOTALL)
    assert between and "No audit has been made" in between[1] and "filter.py audit --data" in between[1]
    assert "Warnings" not in text


def test_no_promise_about_real_people_without_them():
    text = build_datasheet(settings(privacy_check=False, real_features=None), SUMMARY, LIMITS)
    assert "- **Not compared with real people.** This run had no real features" in text and "Nobody real" not in text


def test_names_from_others_stay_text():
    evil = "x|<script>`[a](b)\n# h*_"
    assert escape(evil) == r"x\|&lt;script&gt;\`\[a\]\(b\) \# h\*\_"
    text = build_datasheet(settings(generator={"name": evil + AUDIT_END, "sha256": "0"}), SUMMARY, LIMITS)
    assert text.count(AUDIT_END) == 1 and "<script>" not in text


def test_commit():
    found = datasheet.commit()
    assert found is None or re.fullmatch(r"[0-9a-f]{40}\+?", found)  # None: a copy that is no checkout


def test_no_commit_without_git(monkeypatch):
    def missing(*args, **kwargs):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert datasheet.commit() is None
    assert "commit not known" in build_datasheet(settings(), SUMMARY, LIMITS)
