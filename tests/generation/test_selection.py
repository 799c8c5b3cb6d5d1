"""Selection: what the filter promises re-checked by plain loops on the finished pictures, and the same bytes however
the work was cut up: in batches, killed and started again."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from generation import writers
from generation.candidates import Candidates
from generation.datasheet import DATASHEET
from generation.encoding import Encoder
from generation.finished import Finished
from generation.rules import KEPT, USUAL, Rule
from generation.spread import SpreadIdentities
from generation.summary import Counts, explain_shortfall
from generation.verdicts import judge_round
from tests.generation import fakes
from torch_utils.description import DESCRIPTION
from torch_utils.image_tree import decode_image


def tree(outdir):
    """Bytes of every file that must not depend on how the work went; the clock is in the summary and the report."""
    files = {path.relative_to(outdir).as_posix(): path.read_bytes() for path in outdir.rglob("*") if path.is_file()}
    summary = json.loads(files.pop(writers.SUMMARY))
    del files[writers.REPORT], summary["seconds"], summary["pairs_per_second"]
    return {**files, "summary": summary}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    outdir = tmp_path_factory.mktemp("run") / "out"
    summary = fakes.generate(outdir)
    return outdir, summary, [json.loads(line) for line in (outdir / writers.MANIFEST).read_text().splitlines()]


# ----------------------------------------------------------------------------
# The finished dataset.


def embed_again(outdir, path):
    pixels = decode_image((outdir / path).read_bytes(), "RGB", path)  # [H, W, 3]
    feature = fakes.fake_embed(pixels.transpose(2, 0, 1)[None])[0].astype(np.float64)
    return feature / np.linalg.norm(feature)


def test_every_rule_fired_and_all_is_counted(finished):
    _, summary, lines = finished
    verdicts = Counter(line["verdict"] for line in lines)
    assert all(summary["refused"][rule.value] > 0 for rule in (*USUAL, Rule.TRIES)), summary["refused"]
    assert Counter({**summary["refused"], KEPT: summary["pairs_kept"]}) == verdicts
    assert summary["candidates"] == len(lines) == len({(line["slot"], line["seed"]) for line in lines})
    assert (summary["identities_kept"], summary["pairs_kept"]) == (8, 40)


def test_brute_force_finds_no_pair_that_breaks_a_rule(finished):
    outdir, summary, lines = finished
    kept = [line for line in lines if line["verdict"] == KEPT]
    people: dict[int, list[tuple[dict, np.ndarray]]] = {}
    for line in sorted(kept, key=lambda line: (line["identity"], line["sample"])):
        people.setdefault(line["identity"], []).append((line, embed_again(outdir, line["vis"])))
    real = fakes.real_features().astype(np.float64)
    unique, same, repeat = (summary[f"threshold_{name}"] for name in ("unique", "same", "repeat"))
    highest = -1.0
    for identity, samples in people.items():
        assert [line["sample"] for line, _ in samples] == list(range(5))
        reference = samples[0][1]
        for line, embedding in samples:
            to_real = max(float(embedding @ other) for other in real)
            to_others = max(float(embedding @ people[other][0][1]) for other in people if other != identity)
            to_own = max(float(embedding @ other) for row, other in samples if row is not line)
            assert to_real <= unique + 1e-6 and to_others <= unique + 1e-6 and to_own <= repeat + 1e-6
            assert float(embedding @ reference) >= same - 1e-6
            recorded = [line[key] for key in ("sim_reference", "max_sim_real", "max_sim_other", "max_sim_same")]
            assert recorded == pytest.approx([float(embedding @ reference), to_real, to_others, to_own], abs=2e-6)
            highest = max(highest, to_real)
    assert summary["max_real_similarity"] == pytest.approx(highest, abs=1e-6)


def test_the_folder_holds_what_the_manifest_says_and_nothing_else(finished):
    outdir, _, lines = finished
    named = {line[name] for line in lines if line["verdict"] == KEPT for name in ("vis", "nir")}
    found = {path.relative_to(outdir).as_posix() for path in outdir.rglob("*") if path.is_file()}
    assert found == named | {
        writers.MANIFEST,
        DESCRIPTION,
        writers.SUMMARY,
        writers.REPORT,
        writers.SETTINGS,
        DATASHEET,
    }
    assert "VIS/0/0.png" in named and "NIR/7/4.png" in named
    vis = decode_image((outdir / "VIS/3/2.png").read_bytes(), "RGB", "vis")
    nir = decode_image((outdir / "NIR/3/2.png").read_bytes(), "L", "nir")
    np.testing.assert_array_equal(nir[..., 0], 255 - vis[..., 0])


def test_manifest_lines_have_their_keys(finished):
    plain = ["identity", "sample", "slot", "seed", "sim_reference", "max_sim_real", "max_sim_other", "max_sim_same"]
    for line in finished[2]:
        files = ["vis", "nir"] if line["verdict"] == KEPT else []
        assert sorted(line) == sorted([*plain, *files, "verdict"])
        assert (line["sample"] is None) == (line["verdict"] != KEPT)
    assert [(line["slot"], line["seed"]) for line in finished[2]] == sorted((r["slot"], r["seed"]) for r in finished[2])


def test_a_dropped_person_is_replaced_by_the_next_unique_slot(finished):
    _, _, lines = finished
    dropped = {line["slot"] for line in lines if line["verdict"] == Rule.TRIES.value}
    slot_of = {line["identity"]: line["slot"] for line in lines if line["verdict"] == KEPT}
    assert dropped and not dropped & set(slot_of.values())
    assert sorted(slot_of) == list(range(8))
    # Numbers were given in slot order; the replacements, from later slots, took the free ones in order.
    first_wave = sorted({*slot_of.values(), *dropped})[:8]
    assert [slot for _, slot in sorted(slot_of.items()) if slot in first_wave] == sorted(
        slot for slot in slot_of.values() if slot in first_wave
    )
    assert all(sum(line["slot"] == slot for line in lines) == 20 for slot in dropped)  # all the tries


def test_every_candidate_is_shown_once_and_first_samples_in_slot_order(tmp_path):
    """Those kept beside those refused: whoever counts what is shown sees at any moment what share passes."""
    shown = []
    selection = fakes.make_selection(tmp_path / "out", watch=lambda records, person: shown.append([*records]))
    outcome = selection.run()
    records = [record for some in shown for record in some]
    expected = [(record.slot, record.seed) for record in Finished(outcome, selection.parts, selection.plan).records()]
    assert sorted((record.slot, record.seed) for record in records) == sorted(expected)
    firsts = [record for record in records if record.seed == 0]
    assert [record.slot for record in firsts] == list(range(outcome.slots_used))
    kept = {record.slot for record in firsts if record.verdict == KEPT}
    assert kept == {*outcome.people.values(), *outcome.dropped}
    # What is read back is shown as what is made.
    again = []
    fakes.make_selection(tmp_path / "out", watch=lambda records, person: again.extend(records)).run()
    assert sorted((record.slot, record.seed) for record in again) == sorted(expected)


# ----------------------------------------------------------------------------
# The same bytes.


@pytest.mark.parametrize("batch", [1, 16, 1000])
def test_batch_does_not_matter(finished, tmp_path, batch):
    fakes.generate(tmp_path / "out", batch=batch)
    assert tree(tmp_path / "out") == tree(finished[0])


def test_encoding_beside_the_networks_does_not_matter(finished, tmp_path):
    with Encoder(workers=1) as encoder:
        assert encoder.beside
        fakes.generate(tmp_path / "out", encoder=encoder, batch=24)
    assert tree(tmp_path / "out") == tree(finished[0])


class Killed(BaseException):
    """Like a signal: nothing in the code under test catches it."""


def killed_at(monkeypatch, moment, outdir, **options):
    """A run that ends when file number `moment` is about to be renamed to its last name; returns the files there were
    before (moment None: all)."""
    files, replace = [], os.replace

    def die_or_replace(source, target):
        files.append(target)
        if len(files) - 1 == moment:
            target.with_name(f".{target.name}.x.tmp").write_bytes(b"half")  # what a kill within a write leaves
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", die_or_replace)
        if moment is None:
            fakes.generate(outdir, **options)
        else:
            with pytest.raises(Killed):
                fakes.generate(outdir, **options)
            assert not (outdir / writers.SUMMARY).exists()
    return files


# The first files of a run, those of blocks, rounds and people, and the last: manifest, report and summary.
@pytest.mark.parametrize("moment", [0, 1, 2, 9, 40, 75, 110, 120, -4, -3, -2, -1])
def test_killed_and_started_again_gives_the_same_bytes(finished, count, tmp_path, monkeypatch, moment):
    outdir = tmp_path / "out"
    killed_at(monkeypatch, moment % count, outdir)
    fakes.generate(outdir)
    assert tree(outdir) == tree(finished[0])


@pytest.fixture(scope="module")
def count(tmp_path_factory):
    """Files that a run writes."""
    with pytest.MonkeyPatch.context() as patch:
        return len(killed_at(patch, None, tmp_path_factory.mktemp("count") / "out"))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["original", "webdataset", "rec"])
def test_killed_while_other_layouts_are_put_together(tmp_path, monkeypatch, layout):
    options = {"layout": layout, "ids": 3, "samples_per_id": 3}
    files = killed_at(monkeypatch, None, tmp_path / "whole", **options)
    for moment in range(len(files) - 7, len(files)):
        outdir = tmp_path / str(moment)
        killed_at(monkeypatch, moment, outdir, **options)
        fakes.generate(outdir, **options)
        assert tree(outdir) == tree(tmp_path / "whole")


def test_what_was_finished_is_not_rendered_again(tmp_path):
    outdir = tmp_path / "out"
    settings = fakes.settings_of(fakes.make_selection(outdir))
    writers.begin(outdir, settings, writers.State.NEW)
    first = fakes.make_selection(outdir)
    first.run()
    again = fakes.make_selection(outdir)
    outcome = again.run()
    assert first.maker.renderer.calls > 8 and again.maker.renderer.calls == 0
    assert len(outcome.people) == 8


def apart(outdir):
    """A run whose people are pushed apart, sixteen at a time."""
    selection = fakes.make_selection(outdir)
    selection.sampler = SpreadIdentities(0, 4.0, np.zeros(fakes.SIZE), np.eye(fakes.SIZE), 16, selection.parts)
    return selection


def test_people_pushed_apart_are_computed_once_for_all_processes_and_runs(tmp_path, monkeypatch):
    first = apart(tmp_path / "out")
    outcome = first.run()
    assert len(first.sampler.groups) >= 2 and all(
        np.array_equal(first.parts.load_group(index), features) for index, features in enumerate(first.sampler.groups)
    )
    monkeypatch.setattr(SpreadIdentities, "_spread", lambda *_: pytest.fail("a group was computed again"))
    again = apart(tmp_path / "out").run()
    assert again.people == outcome.people and again.slots_used == outcome.slots_used
    # A damaged one counts as absent.
    (path,) = (tmp_path / "out").rglob("groups/*/000001.part")
    path.write_bytes(path.read_bytes()[:-1])
    assert first.parts.load_group(0) is not None and first.parts.load_group(1) is None


def test_another_seed_gives_other_people(finished, tmp_path):
    fakes.generate(tmp_path / "out", seed=1)
    assert tree(tmp_path / "out")["VIS/0/0.png"] != tree(finished[0])["VIS/0/0.png"]


# ----------------------------------------------------------------------------
# Infeasible settings end, with words.


def run_only(tmp_path, **options):
    selection = fakes.make_selection(tmp_path, **options)
    outcome = selection.run()
    counts = Counts()
    list(counts.seen(Finished(outcome, selection.parts, selection.plan).records()))
    return outcome, explain_shortfall(outcome, counts, selection.plan)


def test_slots_run_out(tmp_path):
    outcome, words = run_only(tmp_path, max_slots=9)
    assert outcome.shortfall == "slots" and 0 < len(outcome.people) < 8 and outcome.slots_used == 9
    assert words.startswith(
        f"{len(outcome.people)} of 8 identities were completed: 9 people were tried (--max-slots 9)"
    )


def test_nobody_is_unlike_the_real_people(tmp_path):
    outcome, words = run_only(tmp_path, thresholds=replace(fakes.THRESHOLDS, unique=0.05), detect=False)
    assert not outcome.people and outcome.slots_used == 200
    assert "rule 'private' refused" in words and "like real people" in words


def test_nobody_is_completed_within_the_tries(tmp_path):
    outcome, words = run_only(tmp_path, thresholds=replace(fakes.THRESHOLDS, repeat=0.66), detect=False)
    assert outcome.shortfall == "tries" and not outcome.people and len(outcome.dropped) == 20
    assert "the first 20 people all ran out of tries (--tries 20)" in words and "rule 'repeat'" in words


def test_giving_up_does_not_depend_on_batch(tmp_path):
    options = {"thresholds": replace(fakes.THRESHOLDS, repeat=0.66), "detect": False, "ids": 30}
    outcomes = [run_only(tmp_path / str(batch), batch=batch, **options)[0] for batch in (8, 500)]
    assert outcomes[0].slots_used == outcomes[1].slots_used and len(outcomes[1].dropped) == 20


def test_one_sample_and_no_real_people(tmp_path):
    nobody = np.empty((0, fakes.SIZE), dtype=np.float32)
    summary = fakes.generate(tmp_path / "out", samples_per_id=1, ids=1, real=nobody)
    assert (summary["identities_kept"], summary["pairs_kept"]) == (1, 1)
    assert summary["mated_mean"] is None and summary["eer"] is None and summary["max_real_similarity"] is None


# ----------------------------------------------------------------------------
# A round by hand.


def test_a_round_by_hand():
    """Embeddings in the plane, by angle from the own reference at 0; a real person at 100, another one at -100."""

    def at(*degrees):
        radians = np.radians(degrees)
        return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)

    selection = fakes.make_selection("nowhere", samples_per_id=3)
    selection.thresholds = replace(
        fakes.THRESHOLDS, unique=np.cos(np.radians(70)), same=np.cos(np.radians(40)), repeat=np.cos(np.radians(10))
    )
    made = Candidates({}, {"vis": at(5, 35, -35, 41, 20, 12, -20, 15)}, None)
    found = judge_round(made, {"vis": at(0)}, 0, at(100), at(0, -100), selection.thresholds, selection.plan)
    # 5 is a repeat of the reference; 35 is 65 from the real person; -35 is 65 from the other; 41 is 59 from the real
    # person (and not the same person, but the first broken rule counts); 20 is kept; 12 repeats it; -20 completes the
    # person, so 15 is not judged.
    assert found.verdicts == ["repeat", "private", "unique", "private", KEPT, "repeat", KEPT]
    assert found.max_sim_same[5] == pytest.approx(np.cos(np.radians(8)), abs=1e-6)
    assert found.max_sim_other[2] == pytest.approx(np.cos(np.radians(65)), abs=1e-6)
