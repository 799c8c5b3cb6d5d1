"""filter.py apply as a user calls it: what it makes, what it leaves alone, how it goes on, and mistakes in one line."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from arcface.backbones import build_backbone
from arcface.embed import embed, embed_dataset, embed_source
from arcface.weights import load_recognition, save_recognition
from generation import apply_files
from generation.thresholds import Thresholds, save_thresholds
from tests.filter_runs import run
from torch_utils.feature_file import FeatureSet, save_features
from torch_utils.image_tree import PairedTree, encode_png

PEOPLE, SAMPLES = 8, 5


def draw(seed, people, folder, first=0):
    """Pictures of coloured squares, others for each person, with noise; sample 3 is nearly sample 2."""
    rng = np.random.default_rng(seed)
    faces = np.kron(rng.integers(0, 200, (people, 4, 4, 3)), np.ones((1, 8, 8, 1))).astype(np.int64)
    faces[6 % people] = faces[0]  # the seventh is the first once more
    for person, face in enumerate(faces):
        noise = rng.integers(0, 55, (SAMPLES, *face.shape))
        noise[3] = noise[2]
        noise[3, :8] += 1
        for sample in range(SAMPLES):
            picture = np.minimum(face + noise[sample], 255).astype(np.uint8)
            if (person, sample) == (3, 4):
                picture = picture[::-1]  # another person
            for spectrum, pixels in (("VIS", picture), ("NIR", picture[..., :1])):
                (folder / spectrum).mkdir(parents=True, exist_ok=True)
                (folder / spectrum / f"{person + first}_{sample}.png").write_bytes(encode_png(pixels))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("apply")
    draw(0, PEOPLE, folder / "data", first=4)
    draw(1, 3, folder / "real")
    for spectrum in ("VIS", "NIR"):  # person 9 is a real one
        for sample in range(SAMPLES):
            shutil.copy(folder / "real" / spectrum / f"1_{sample}.png", folder / "data" / spectrum / f"9_{sample}.png")
    torch.manual_seed(0)
    save_recognition(folder / "rec.safetensors", build_backbone("r10n", 32).eval(), "r10n", 32)
    model = load_recognition(folder / "rec.safetensors")
    save_features(folder / "real.safetensors", embed_dataset(model, PairedTree(folder / "real"), show_progress=False))
    save_thresholds(folder / "t.json", Thresholds(model.fingerprint, 0.95, 0.01, unique=0.8, same=0.9, repeat=0.98))
    return folder


def apply(files, out, capsys, *more, data=None):
    return run(
        capsys, "apply", "--data", data or files / "data", "--rec-model", files / "rec.safetensors",
        "--real-features", files / "real.safetensors", "--thresholds", files / "t.json", "--detector", "none",
        "--workers", 0, "--outdir", out, *more,
    )  # fmt: skip


def manifest(out):
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def contents(folder, *left_out):
    """Everything below a folder but the seconds that a run took."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    if "summary.json" in found:
        summary = json.loads(found["summary.json"])
        unsteady = ("seconds", "pairs_per_second", *left_out)
        found["summary.json"] = json.dumps({k: v for k, v in summary.items() if k not in unsteady}).encode()
    return found


