"""Looking ahead: told once, at doubling counts, ended with --strict, and the disk is looked at."""

from __future__ import annotations

import shutil
import time
from collections import namedtuple

import pytest

from dnnlib.errors import UserError
from generation import lookout as lookout_module
from generation.encoding import Encoder
from generation.layouts import FolderLayout
from generation.lookout import Lookout
from generation.records import Plan, Record
from generation.rules import KEPT

PLAN = Plan(ids=10, samples_per_id=32, tries=500, max_slots=1000)
Usage = namedtuple("Usage", "total used free")


def lookout(tmp_path, plan=PLAN, **options):
    told: list[str] = []
    return Lookout(plan, Encoder(), FolderLayout(tmp_path), tmp_path, tell=told.append, **options), told


def repeats(count, people=4):
    """Later candidates, one kept in a hundred."""
    return [Record(n % people, 1 + n, KEPT if n % 100 == 50 else "repeat") for n in range(count)]


def test_an_infeasible_setting_is_told_once(tmp_path):
    look, told = lookout(tmp_path)
    for record in repeats(2000):
        look([record])
    [line] = told
    assert line.startswith("--tries: a person needs about ") and "rule 'repeat' refused" in line
    assert "; without that limit it would take about " in line


def test_strict_ends_the_run(tmp_path):
    look, told = lookout(tmp_path, strict=True)
    with pytest.raises(
        UserError, match=r"^--tries: a person needs .* \(--strict ends the run; what is finished stays\)$"
    ):
        look(repeats(2000))
    assert not told


def test_strict_warns_of_one_person_and_ends_with_the_next(tmp_path):
    look, told = lookout(tmp_path, strict=True)
    look(repeats(2000, people=1))
    assert len(told) == 1
    with pytest.raises(UserError, match="--strict"):
        look(repeats(2000, people=2))


def test_it_looks_when_the_count_has_doubled(tmp_path, monkeypatch):
    look, _ = lookout(tmp_path)
    looks: list[int] = []
    monkeypatch.setattr(look, "look", lambda: looks.append(look.tally.candidates))
    for record in repeats(1000):
        look([record])
    assert looks == [64, 128, 256, 512]


def test_a_feasible_setting_is_not_spoken_of(tmp_path):
    look, told = lookout(tmp_path, Plan(ids=10, samples_per_id=4, tries=500, max_slots=1000), strict=True)
    look(repeats(4000))
    assert not told


def test_a_disk_that_is_too_small_is_told_once(tmp_path, monkeypatch):
    """10 people of 4 samples, 3 MiB a pair."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 100 << 20))
    look, told = lookout(tmp_path, Plan(ids=10, samples_per_id=4, tries=500, max_slots=1000))
    look.encoder.pairs, look.encoder.bytes = 1, 3 << 20
    look([Record(0, 1 + n, KEPT) for n in range(200)])
    look.look()
    assert told == [f"--outdir: {tmp_path}: about 120 MiB are needed, 100 MiB are free"]


def test_what_is_written_needs_no_more_disk(tmp_path, monkeypatch):
    """Of the 120 MiB, three people's 36 are there; 100 would do for the rest, and 80 would not."""
    for free, words in ((100, []), (80, [f"--outdir: {tmp_path}: about 84 MiB are needed, 80 MiB are free"])):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: Usage(0, 0, free << 20))
        look, told = lookout(tmp_path, Plan(ids=10, samples_per_id=4, tries=500, max_slots=1000))
        look.encoder.pairs, look.encoder.bytes = 1, 3 << 20
        look([Record(0, 1 + n, KEPT) for n in range(200)], people=3)
        assert told == words


def test_the_time_it_would_take_counts_what_other_processes_judge(tmp_path, monkeypatch):
    """64 first samples are those of all; 1,000 later ones are one of four processes'."""
    told = []
    for size in (1, 4):
        monkeypatch.setattr(lookout_module, "world_size", lambda size=size: size)
        look, lines = lookout(tmp_path)
        look([Record(slot, 0, KEPT) for slot in range(64)])
        look._began = time.monotonic() - 1000
        look(repeats(1000))
        told.append(lines[0].rpartition("about ")[2])
    alone, four = (float(words.split()[0]) for words in told)
    assert alone / four == pytest.approx((64 + 4 * 1000) / (64 + 1000), rel=0.02)
