"""Which folder a run has, which of its files may go, and which network is the best."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dnnlib.errors import UserError
from dnnlib.files import FolderLock, keep_lines, read_json
from training.run_folder import (
    BEST_NETWORK,
    CONFIG_FILE,
    copy_best,
    latest_state,
    offer_best,
    open_run_folder,
    prune,
    read_best,
    refuse_other_features,
    stamp,
)
from training.snapshots import GENERATOR_FORMAT, snapshot_images


def snapshot(run_dir: Path, images: int) -> Path:
    """A file that passes for a network: its header alone is looked at."""
    path = run_dir / f"network-snapshot-{stamp(images)}.safetensors"
    header = json.dumps({"metadata": {"images_seen": images}})
    save_file({"x": torch.full([1], float(images))}, path, metadata={GENERATOR_FORMAT: header})
    return path


def files_of(run_dir: Path, kimg: int, moment: int) -> None:
    """All that a snapshot leaves, written in the order of training, at `moment` seconds."""
    for name in ("fakes-{}-vis.png", "fakes-{}-nir.png", "network-snapshot-{}.safetensors", "training-state-{}.pt"):
        path = run_dir / name.format(f"{kimg:06d}")
        path.touch()
        os.utime(path, (moment, moment))
        moment += 1


def test_new_folders_are_numbered_and_a_runs_own_is_found_again(tmp_path: Path) -> None:
    described = {"gpus": 1, "batch": 8}
    first, _ = open_run_folder(tmp_path / "runs", None, described, "faces-tiny32")
    second, _ = open_run_folder(tmp_path / "runs", None, described, "faces-tiny32")
    assert [first.name, second.name] == ["00000-faces-tiny32", "00001-faces-tiny32"]
    state = first / "training-state-000001.pt"
    (first / ".training-state-000002.pt.x1y2.tmp").write_bytes(b"half")
    again, changed = open_run_folder(tmp_path / "runs", state, {"gpus": 2, "batch": 8}, "faces-tiny32")
    assert again == first and changed == ["gpus"]
    assert json.loads((first / "config.json").read_text()) == {"gpus": 2, "batch": 8}
    assert not list(first.glob(".*.tmp"))
    elsewhere, changed = open_run_folder(tmp_path / "other", state, described, "faces-tiny32")
    assert elsewhere == tmp_path / "other/00000-faces-tiny32" and changed == []


def test_a_run_has_one_process_at_a_time(tmp_path: Path) -> None:
    """The second must not touch what the first writes, and gets its turn when the first is gone, even by a kill."""
    run_dir, _ = open_run_folder(tmp_path, None, {}, "x")
    state, unfinished = run_dir / "training-state-000001.pt", run_dir / ".training-state-000002.pt.x1y2.tmp"
    unfinished.touch()
    hold = "import sys, time; from dnnlib.files import FolderLock; lock = FolderLock(); lock.take(sys.argv[1], '')"
    with subprocess.Popen(
        [sys.executable, "-c", f"{hold}; print(1, flush=True); time.sleep(60)", str(run_dir)],
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout is not None and first.stdout.readline() == "1\n"
        with pytest.raises(UserError, match="--resume: .*another process is at work in it"):
            open_run_folder(tmp_path, state, {"new": 1}, "x", FolderLock())
        assert unfinished.exists() and read_json(run_dir / "config.json") == {}
        first.kill()
    with contextlib.closing(FolderLock()) as lock:
        assert open_run_folder(tmp_path, state, {"new": 1}, "x", lock) == (run_dir, ["new"])
    assert not unfinished.exists()


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--outdir: .*file"):
        open_run_folder(tmp_path / "file", None, {}, "x")


def test_the_latest_state_is_whole_and_the_newest(tmp_path: Path) -> None:
    assert latest_state(tmp_path) is None and latest_state(tmp_path / "none") is None
    for number, moment in ((9, 100), (3, 200)):
        (tmp_path / f"0000{number}").mkdir()
        files_of(tmp_path / f"0000{number}", number, moment)
    (tmp_path / "00003/.training-state-000004.pt.abc.tmp").write_bytes(b"half")
    assert latest_state(tmp_path) == tmp_path / "00003/training-state-000003.pt"


def test_the_newest_stay_and_the_best_network(tmp_path: Path) -> None:
    for kimg, moment in ((10, 100), (20, 200), (30, 300), (5, 400)):  # at the end from an earlier state again
        files_of(tmp_path, kimg, moment)
    (tmp_path / "reals-vis.png").touch()
    os.utime(tmp_path / "reals-vis.png", (0, 0))
    entry = {"metric": "fd", "value": 1.0, "higher_is_better": False, "images_seen": 10000}
    (tmp_path / "best.json").write_text(json.dumps({**entry, "snapshot": "network-snapshot-000010.safetensors"}))
    prune(tmp_path, None)
    assert len(list(tmp_path.iterdir())) == 4 * 4 + 2
    prune(tmp_path, 2)
    kept = {f"{name}-{kimg:06d}{end}" for kimg in (30, 5) for name, end in KINDS}
    assert {path.name for path in tmp_path.iterdir()} == kept | {
        "network-snapshot-000010.safetensors",
        "best.json",
        "reals-vis.png",
    }


KINDS = (
    ("fakes", "-vis.png"),
    ("fakes", "-nir.png"),
    ("network-snapshot", ".safetensors"),
    ("training-state", ".pt"),
)


def test_the_best_is_the_best_of_all_sittings(tmp_path: Path) -> None:
    for kimg, value, better in ((1, 30.0, True), (2, 20.0, True), (3, 25.0, False), (4, float("nan"), False)):
        assert offer_best(tmp_path, snapshot(tmp_path, kimg * 1000), kimg * 1000, "fid", value, higher=False) == better
    assert snapshot_images(tmp_path / BEST_NETWORK) == 2000
    assert read_best(tmp_path) == {
        "metric": "fid",
        "value": 20.0,
        "higher_is_better": False,
        "snapshot": "network-snapshot-000002.safetensors",
        "images_seen": 2000,
    }
    assert offer_best(tmp_path, snapshot(tmp_path, 5000), 5000, "recall", 0.1, higher=True)  # another metric: anew
    assert not offer_best(tmp_path, snapshot(tmp_path, 6000), 6000, "recall", 0.05, higher=True)
    assert offer_best(tmp_path, snapshot(tmp_path, 7000), 7000, "recall", 0.2, higher=True)
    assert snapshot_images(tmp_path / BEST_NETWORK) == 7000


def test_a_run_killed_before_the_best_network_is_there_makes_up_for_it(tmp_path: Path) -> None:
    offer_best(tmp_path, snapshot(tmp_path, 1000), 1000, "fid", 30.0, higher=False)
    offer_best(tmp_path, snapshot(tmp_path, 2000), 2000, "fid", 20.0, higher=False)
    (tmp_path / BEST_NETWORK).write_bytes((tmp_path / "network-snapshot-000001.safetensors").read_bytes())
    copy_best(tmp_path)
    assert snapshot_images(tmp_path / BEST_NETWORK) == 2000
    snapshot(tmp_path, 2900)  # of the same kimg, and so of the same name
    copy_best(tmp_path)
    assert snapshot_images(tmp_path / BEST_NETWORK) == 2000
    assert not list(tmp_path.glob(".*.tmp"))


def test_damaged_files_of_a_run_are_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "best.json").write_text("{}")
    with pytest.raises(UserError, match=r"--resume: .*best\.json: does not describe a network; remove it"):
        read_best(tmp_path)
    (tmp_path / "stats.jsonl").write_text('{"progress/kimg": 1}\ngarbage\n')
    with pytest.raises(UserError, match=r"stats\.jsonl: line 2 is not JSON"):
        keep_lines(tmp_path / "stats.jsonl", lambda line: True)


def test_features_of_another_model_do_not_go_on_with_a_run(tmp_path: Path) -> None:
    state = tmp_path / "training-state-000000.pt"
    refuse_other_features(state, "b", "--features: f")  # a state alone says nothing
    for said in ('{"recognition_model": "b"}', '{"recognition_model": "unknown"}', "{}", "[]"):
        (tmp_path / CONFIG_FILE).write_text(said)
        refuse_other_features(state, "b", "--features: f")
    (tmp_path / CONFIG_FILE).write_text('{"recognition_model": "a"}')
    refuse_other_features(state, "unknown", "--features: f")
    with pytest.raises(UserError, match=r"^--features: f: features of .* model b, .* conditioned on those of a;"):
        refuse_other_features(state, "b", "--features: f")
