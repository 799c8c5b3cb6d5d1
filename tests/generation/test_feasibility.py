"""Estimates against cases worked by hand and against runs that are played out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from generation.feasibility import Tally, data_size, duration, estimate, infeasible, upper_bound
from generation.records import Plan, Record
from generation.rules import KEPT


def tally(first=(), later=(), people=10):
    return Tally(dict(first), dict(later), set(range(people)))


def test_by_hand():
    """Half of the first samples and a fifth of the later ones pass; tries are no limit: a person takes 1 + 3 * 5."""
    plan = Plan(ids=10, samples_per_id=4, tries=10_000, max_slots=100, round_size=1)
    found = estimate(plan, tally({KEPT: 20, "face": 20}, {KEPT: 12, "same": 48}), each=0.5, pair_bytes=1000)
    assert (found.tries, found.completed, found.slots) == (16, 1.0, 20)
    assert found.candidates == pytest.approx(20 + 10 * 15)
    assert found.seconds == pytest.approx(0.5 * 170)
    assert found.disk_bytes == pytest.approx(40 * 1000 + 170 * 250)


def test_by_playing_it_out():
    """Whole runs with a limit on tries, candidate by candidate."""
    plan = Plan(ids=20, samples_per_id=4, tries=14, max_slots=10**6, round_size=5)
    first, later = 0.4, 0.25
    rng = np.random.default_rng(0)
    slots, candidates, drawn = [], [], []
    for _ in range(400):
        done = used = judged = rendered = 0
        while done < plan.ids:
            used, judged, rendered = used + 1, judged + 1, rendered + 1
            if rng.random() >= first:
                continue
            samples, tries = 1, 1
            while samples < plan.samples_per_id and tries < plan.tries:
                tries += 1
                samples += rng.random() < later
            judged += tries - 1
            rendered += min(-(-(tries - 1) // plan.round_size) * plan.round_size, plan.tries - 1)
            done += samples == plan.samples_per_id
        slots.append(used)
        candidates.append(judged)
        drawn.append(rendered)
    found = estimate(plan, tally({KEPT: 40, "face": 60}, {KEPT: 25, "same": 75}))
    assert found.slots == pytest.approx(np.mean(slots), rel=0.03)
    assert found.candidates == pytest.approx(np.mean(candidates), rel=0.03)
    assert found.drawn == pytest.approx(np.mean(drawn), rel=0.03)


def test_nothing_passed_yet():
    plan = Plan(ids=10, samples_per_id=4)
    assert estimate(plan, tally({"face": 5}), 1.0).as_dict()["slots"] is None
    nothing = estimate(plan, tally())
    assert nothing.slots == 10 and nothing.candidates == pytest.approx(40)
    one_each = estimate(Plan(ids=10, samples_per_id=1), tally({KEPT: 1}))
    assert (one_each.tries, one_each.candidates, one_each.completed) == (1, 10, 1.0)


def test_upper_bound_by_its_meaning():
    """At the bound, so few or fewer pass with probability 5 %."""
    for passed, judged in ((0, 64), (1, 20), (7, 50)):
        chance = upper_bound(passed, judged)
        tail = sum(math.comb(judged, k) * chance**k * (1 - chance) ** (judged - k) for k in range(passed + 1))
        assert tail == pytest.approx(0.05, abs=1e-9)
    assert upper_bound(0, 64) == pytest.approx(1 - 0.05 ** (1 / 64))  # the rule of three
    assert upper_bound(5, 5) == upper_bound(0, 0) == 1.0


def test_too_few_slots():
    """Of 100 first samples none passes: at most 2.95 %, so 10 identities need 339 slots."""
    counts = tally({"face": 60, "private": 40})
    words = infeasible(Plan(ids=10, samples_per_id=4, max_slots=300), counts)
    assert words.startswith("--max-slots: 10 identities need about 339 people to be tried or more, but 300 are allowed")
    assert "0 of 100 first samples passed; rule 'face' refused 60 of 100 candidates; the generator must draw" in words
    assert infeasible(Plan(ids=10, samples_per_id=4, max_slots=400), counts) == ""


def test_too_few_tries():
    """1 of 100 later samples passes: at most 4.66 %, so 31 more take 667 candidates."""
    counts = tally({KEPT: 100}, {KEPT: 1, "repeat": 90, "same": 9})
    words = infeasible(Plan(ids=10, samples_per_id=32, tries=500), counts)
    assert words.startswith("--tries: a person needs about 667 candidates or more, but 500 are allowed: 1 of 100 later")
    assert "rule 'repeat' refused 90 of 100" in words and "raise --truncation" in words
    assert infeasible(Plan(ids=10, samples_per_id=32, tries=700), counts) == ""


def test_nothing_is_said_of_little():
    plan = Plan(ids=10, samples_per_id=32, tries=50, max_slots=20)
    assert infeasible(plan, tally({"face": 63}, {"same": 63})) == ""
    one = tally({KEPT: 5}, {"same": 500}, people=1)
    assert infeasible(plan, one, people=2) == "" and infeasible(plan, one)
    assert infeasible(Plan(ids=1, samples_per_id=32, tries=50), one, people=2)


def test_a_tally_tells_first_samples_from_later_ones():
    counts = tally(people=0)
    for record in (
        Record(0, 0, KEPT),
        Record(1, 0, "face"),
        Record(0, 1, KEPT),
        Record(0, 2, "same"),
        Record(5, 3, "tries"),
    ):
        counts.add(record)
    assert (counts.first, counts.later) == ({KEPT: 1, "face": 1}, {KEPT: 2, "same": 1})
    assert counts.people == {0, 5} and counts.candidates == 5


def test_words():
    assert [duration(s) for s in (40, 720, 12_600, 181_440, math.inf)] == [
        "40 s",
        "12 min",
        "3.5 h",
        "2.1 days",
        "for ever",
    ]
    assert [data_size(b) for b in (2048, 3 << 20, 3.2 * (1 << 30))] == ["2 KiB", "3 MiB", "3.2 GiB"]
