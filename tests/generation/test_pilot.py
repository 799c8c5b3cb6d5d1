"""The pilot of --dry-run: as many candidates as said, judged as the run would, and a forecast that a run bears out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from generation.candidates import CandidateMaker
from generation.encoding import Encoder
from generation.identity_sampling import RandomIdentities
from generation.pilot import CANDIDATES, Pilot, in_words
from generation.records import Plan
from generation.rules import KEPT
from tests.generation import fakes
from torch_utils.search import Gallery


def pilot(thresholds=fakes.THRESHOLDS, detect=True, **plan):
    options = {"ids": 8, "samples_per_id": 5, "tries": 20, "round_size": 16, "max_slots": 200, **plan}
    with Encoder() as encoder:
        maker = CandidateMaker(
            fakes.FakeRenderer(options["round_size"], 0.15),
            fakes.fake_embed,
            fakes.fake_detect if detect else None,
            seed=0,
            chunk=options["round_size"],
            latent_size=fakes.SIZE,
        )
        sampler = RandomIdentities(0, 4.0, fakes.SIZE)
        return Pilot(Plan(**options), thresholds, Gallery.of(fakes.real_features()), sampler, maker, encoder).run()


def test_so_many_candidates():
    found = pilot(samples_per_id=1000)
    assert found.drawn == CANDIDATES
    assert sum(found.tally.first.values()) == sum(found.tally.later.values()) == 32 and len(found.tally.people) == 2
    assert found.tally.first[KEPT] > 0 and {"face", "frontal"} <= set(found.tally.first)
    assert found.encoder.pairs == 4 * 4 and found.encoder.pair_bytes > 100


def test_where_nobody_passes_later_samples_are_known_all_the_same():
    found = pilot(thresholds=replace(fakes.THRESHOLDS, unique=-0.9))
    assert KEPT not in found.tally.first and sum(found.tally.later.values()) == 32
    forecast = found.forecast()
    assert forecast["slots"] is None and forecast["seconds"] is None
    assert "nothing passed" in in_words(forecast, found.plan)[-1]


def test_one_sample_each_needs_no_later_ones():
    found = pilot(samples_per_id=1)
    assert found.drawn == 32 and not found.tally.later
    assert found.forecast()["candidates"] == pytest.approx(found.forecast()["slots"])


def test_forecast():
    found = pilot()
    found.seconds, found.drawn = 6.4, 64
    one, two = found.forecast(), found.forecast(processes=2)
    assert one["seconds"] == pytest.approx(0.1 * one["drawn"]) == pytest.approx(2 * two["seconds"])
    assert one["pairs_per_second"] == pytest.approx(40 / one["seconds"])
    assert sum(one["pilot"]["first_samples"].values()) == pytest.approx(1)
    assert one["infeasible"] is None and one["memory_bytes"] > 1 << 20
    assert found.forecast(spare=2.0)["disk_bytes"] - one["disk_bytes"] == pytest.approx(40 * found.encoder.pair_bytes)
    words = "\n".join(in_words(one, found.plan))
    assert "8 identities of 5 pairs" in words and "--max-slots 200" in words and "pairs a second" in words


def test_an_infeasible_setting_is_told():
    found = pilot(thresholds=replace(fakes.THRESHOLDS, repeat=0.66), detect=False, round_size=32, samples_per_id=200)
    assert found.forecast()["infeasible"] is None  # 19 later candidates are not enough to say so
    for slot in (5, 6, 7):
        found._later_samples(slot, {"vis": np.eye(fakes.SIZE, dtype=np.float32)[:1]}, [])
    assert "--tries: a person needs about" in found.forecast()["infeasible"]
