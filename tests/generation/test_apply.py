"""The filter on a dataset that exists: by hand, and as properties against a plain re-check."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from generation.apply import Filter, in_order
from generation.candidates import Faces
from generation.privacy_diversity import unit_rows
from generation.rules import Rule, Rules
from generation.thresholds import Thresholds
from torch_utils.search import Gallery

LIMITS = Thresholds("toy", 0.7, 0.1, unique=0.5, same=0.6, repeat=0.95)
RULES = Rules()
NOBODY = np.empty((0, 2), dtype=np.float32)


def at(*degrees):
    """Directions in the plane."""
    angles = np.radians(np.asarray(degrees, dtype=np.float64))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def verdicts(sizes, embeddings, real=NOBODY, **options):
    found = Filter(sizes, {"vis": embeddings}, Gallery.of(real), LIMITS, options.pop("rules", RULES), **options).run()
    return [record.verdict for record in found.records], found


def test_two_who_fall_short_because_of_each_other_are_both_gone():
    """References at 0 and 100; the second sample of each is 55 from the other's, 60 would do."""
    found, filtered = verdicts([2, 2], at(0, 45, 100, 55))
    assert found == ["tries", "unique", "tries", "unique"] and filtered.people == []


def test_order_is_by_name_with_numbers_by_value():
    people = in_order(["10", "2", "2", "a"], ["0", "11", "9", "0"])
    assert people == [[2, 1], [0], [3]]


def test_by_hand():
    # Alike above 0.5 means nearer than 60 degrees, one person within 53.1, a repeat within 18.2.
    people = [
        [0, 30, 35, -40, -55],  # 35 repeats 30; -55 is not the same person
        [50, 60],  # like the first person
        [100, 135, 151, 75],  # 151 is like the real one at 210 (59 degrees); 75 is fine but 75 from 0: kept
    ]
    found, result = verdicts([len(person) for person in people], at(*itertools.chain(*people)), at(210))
    assert found == ["kept", "kept", "repeat", "kept", "same", "unique", "unique", "kept", "kept", "private", "kept"]
    assert result.people == [0, 2]
    places = [(record.identity, record.sample) for record in result.records if record.verdict == "kept"]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert np.isclose(result.records[0].max_sim_other, np.cos(np.radians(100)))
    assert np.isclose(result.records[1].max_sim_same, np.cos(np.radians(30)))


def test_the_reference_is_the_first_that_passes():
    found, _ = verdicts([3], at(0, 90, 120), at(10))
    assert found == ["private", "kept", "kept"]
    # The detector sees no face at 90 degrees and one aside at 120.
    seen = []

    def detect(rows):
        seen.extend(rows)
        points = np.zeros((len(rows), 5, 2))
        points[:, 0, 0], points[:, 1, 0] = -1, [0.1 if row == 2 else 1 for row in rows]
        return Faces(np.array([row != 1 for row in rows]), np.ones(len(rows)), points)

    found, _ = verdicts([5], at(0, 90, 120, 130, 160), at(10), detect=detect)
    assert found == ["private", "face", "frontal", "kept", "kept"] and seen == [1, 2, 3]


def test_a_dropped_person_gives_its_place_to_another():
    # The second is like the first, but the first has too few samples: one of its two is another person.
    people = [[0, 80], [40, 70], [180, 210]]
    found, result = verdicts([2, 2, 2], at(*itertools.chain(*people)), min_samples=2)
    assert found == ["tries", "same", "kept", "kept", "kept", "kept"] and result.people == [1, 2]
    found, result = verdicts([2, 2, 2], at(*itertools.chain(*people)), min_samples=1)
    assert found == ["kept", "same", "unique", "unique", "kept", "kept"] and result.people == [0, 2]