def test_a_dataset_is_filtered_and_left_alone(files, tmp_path, capsys):
    sources = sorted(path for path in (files / "data").rglob("*") if path.is_file())
    before = [(path, path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in sources]
    status, out, err = apply(files, tmp_path / "out", capsys)
    assert status == 0, err
    assert "hard links" in out
    after = sorted(path for path in (files / "data").rglob("*") if path.is_file())
    assert before == [(path, path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in after]
    lines, summary = manifest(tmp_path / "out"), json.loads((tmp_path / "out" / "summary.json").read_text())
    assert len(lines) == PEOPLE * SAMPLES == summary["candidates"] and list(lines[0])[-1] == "verdict"
    assert [line["source_vis"] for line in lines[::SAMPLES]] == [f"VIS/{person}_0.png" for person in range(4, 12)]
    kept = [line for line in lines if line["verdict"] == "kept"]
    assert len(kept) == summary["pairs_kept"] == summary["hard_links"] / 2 and summary["refused"]["repeat"] == 6
    assert lines[3 * SAMPLES + 4]["verdict"] == "same"
    assert {line["verdict"] for line in lines[5 * SAMPLES : 6 * SAMPLES]} == {"private"}
    assert {line["verdict"] for line in lines[6 * SAMPLES : 7 * SAMPLES]} == {"unique"}
    for line in kept:
        for spectrum in ("vis", "nir"):
            linked, source = tmp_path / "out" / line[spectrum], files / "data" / line[f"source_{spectrum}"]
            assert linked.samefile(source) and linked.stat().st_nlink >= 2
    places: dict[int, list[int]] = {line["identity"]: [] for line in kept}
    for line in kept:
        places[line["identity"]].append(line["sample"])
    assert list(places) == list(range(summary["identities_kept"]))
    assert all(samples == list(range(len(samples))) for samples in places.values())
    assert len(PairedTree(tmp_path / "out")) == len(kept) and not (tmp_path / "out" / ".parts").exists()


def test_no_pair_breaks_a_rule_when_all_is_embedded_again(files, tmp_path, capsys):
    assert apply(files, tmp_path / "out", capsys)[0] == 0
    limits = json.loads((files / "t.json").read_text())
    tree, model = PairedTree(tmp_path / "out"), load_recognition(files / "rec.safetensors")
    pictures = [tree.decode("vis", name) for name in tree.names]
    rows = np.asarray(embed(model, pictures), dtype=np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    real = embed_dataset(model, PairedTree(files / "real"), show_progress=False).features.astype(np.float64)
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    slack = 1e-6  # of a picture embedded in another batch
    assert (rows @ real.T).max() <= limits["unique"] + slack
    people = [int(identity) for identity in tree.identities]
    references = {person: rows[people.index(person)] for person in people}
    assert len(references) >= 3
    for number, (row, person) in enumerate(zip(rows, people, strict=True)):
        assert all(row @ other <= limits["unique"] + slack for who, other in references.items() if who != person)
        assert row @ references[person] >= limits["same"] - slack
        twins = [other for i, other in enumerate(rows) if people[i] == person and i != number]
        assert all(row @ other <= limits["repeat"] + slack for other in twins)


def test_again_is_the_same_and_the_output_is_kept_whole(files, tmp_path, capsys):
    assert apply(files, tmp_path / "one", capsys)[0] == 0
    assert apply(files, tmp_path / "two", capsys, "--copy")[0] == 0
    left_out = ("hard_links", "copies")
    assert contents(tmp_path / "one", *left_out) == contents(tmp_path / "two", *left_out)
    assert all(path.stat().st_nlink == 1 for path in (tmp_path / "two" / "VIS").rglob("*.png"))
    status, _, err = apply(files, tmp_path / "one", capsys)
    assert status == 0 and "All is done already" in err
    assert apply(files, tmp_path / "three", capsys, data=tmp_path / "one")[0] == 0
    assert {line["verdict"] for line in manifest(tmp_path / "three")} == {"kept"}
    pictures = {name: data for name, data in contents(tmp_path / "one").items() if name.endswith(".png")}
    assert pictures == {name: data for name, data in contents(tmp_path / "three").items() if name.endswith(".png")}
    # Deleting links leaves the source.
    assert apply(files, tmp_path / "one", capsys, "--overwrite", "--min-samples", 1)[0] == 0
    assert len(PairedTree(files / "data")) == PEOPLE * SAMPLES


@pytest.mark.parametrize("kind", ["original", "folders", "zip"])
def test_other_layouts_give_the_same(files, tmp_path, capsys, kind):
    data = tmp_path / "data"
    for spectrum in ("VIS", "NIR"):
        for path in (files / "data" / spectrum).iterdir():
            person, sample = path.stem.split("_")
            place = {
                "original": f"id_{person}/{spectrum}/sample_{sample}_{spectrum}.png",
                "folders": f"{spectrum}/{person}/{sample}.png",
                "zip": f"{spectrum}/{path.name}",
            }[kind]
            (data / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, data / place)
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
            for path in data.rglob("*.png"):
                archive.write(path, path.relative_to(data).as_posix())
        data = tmp_path / "data.zip"
    assert apply(files, tmp_path / "plain", capsys)[0] == 0
    status, _, err = apply(files, tmp_path / "out", capsys, data=data)
    assert status == 0, err
    pictures = [{n: d for n, d in contents(tmp_path / o).items() if n.endswith(".png")} for o in ("plain", "out")]
    assert pictures[0] == pictures[1]
    first = manifest(tmp_path / "out")[0]
    assert first["source_nir"] == {"original": "id_4/NIR/sample_0_NIR.png", "folders": "NIR/4/0.png",
                                   "zip": "NIR/4_0.png"}[kind]  # fmt: skip
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert bool(summary["copies"]) == (kind == "zip") and bool(summary["hard_links"]) == (kind != "zip")


def test_where_links_cannot_be_files_are_copied(files, tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert apply(files, tmp_path / "out", capsys)[0] == 0
    assert all(path.stat().st_nlink == 1 for path in (tmp_path / "out").rglob("*.png"))


def test_a_stopped_run_goes_on(files, tmp_path, capsys, monkeypatch):
    assert apply(files, tmp_path / "whole", capsys)[0] == 0
    monkeypatch.setattr(apply_files, "CHUNK", 16)
    calls = []

    def stop(model, pictures, **options):
        calls.append(len(pictures))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return embed_source(model, pictures, **options)

    monkeypatch.setattr(apply_files, "embed_source", stop)
    assert apply(files, tmp_path / "out", capsys)[0] == 130
    assert len(list((tmp_path / "out" / ".parts").iterdir())) == 2
    placed, place = [], apply_files._place

    def stop_later(*arguments):
        placed.append(arguments)
        if len(placed) == 7:
            raise KeyboardInterrupt
        return place(*arguments)

    monkeypatch.setattr(apply_files, "_place", stop_later)
    assert apply(files, tmp_path / "out", capsys)[0] == 130
    assert apply(files, tmp_path / "out", capsys)[0] == 0
    assert calls == [16, 16, 8, 8]  # the third was stopped; nothing finished was embedded twice
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_rules_are_switched_and_checked(files, tmp_path, capsys):
    status, _, err = apply(files, tmp_path / "a", capsys, "--rules", "repeat", "--min-samples", 1)
    assert status == 0, err
    assert {line["verdict"] for line in manifest(tmp_path / "a")} == {"kept", "repeat"}
    settings = json.loads((tmp_path / "a" / "settings.json").read_text())
    assert settings["rules"] == ["repeat"] and settings["privacy_check"] is False
    twice = ["--real-features", files / "real.safetensors", "--check-nir", "--min-sharpness", 1]
    status, _, err = apply(files, tmp_path / "b", capsys, *twice)
    assert status == 0, err
    settings = json.loads((tmp_path / "b" / "settings.json").read_text())
    assert settings["real_features"]["count"] == 30 and settings["checked_spectra"] == ["vis", "nir"]
    status, _, err = apply(files, tmp_path / "c", capsys, "--filter-preset", "arcbiface")
    assert status == 2 and "--detector: --filter-preset arcbiface has a face detector" in err
    status, _, err = apply(files, tmp_path / "c", capsys, "--rules", "private,face")
    assert status == 2 and "face cannot be in force" in err and not (tmp_path / "c").exists()


def test_a_folder_at_work_is_left_alone(files, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    child = (
        "import sys, time; from dnnlib.files import FolderLock; lock = FolderLock(); "
        "lock.take(sys.argv[1], '--outdir'); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", child, tmp_path / "out"], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
            status, _, err = apply(files, tmp_path / "out", capsys)
        finally:
            holder.kill()
    assert status == 2 and "another process is at work" in err


def test_mistakes_are_one_line(files, tmp_path, capsys):
    def refused(words, out=tmp_path / "out", *more, data=None):
        status, _, err = apply(files, out, capsys, *more, data=data)
        assert status == 2 and words in err and len(err.strip().splitlines()) == 1, err
        assert not (tmp_path / "out").exists()

    refused("lies in --data", files / "data" / "VIS" / "out")
    refused("lies in --data", files)
    refused("neither VIS/ and NIR/ in it", data=files)
    refused("no such folder or zip", data=tmp_path / "nowhere")
    (tmp_path / "empty" / "VIS").mkdir(parents=True)
    (tmp_path / "empty" / "NIR").mkdir()
    refused("no PNG or JPEG pictures", data=tmp_path / "empty")
    shutil.copy(files / "data" / "VIS" / "4_0.png", tmp_path / "empty" / "VIS" / "4_0.png")
    refused("1 VIS images have no NIR partner", data=tmp_path / "empty")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "letter.txt").write_text("mine")
    refused("holds files that filter.py apply did not make", tmp_path / "theirs")
    assert apply(files, tmp_path / "done", capsys)[0] == 0
    refused("holds another run (min_samples differ", tmp_path / "done", "--min-samples", 3)
    other = FeatureSet(np.eye(2, 512, dtype=np.float32), ["0_0.png", "1_0.png"], "f" * 16)
    save_features(tmp_path / "f.safetensors", other)
    refused("features of recognition model ffffffffffffffff", tmp_path / "out", "--real-features",
            tmp_path / "f.safetensors")  # fmt: skip


def test_a_picture_that_is_none_is_named_with_its_option(files, tmp_path, capsys):
    shutil.copytree(files / "data", tmp_path / "data")
    (tmp_path / "data" / "VIS" / "4_0.png").write_bytes(encode_png(np.zeros((32, 16, 3), dtype=np.uint8)))
    status, _, err = apply(files, tmp_path / "out", capsys, data=tmp_path / "data")
    assert status == 2 and f"Error: --data: {tmp_path / 'data'}: 4_0.png: 16x32 is not square" in err, err


def test_a_full_disk_is_outdirs(files, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("dnnlib.files.os.fsync", full)
        patched.setattr("generation.writers.begin", lambda *_: None)
        status, _, err = apply(files, tmp_path / "out", capsys)
    last = err.strip().splitlines()[-1]
    assert status == 2 and last.startswith(f"Error: --outdir: {tmp_path / 'out'}/.parts/") and "disk is full" in last


def test_nobody_is_left(files, tmp_path, capsys):
    status, _, err = apply(files, tmp_path / "out", capsys, data=files / "real")
    assert status == 2 and "nobody is left: rule 'private' refused 15 of 15" in err
