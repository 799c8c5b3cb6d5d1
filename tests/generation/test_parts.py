"""Finished work on disk: what comes back is what was saved, and what a bad disk has done to it counts as absent."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from safetensors.numpy import save

from dnnlib.errors import UserError
from generation.parts import PARTS, Parts
from generation.records import Block, Person, Record, Round
from generation.references import Stopped
from generation.rules import KEPT
from tests.generation import fakes

RNG = np.random.default_rng(0)
PAIRS = [{"vis": b"abc", "nir": b""}, {"vis": b"\x00", "nir": b"nir"}]


def rows(count):
    return {name: RNG.normal(size=(count, 4)).astype(np.float32) for name in ("vis", "nir")}


BLOCK = Block(
    ["face", KEPT, KEPT],
    np.array([0.5, -np.inf, 0.25]),
    np.array([1, 2]),
    rows(2),
    PAIRS,
    {"nir": {"sim_reference": np.ones(3), "max_sim_real": np.array([0.1, 0.2, 0.3])}},
)
RECORDS = [
    Record(9, 0, KEPT, 2, 0, 1.0, -np.inf, 1 / 3, None),
    Record(9, 1, "private", checked={"nir": {"sim_reference": 0.5, "max_sim_real": -np.inf}}),
    Record(9, 2, KEPT, None, 1, 0.7),
]


def equal(one, other):
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
        assert one[name].dtype == other[name].dtype


def test_nothing_is_there_at_first(tmp_path):
    parts = Parts(tmp_path)
    assert parts.load_block(3) is None and parts.load_person(9) is None and parts.load_round(9, 1) is None
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"--outdir: .*000009.part: is damaged or gone"):
        parts.finished_person(9)


@pytest.mark.parametrize("pictures", [False, True])
def test_a_block_comes_back(tmp_path, pictures):
    parts = Parts(tmp_path)
    parts.save_block(3, BLOCK)
    back = parts.load_block(3, pictures)
    assert back is not None and back.verdicts == BLOCK.verdicts and back.encoded == (PAIRS if pictures else [])
    np.testing.assert_array_equal(back.max_sim_real, BLOCK.max_sim_real)
    np.testing.assert_array_equal(back.passed, BLOCK.passed)
    equal(back.embeddings, BLOCK.embeddings)
    equal(back.checked["nir"], BLOCK.checked["nir"])


def test_a_block_in_which_nobody_passed(tmp_path):
    parts = Parts(tmp_path)
    parts.save_block(0, Block(["face"], np.zeros(1), np.empty(0, dtype=np.int64), {"vis": rows(0)["vis"]}, []))
    back = parts.load_block(0, pictures=True)
    assert back is not None and back.encoded == [] and back.embeddings["vis"].shape == (0, 4)


def test_rounds_come_back_until_the_person_is_finished(tmp_path):
    parts = Parts(tmp_path)
    embeddings = rows(2)
    parts.save_round(9, 17, Round(RECORDS, embeddings, PAIRS))
    back = parts.load_round(9, 17)
    assert back is not None and back.records == RECORDS and back.encoded == PAIRS
    equal(back.embeddings, embeddings)
    assert parts.load_round(9, 1) is None
    parts.save_person(Person(9, 2, True, RECORDS, embeddings))
    again = parts.load_person(9)
    assert again is not None and (again.slot, again.identity, again.complete) == (9, 2, True)
    assert again.records == RECORDS and parts.load_round(9, 17) is None
    equal(again.embeddings, embeddings)


def test_no_folder_holds_more_than_a_thousand_parts(tmp_path):
    parts = Parts(tmp_path)
    for slot in (5, 999, 1000, 123_456):
        parts.save_person(Person(slot, 0, False, [], rows(1)))
    found = sorted(path.relative_to(tmp_path / PARTS).as_posix() for path in tmp_path.rglob("*.part"))
    assert found == [f"people/{name}.part" for name in ("000/000005", "000/000999", "001/001000", "123/123456")]


# ----------------------------------------------------------------------------
# What is there, but is not right.


def damaged(path, how):
    data = path.read_bytes()
    middle = len(data) // 2
    if how == "empty":
        path.write_bytes(b"")
    elif how == "short":
        path.write_bytes(data[:middle])
    elif how == "bit":
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    else:
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("how", ["empty", "short", "bit", "folder"])
def test_damaged_parts_count_as_absent(tmp_path, how):
    parts = Parts(tmp_path)
    parts.save_block(0, BLOCK)
    parts.save_block(1, BLOCK)
    parts.save_person(Person(9, 2, True, RECORDS, rows(2)))
    parts.save_round(8, 1, Round(RECORDS, rows(2), PAIRS))
    damaged(tmp_path / PARTS / "blocks/000/000000.part", how)
    damaged(tmp_path / PARTS / "firsts/000/000001.part", how)
    damaged(tmp_path / PARTS / "people/000/000009.part", how)
    damaged(tmp_path / PARTS / "rounds/000/000008/000001.part", how)
    assert parts.load_block(0) is None and parts.load_block(1, pictures=True) is None
    assert parts.load_block(1) is not None  # what is whole is used
    assert parts.load_person(9) is None and parts.load_round(8, 1) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("records", b"[[1, 2]]"),
        ("records", b"[[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]"),
        ("records", b'[[9, "zero", "kept", 1, 1, 1, 1, 1, 1, null]]'),
        ("records", b'[[9, 0, "kept", 1, 1, 1, 1, 1, 1, [1]]]'),
        ("records", b"[" * 100_000),
        ("person", b""),
        ("embeddings_vis", b"12345678"),
    ],
)
def test_forged_parts_count_as_absent(tmp_path, name, value):
    """Whole, as far as the digest says, but not what this program writes."""
    parts = Parts(tmp_path)
    arrays = {"person": np.array([2, 1]), "records": np.frombuffer(b"[]", dtype=np.uint8), **prefixed(rows(2))}
    path = tmp_path / PARTS / "people/000/000009.part"
    path.parent.mkdir(parents=True)
    for changed, expected in (({}, True), ({name: np.frombuffer(value, dtype=np.uint8)}, False)):
        data = save({**arrays, **changed})
        path.write_bytes(hashlib.sha256(data).digest() + data)
        assert (parts.load_person(9) is not None) == expected


def prefixed(embeddings):
    return {f"embeddings_{name}": array for name, array in embeddings.items()}


# ----------------------------------------------------------------------------
# The clock.


def test_seconds_go_on_where_they_stopped(tmp_path):
    parts = Parts(tmp_path)
    parts.earlier = 100.0
    parts.save_person(Person(0, 0, False, [], rows(1)))
    parts.tell_time(every=0)
    assert Parts(tmp_path).seconds >= 100
    (tmp_path / PARTS / "seconds.json").write_text("[]")
    assert Parts(tmp_path).seconds < 100
    parts.discard()
    assert not (tmp_path / PARTS).exists()


def test_the_time_of_a_run_that_is_asked_to_stop_is_noted_at_once(tmp_path):
    selection = fakes.make_selection(tmp_path)
    selection.stop.received = 15
    with pytest.raises(Stopped):
        fakes.finish(selection, tmp_path)
    assert Parts(tmp_path).earlier > 0