def test_rules_that_are_switched():
    people = [[0, 30, 35, -40, -55], [50, 60], [100, 135, 151, 75]]
    sizes, rows = [5, 2, 4], at(*itertools.chain(*people))
    found, _ = verdicts(sizes, rows, at(210), rules=Rules(active=()))
    assert set(found) == {"kept"}
    found, _ = verdicts(sizes, rows, at(210), rules=Rules(active=(Rule.REPEAT,)))
    assert [place for place, verdict in enumerate(found) if verdict == "repeat"] == [2, 4, 6, 9]
    norms = {"vis": np.array([1, 9, 9, 9, 9, 9, 9, 9, 9, 1, 9.0])}
    good = Rules(active=(Rule.QUALITY,), min_feature_norm=5)
    found, _ = verdicts(sizes, rows, at(210), rules=good, norms=norms)
    assert [place for place, verdict in enumerate(found) if verdict == "quality"] == [0, 9]
    dull = {3: np.full((3, 5, 5), 7, np.uint8)}
    noise = np.random.default_rng(0).integers(0, 255, (3, 5, 5)).astype(np.uint8)
    found, _ = verdicts(sizes, rows, at(210), rules=Rules(active=(Rule.QUALITY,), min_sharpness=5),
                        look=lambda asked: {"vis": np.stack([dull.get(row, noise) for row in asked])})  # fmt: skip
    assert [place for place, verdict in enumerate(found) if verdict == "quality"] == [3]


def test_another_spectrum_must_pass_too():
    vis, nir = at(0, 30, -30), at(0, 90, 20)
    found = Filter([3], {"vis": vis, "nir": nir}, Gallery.of(at(120)), LIMITS, Rules(checked=("nir",)), 1).run()
    assert [record.verdict for record in found.records] == ["kept", "private", "kept"]
    checked = found.records[2].checked
    assert checked is not None and np.isclose(checked["nir"]["sim_reference"], np.cos(np.radians(20)))
    found = Filter([3], {"vis": vis, "nir": nir}, Gallery.of(at(240)), LIMITS, Rules(checked=("nir",)), 1).run()
    assert [record.verdict for record in found.records] == ["kept", "same", "kept"]


def test_nobody_is_left():
    found, result = verdicts([1, 1], at(0, 180))
    assert found == ["tries", "tries"] and result.people == []


@st.composite
def datasets(draw):
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=8))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    spread = draw(st.sampled_from([0.1, 0.4, 1.0]))
    rows = [rng.normal(size=4) + spread * rng.normal(size=(size, 4)) for size in sizes]
    real = unit_rows(rng.normal(size=(draw(st.integers(1, 3)), 4)))
    return sizes, unit_rows(np.concatenate(rows)), real, draw(st.integers(1, 3)), draw(st.booleans())


def violations(kept, real, absolute):
    """Broken rules of people [S, D] each, in float64, one comparison at a time."""
    size = np.abs if absolute else np.asarray
    found = 0
    for number, person in enumerate(kept):
        for place, sample in enumerate(person):
            found += bool((size(real @ sample) > LIMITS.unique).any())
            others = [other[0] for row, other in enumerate(kept) if row != number]
            found += any(size(other @ sample) > LIMITS.unique for other in others)
            found += place > 0 and bool(sample @ person[0] < LIMITS.same)
            found += any(sample @ before > LIMITS.repeat for before in person[:place])
    return found


@settings(max_examples=60, deadline=None)
@given(datasets())
def test_what_is_kept_breaks_no_rule_and_is_kept_again(drawn):
    sizes, rows, real, least, absolute = drawn
    rules = Rules(absolute=absolute)
    found = Filter(sizes, {"vis": rows}, Gallery.of(real), LIMITS, rules, least).run()
    again = Filter(sizes, {"vis": rows}, Gallery.of(real), LIMITS, rules, least).run()
    assert found == again and all(record.verdict for record in found.records)
    kept = [[row for row, record in enumerate(found.records) if record.identity == i] for i in range(len(found.people))]
    assert all(len(person) >= least for person in kept)
    assert all((record.verdict == "kept") == (record.identity is not None) for record in found.records)
    assert violations([rows[person].astype(np.float64) for person in kept], real.astype(np.float64), absolute) == 0
    order = [row for person in kept for row in person]
    if order:
        output = Filter(
            [len(person) for person in kept], {"vis": rows[order]}, Gallery.of(real), LIMITS, rules, least
        ).run()
        assert {record.verdict for record in output.records} == {"kept"}
    refused = [record.max_sim_other for record in found.records if record.verdict == "unique"]
    assert all(other is None or other > LIMITS.unique for other in refused)
