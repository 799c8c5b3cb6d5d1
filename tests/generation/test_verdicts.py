"""Verdicts by hand: rules that are switched off, quality, and other spectra that are checked beside VIS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from generation.candidates import Candidates, Faces
from generation.records import Plan
from generation.rules import KEPT, SWITCHED, USUAL, Rule, Rules
from generation.thresholds import Thresholds
from generation.verdicts import admit_references, checked_of, judge_references, judge_round
from torch_utils.search import Gallery


def at(*degrees):
    """Unit vectors in the plane, by their angle."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def cosine(degrees):
    return float(np.cos(np.radians(degrees)))


# Near to somebody: within 70 degrees. One person: within 40. A repeat: within 10.
LIMITS = Thresholds("m", 0.7, 0.1, unique=cosine(70), same=cosine(40), repeat=cosine(10))


def plan_with(**rules):
    return Plan(1, 9, rules=Rules(**rules))


def references(degrees, real, rules=None, **parts):
    made = Candidates({}, {"vis": at(*degrees)}, **{"faces": None, **parts})
    return judge_references(made, Gallery.of(at(*real)), LIMITS, Plan(1, 2, rules=rules or Rules()))


def faces(found, probability, nose):
    points = np.zeros((len(found), 5, 2))
    points[:, 0, 0], points[:, 1, 0], points[:, 2, 0] = -1, 1, nose
    return Faces(np.array(found), np.array(probability), points)


# ----------------------------------------------------------------------------
# First samples.


def test_first_samples_by_the_first_rule_that_they_break():
    seen = faces([True, False, True, True, True], [0.99, 0.99, 0.9, 0.99, 0.99], [0, 0, 0, 0.9, 0])
    found = references([0, 0, 0, 0, 100], [160], faces=seen)
    assert found.verdicts == [KEPT, "face", "face", "frontal", "private"]
    assert found.max_sim_real == pytest.approx([cosine(160)] * 4 + [cosine(60)], abs=1e-6)
    assert found.checked == {}


@pytest.mark.parametrize(
    ("off", "wanted"),
    [
        (Rule.FACE, [KEPT, KEPT, KEPT, "frontal", "private"]),
        (Rule.FRONTAL, [KEPT, "face", "face", KEPT, "private"]),
        (Rule.PRIVATE, [KEPT, "face", "face", "frontal", KEPT]),
    ],
)
def test_a_rule_that_is_off_is_no_verdict_but_is_measured(off, wanted):
    seen = faces([True, False, True, True, True], [0.99, 0.99, 0.9, 0.99, 0.99], [0, 0, 0, 0.9, 0])
    rules = Rules(active=tuple(rule for rule in USUAL if rule is not off))
    found = references([0, 0, 0, 0, 100], [160], rules, faces=seen)
    assert found.verdicts == wanted
    assert found.max_sim_real[4] == pytest.approx(cosine(60), abs=1e-6)


def test_quality_comes_after_the_face_and_before_the_real_people():
    sharp = np.zeros((4, 3, 5, 5), dtype=np.uint8)
    sharp[:, :, 2, 2] = [[16], [16], [16], [8]]
    parts = {
        "pictures": {"vis": sharp},
        "embeddings": {"vis": at(0, 0, 100, 0)},
        "faces": faces([True, False, True, True], [0.99] * 4, [0] * 4),
        "norms": {"vis": np.array([21.0, 19.0, 19.0, 21.0])},
    }
    made, real = Candidates(**parts), Gallery.of(at(160))

    def verdicts(**numbers):
        return judge_references(made, real, LIMITS, plan_with(active=SWITCHED, **numbers)).verdicts

    assert verdicts(min_feature_norm=20.0) == [KEPT, "face", "quality", KEPT]
    assert verdicts(min_sharpness=200.0) == [KEPT, "face", "private", "quality"]
    assert verdicts(min_feature_norm=20.0, min_sharpness=200.0) == [KEPT, "face", "quality", "quality"]
    off = judge_references(made, real, LIMITS, plan_with(active=USUAL, min_feature_norm=20.0))
    assert off.verdicts == [KEPT, "face", "private", KEPT]


def test_unique_switched_off_admits_everybody():
    rules = Rules(active=(Rule.PRIVATE,))
    everybody = np.ones(3, dtype=bool)
    off = admit_references(at(0, 1, 2), at(5), LIMITS, rules, everybody, 2)
    assert off.passed.tolist() == [True, True, False]  # two are enough
    assert off.similarity == pytest.approx([cosine(5), cosine(1), cosine(1)], abs=1e-6)  # measured all the same
    on = admit_references(at(0, 80, 155), at(5), LIMITS, Rules(), everybody, 3)
    assert on.passed.tolist() == [False, True, True]


# ----------------------------------------------------------------------------
# Later samples.


