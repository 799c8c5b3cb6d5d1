"""The output folder: who may write into it, and what a manifest line looks like."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest

from dnnlib.errors import UserError
from dnnlib.files import FolderLock
from generation import writers
from generation.layouts import FolderLayout
from generation.records import Record
from generation.rules import KEPT
from generation.writers import State

SETTINGS = {"made_by": writers.MADE_BY, "seed": 0, "ids": 3}


def test_new_continue_finished(tmp_path):
    out = tmp_path / "deep" / "out"
    assert writers.inspect(out, SETTINGS) is State.NEW and not out.parent.exists()
    writers.begin(out, SETTINGS, State.NEW)
    assert writers.inspect(out, SETTINGS) is State.CONTINUE
    (out / writers.SUMMARY).write_text("{}")
    assert writers.inspect(out, SETTINGS) is State.FINISHED


def test_an_empty_folder_and_left_overs_of_a_killed_write_are_new(tmp_path):
    (tmp_path / ".settings.json.abc.tmp").write_text("{")
    assert writers.inspect(tmp_path, SETTINGS) is State.NEW
    writers.begin(tmp_path, SETTINGS, State.NEW)
    assert [path.name for path in tmp_path.iterdir()] == [writers.SETTINGS]


def test_another_runs_folder_is_refused_by_what_differs(tmp_path):
    writers.begin(tmp_path, SETTINGS, State.NEW)
    with pytest.raises(UserError, match=r"--outdir: .*another run \(seed differ; seed was 0\).*--overwrite"):
        writers.inspect(tmp_path, {**SETTINGS, "seed": 1})


def test_overwrite_deletes_that_run_and_nothing_else(tmp_path):
    writers.begin(tmp_path, SETTINGS, State.NEW)
    (tmp_path / "VIS" / "0").mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("mine")
    state = writers.inspect(tmp_path, {**SETTINGS, "seed": 1}, overwrite=True)
    assert state is State.NEW and (tmp_path / "VIS").exists()
    writers.begin(tmp_path, {**SETTINGS, "seed": 1}, state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", writers.SETTINGS]


def test_foreign_folders_are_never_touched(tmp_path):
    (tmp_path / "thesis.doc").write_text("")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="did not make"):
            writers.inspect(tmp_path, SETTINGS, overwrite)
    (tmp_path / writers.SETTINGS).write_text('{"made_by": "another program"}')
    with pytest.raises(UserError, match="did not make"):
        writers.inspect(tmp_path, SETTINGS, True)
    with pytest.raises(UserError, match="is a file"):
        writers.inspect(tmp_path / "thesis.doc", SETTINGS)
    with pytest.raises(UserError, match="not a folder that can be written into"):
        writers.inspect(tmp_path / "thesis.doc" / "out", SETTINGS)


def test_a_folder_is_claimed_once_and_looked_at_again(tmp_path):
    """Between a first look and the lock another run may have finished it."""
    out, lock = tmp_path / "out", FolderLock()
    with contextlib.closing(lock):
        assert writers.claim(out, SETTINGS, False, lock) is State.NEW
        assert writers.inspect(out, SETTINGS) is State.CONTINUE  # the lock is no foreign file
    with contextlib.closing(lock):
        assert writers.claim(out, SETTINGS, False, lock) is State.CONTINUE
        (out / writers.SUMMARY).write_text("{}")
        assert writers.claim(out, SETTINGS, False, lock) is State.FINISHED
        writers.release(out)
    assert sorted(path.name for path in out.iterdir()) == [writers.SETTINGS, writers.SUMMARY]


def test_a_folder_that_other_processes_do_not_see_is_refused(tmp_path):
    token = writers.leave_token(tmp_path / "here")
    writers.check_shared(tmp_path / "here", token, patience=0)
    writers.leave_token(tmp_path / "there")  # of another machine, or of an earlier run
    for place in ("there", "nowhere"):
        with pytest.raises(UserError, match=r"^--outdir: .*process 0 does not see there.*all machines share"):
            writers.check_shared(tmp_path / place, token, patience=0)


def test_manifest_lines_by_hand(tmp_path):
    kept = Record(4, 17, KEPT, 2, 3, 0.81234567, -np.inf, 0.25, None)
    refused = Record(5, 0, "private", max_sim_real=0.9)
    writers.write_manifest(tmp_path, [kept, refused], FolderLayout(tmp_path))
    lines = [json.loads(line) for line in (tmp_path / writers.MANIFEST).read_text().splitlines()]
    assert lines[0] == {
        "identity": 2,
        "sample": 3,
        "slot": 4,
        "seed": 17,
        "vis": "VIS/2/3.png",
        "nir": "NIR/2/3.png",
        "sim_reference": 0.812346,
        "max_sim_real": None,
        "max_sim_other": 0.25,
        "max_sim_same": None,
        "verdict": "kept",
    }
    assert "vis" not in lines[1] and lines[1]["verdict"] == "private" and lines[1]["identity"] is None