def round_of(degrees, rules, **parts):
    """The own reference at 0, another person's at -100, a real one at 100."""
    made = Candidates({}, {"vis": at(*degrees), **parts}, None)
    accepted = {"vis": at(0), **{name: at(0) for name in parts}}
    own, everybody = 0, Gallery.of(at(0, -100))
    return judge_round(made, accepted, own, Gallery.of(at(100)), everybody, LIMITS, Plan(1, 9, rules=rules))


CASES = [35, -35, 55, 5, 25]  # 65 from the real one, 65 from the other, 55 from the own, a repeat of it, kept


@pytest.mark.parametrize(
    ("active", "wanted"),
    [
        (USUAL, ["private", "unique", "private", "repeat", KEPT]),
        ((Rule.UNIQUE, Rule.SAME, Rule.REPEAT), [KEPT, "unique", "same", "repeat", "repeat"]),
        ((Rule.PRIVATE, Rule.SAME, Rule.REPEAT), ["private", KEPT, "private", "repeat", KEPT]),
        ((Rule.PRIVATE, Rule.UNIQUE, Rule.REPEAT), ["private", "unique", "private", "repeat", KEPT]),
        ((Rule.UNIQUE, Rule.REPEAT), [KEPT, "unique", KEPT, "repeat", "repeat"]),
        ((Rule.PRIVATE, Rule.UNIQUE, Rule.SAME), ["private", "unique", "private", KEPT, KEPT]),
        ((), [KEPT] * 5),
    ],
    ids=["all", "no private", "no unique", "no same", "neither private nor same", "no repeat", "none"],
)
def test_each_rule_can_be_switched_off(active, wanted):
    degrees = [*CASES[:4], 26 if Rule.PRIVATE not in active and Rule.REPEAT in active else 25]
    found = round_of(degrees, Rules(active=active))
    assert found.verdicts == wanted
    assert found.sim_reference == pytest.approx([cosine(angle) for angle in degrees], abs=1e-6)
    assert found.max_sim_real == pytest.approx([cosine(100 - angle) for angle in degrees], abs=1e-6)
    assert found.max_sim_other == pytest.approx([cosine(100 + angle) for angle in degrees], abs=1e-6)


def test_quality_is_asked_of_every_sample():
    made = Candidates({}, {"vis": at(20, -20)}, None, norms={"vis": np.array([19.0, 21.0])})
    rules = Rules(active=SWITCHED, min_feature_norm=20.0)
    empty = Gallery(2)
    found = judge_round(made, {"vis": at(0)}, 0, empty, Gallery.of(at(0)), LIMITS, Plan(1, 9, rules=rules))
    assert found.verdicts == ["quality", KEPT]
    assert found.max_sim_real.tolist() == [-np.inf, -np.inf]


# ----------------------------------------------------------------------------
# The near-infrared picture's own embedding.


def test_a_checked_spectrum_must_be_private_and_the_same_person():
    rules = Rules(checked=("nir",))
    # VIS at 20 and -20 is all right. NIR at 35 is 65 from the real person; at -41 another person; at 25 all right.
    found = round_of([20, -20, -20], rules, nir=at(35, -41, 25))
    assert found.verdicts == ["private", "same", KEPT]
    assert found.sim_reference == pytest.approx([cosine(20)] * 3, abs=1e-6)  # VIS
    assert found.checked["nir"]["sim_reference"] == pytest.approx([cosine(35), cosine(41), cosine(25)], abs=1e-6)
    assert found.checked["nir"]["max_sim_real"] == pytest.approx([cosine(65), cosine(141), cosine(75)], abs=1e-6)
    assert checked_of(found.checked, 1) == {
        "nir": {"sim_reference": pytest.approx(cosine(41)), "max_sim_real": pytest.approx(cosine(141))}
    }
    # Each rule by itself, and neither where nobody asks.
    private_only = replace(rules, active=(Rule.PRIVATE,))
    assert round_of([20, -20, -20], private_only, nir=at(35, -41, 25)).verdicts == ["private", KEPT, KEPT]
    plain = round_of([20, -20, -21], Rules(), nir=at(35, -41, 25))
    assert plain.checked == {} and checked_of(plain.checked, 0) is None
    assert plain.verdicts == [KEPT, KEPT, "repeat"]


def test_a_first_sample_is_checked_in_every_spectrum():
    made = Candidates({}, {"vis": at(0, 0, 100), "nir": at(0, 100, 0)}, None)
    found = judge_references(made, Gallery.of(at(160)), LIMITS, plan_with(checked=("nir",)))
    assert found.verdicts == [KEPT, "private", "private"]
    assert found.max_sim_real == pytest.approx([cosine(160), cosine(160), cosine(60)], abs=1e-6)
    assert found.checked["nir"]["max_sim_real"] == pytest.approx([cosine(160), cosine(60), cosine(160)], abs=1e-6)
    assert found.checked["nir"]["sim_reference"].tolist() == [1, 1, 1]
