"""generate_dataset.py on real, untrained networks: the whole command, its aliases, and each mistake in one line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import generate_dataset
from arcface.backbones import build_backbone
from arcface.embed import embed
from arcface.weights import load_recognition, save_recognition
from generation.identity_sampling import RandomIdentities
from generation.networks import renderer_of
from generation.thresholds import from_moments, save_thresholds
from tests.training import released
from torch_utils.feature_file import FeatureSet, load_features, save_features
from torch_utils.image_tree import decode_image
from torch_utils.streams import stream
from training.generator import Generator
from training.snapshots import load_generator, save_generator

SUMMARY_KEYS = [
    *("identities_kept", "pairs_kept", "candidates", "refused", "mated_mean", "mated_sd", "nonmated_mean", "eer"),
    *("max_real_similarity", "threshold_unique", "threshold_same", "threshold_repeat", "pairs_per_second", "seconds"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A generator, a recognition model, features of real people, and thresholds at which some candidates pass."""
    folder = tmp_path_factory.mktemp("inputs")
    torch.manual_seed(0)
    backbone = build_backbone("r10n", 32).eval()
    mark = save_recognition(folder / "rec.safetensors", backbone, "r10n", 32)
    generator = Generator(resolution=16, channel_base=128, channel_max=16, mapping_layers=2)
    metadata = {"recognition_model": mark, "feature_norm": 4.0, "images_seen": 1000}
    save_generator(folder / "gen.safetensors", generator, metadata)
    rng = np.random.default_rng(0)
    names = [f"{person:02d}_{sample}.png" for person in range(6) for sample in range(3)]
    centres = np.repeat(rng.normal(size=(6, 512)), 3, axis=0)
    features = (centres + 0.3 * rng.normal(size=centres.shape)).astype(np.float32)
    save_features(folder / "real.safetensors", FeatureSet(features, names, mark))
    save_features(folder / "one.safetensors", FeatureSet(features[::3], names[::3], mark, mode="one"))
    save_features(folder / "other.safetensors", FeatureSet(features, names, "f" * 16))
    save_features(folder / "real.json", FeatureSet(features, names, mark))
    save_features(folder / "nir.safetensors", FeatureSet(-features, names, mark, spectrum="nir"))
    one_way = features[:1] * rng.uniform(1, 2, size=(18, 1)).astype(np.float32)
    save_features(folder / "constant.safetensors", FeatureSet(one_way, names, mark))
    save_features(folder / "alike.safetensors", FeatureSet(np.tile(features[:3], (6, 1)), names, mark))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    save_features(folder / "unit.json", FeatureSet(unit, names, mark))
    (folder / "nan.json").write_text(json.dumps({"labels": [["0_0.png", [float("nan")] * 512]]}))
    (folder / "empty.json").write_text('{"labels": []}')
    save_thresholds(folder / "thresholds.json", thresholds_between(generator, folder / "rec.safetensors", mark))
    save_thresholds(folder / "foreign.json", from_moments(0.7, 0.1, "f" * 16))
    return folder


def thresholds_between(generator, rec_model, mark):
    """Where this generator's pictures lie: people apart enough to pass, most candidates like their first."""
    slots = range(12)
    features = np.repeat(RandomIdentities(0)(slots), 2, axis=0)
    latents = np.stack([stream(0, "latent", slot, k).standard_normal(512) for slot in slots for k in (0, 1)])
    pictures = renderer_of(generator.eval(), 0.7)(latents.astype(np.float32), features)
    rows = embed(load_recognition(rec_model), torch.from_numpy(pictures["vis"])).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    same = float(np.quantile((rows[::2] * rows[1::2]).sum(1), 0.2))
    references = rows[::2] @ rows[::2].T
    unique = float(np.quantile(references[np.triu_indices(12, 1)], 0.99))
    return replace(from_moments(0.7, 0.1, mark), unique=unique, same=same, repeat=max(0.99999, same + 1e-6))


def arguments(files, outdir, **changes):
    options = {
        "gen_model": files / "gen.safetensors",
        "rec_model": files / "rec.safetensors",
        "real_features": files / "real.safetensors",
        "thresholds": files / "thresholds.json",
        "outdir": outdir,
        "ids": 3,
        "samples_per_id": 2,
        "detector": "none",
        "tries": 64,
        "max_slots": 200,
        **changes,
    }
    line = []
    for name, value in options.items():
        hyphened = f"--{name.replace('_', '-')}"
        if value is True:
            line.append(hyphened)
        elif value is not None:
            line += [hyphened, str(value)]
    return line


def run(line, capsys):
    """(status, stdout, stderr) of the command."""
    with pytest.raises(SystemExit) as ended:
        generate_dataset.main(line)
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


@pytest.fixture(scope="module")
def dataset(files, tmp_path_factory):
    outdir = tmp_path_factory.mktemp("dataset") / "out"
    with pytest.raises(SystemExit) as ended:
        generate_dataset.main(arguments(files, outdir))
    assert ended.value.code == 0
    return outdir


def test_the_command_makes_a_dataset(dataset):
    summary = json.loads((dataset / "summary.json").read_text())
    assert list(summary) == SUMMARY_KEYS
    assert (summary["identities_kept"], summary["pairs_kept"]) == (3, 6)
    assert summary["max_real_similarity"] <= summary["threshold_unique"]
    assert len(list(dataset.glob("VIS/*/*.png"))) == len(list(dataset.glob("NIR/*/*.png"))) == 6
    settings = json.loads((dataset / "settings.json").read_text())
    assert settings["feature_norm"] == 4.0 and settings["real_features"]["people"] == 6
    assert "detector" in settings and "batch" not in settings
    assert (dataset / "report.html").stat().st_size > 10_000


def test_a_finished_run_says_so_and_touches_nothing_but_parts_that_a_kill_has_left(files, dataset, capsys):
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    (dataset / ".parts").mkdir()
    status, out, err = run(arguments(files, dataset, batch=16), capsys)
    assert status == 0 and "All is done already" in err and str(dataset / "report.html") in out
    status, out, err = run(arguments(files, dataset, dry_run=True), capsys)  # whose output is JSON, if any
    assert (status, out) == (0, "") and "All is done already" in err
    assert before == {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}  # the .parts are gone


def test_names_of_arcbifacegan_and_the_same_bytes(files, dataset, tmp_path, capsys):
    line = arguments(files, tmp_path / "out", batch=1)
    names = {"--gen-model": "--gen_model", "--rec-model": "--rec_model", "--real-features": "--training_ids"}
    names |= {"--samples-per-id": "--samples_per_id", "--max-slots": "--max_slots"}
    status, out, err = run([names.get(word, word) for word in line], capsys)
    assert status == 0 and "identities kept" in out, err
    assert (tmp_path / "out/manifest.jsonl").read_bytes() == (dataset / "manifest.jsonl").read_bytes()
    for path in dataset.glob("*/*/*.png"):
        assert (tmp_path / "out" / path.relative_to(dataset)).read_bytes() == path.read_bytes()


def test_thresholds_come_from_the_real_features_if_not_given(files, tmp_path, capsys):
    status, _, err = run(arguments(files, tmp_path / "out", thresholds=None, ids=1, tries=2, max_slots=4), capsys)
    # Untrained networks cannot meet them; that they were calibrated is in the settings.
    assert status in (0, 2), err
    found = json.loads((tmp_path / "out/settings.json").read_text())["thresholds"]
    assert found["mated_scores"] == 18 and found["error_rates"]["same"]["threshold"] == found["same"]


def test_real_like_identities_and_arcbifacegans_json(files, tmp_path, capsys):
    line = arguments(files, tmp_path / "out", real_features=files / "real.json", identities="real-like", ids=1)
    status, _, err = run([*line, "--no-privacy-check"], capsys)
    assert "does not say which model made it" in err and "--no-privacy-check: the samples are not compared" in err
    assert status == 0 and "this run had --no-privacy-check" in (tmp_path / "out/report.html").read_text().lower()


def test_a_released_pickle_with_a_warning(files, tmp_path, capsys):
    path = released.save(tmp_path / "x.pkl", G_ema=released.generator(16, 512, 512, 16, widths=(16, 8, 4)))
    line = arguments(files, tmp_path / "out", gen_model=path, ids=1, samples_per_id=1, tries=2, max_slots=4)
    status, _, err = run(line, capsys)
    settings = json.loads((tmp_path / "out/settings.json").read_text())
    assert status in (0, 2) and settings["generator"]["images seen"] is None
    assert f"{path} does not say whose features it was conditioned on" in err
    assert settings["feature_norm"] == pytest.approx(load_features(files / "real.safetensors").norm)
    unconditional = released.save(tmp_path / "u.pkl", G=released.generator(16, 512, 0, 16, widths=(16, 8, 4)))
    status, _, err = run(arguments(files, tmp_path / "none", gen_model=unconditional), capsys)
    assert status == 2 and "u.pkl: an unconditional network" in err and not (tmp_path / "none").exists()


def test_infeasible_settings_end_with_words(files, tmp_path, capsys):
    save_thresholds(tmp_path / "t.json", replace(from_moments(0.9, 0.01, mark_of(files)), unique=-0.9))
    status, _, err = run(arguments(files, tmp_path / "out", thresholds=tmp_path / "t.json", max_slots=16), capsys)
    last = err.strip().splitlines()[-1]
    assert status == 2 and "0 of 3 identities were completed: 16 people were tried (--max-slots 16)" in last
    assert not (tmp_path / "out/summary.json").exists()


def test_fewer_identities_than_wanted_are_said(files, tmp_path, capsys):
    status, _, err = run(arguments(files, tmp_path / "out", ids=20, samples_per_id=1, max_slots=20), capsys)
    kept = json.loads((tmp_path / "out/summary.json").read_text())["identities_kept"]
    assert status == 0 and 0 < kept < 20 and f"Warning: {kept} of 20 identities were completed" in err
    assert "of 20 identities were completed" in (tmp_path / "out/report.html").read_text()


def test_normalised_features_are_refused_where_their_length_matters(files, tmp_path, capsys):
    """The length of a condition is known neither from the network nor from them."""
    path = released.save(tmp_path / "x.pkl", G_ema=released.generator(16, 512, 512, 16, widths=(16, 8, 4)))
    line = arguments(files, tmp_path / "out", gen_model=path, real_features=files / "unit.json")
    status, _, err = run(line, capsys)
    assert status == 2 and "unit.json: normalised features, all of length 1" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_several_files_of_real_features_all_count(files, dataset, tmp_path, capsys):
    """The second file holds the opposite of each feature: under |cos| nothing changes, without it the most similar is
    another one."""
    line = arguments(files, tmp_path / "out")
    status, _, err = run([*line, "--real-features", str(files / "nir.safetensors")], capsys)
    assert status == 0, err
    real = json.loads((tmp_path / "out/settings.json").read_text())["real_features"]
    assert (real["count"], real["people"], real["name"]) == (36, 6, "real.safetensors, nir.safetensors")
    lines, before = (
        [json.loads(text)["max_sim_real"] for text in (place / "manifest.jsonl").read_text().splitlines()[:1]]
        for place in (tmp_path / "out", dataset)
    )
    pictures = dataset / "VIS/0/0.png"
    assert lines[0] >= before[0] and pictures.exists()
    row = load_features(files / "real.safetensors").features.astype(np.float64)
    row /= np.linalg.norm(row, axis=1, keepdims=True)
    model = load_recognition(files / "rec.safetensors")
    own = embed(model, torch.from_numpy(read(pictures))).astype(np.float64)[0]
    assert lines[0] == pytest.approx(np.abs(row @ own).max() / np.linalg.norm(own), abs=1e-5)


def read(path):
    """uint8 [1, C, H, W]"""
    return decode_image(path.read_bytes(), "RGB", "picture").transpose(2, 0, 1)[None].copy()


@pytest.mark.slow
def test_gpus_and_torchrun_give_the_same_bytes(files, dataset, tmp_path):
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    for name, start in {"gpus": [sys.executable], "torchrun": torchrun}.items():
        line = arguments(files, tmp_path / name, device="cpu", gpus=2 if name == "gpus" else None)
        command = [*start, str(root / "generate_dataset.py"), *line]
        done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0 and done.stdout.count("Report: ") == 1, done.stderr[-3000:]
        for path in [*dataset.glob("*/*/*.png"), dataset / "manifest.jsonl", dataset / "settings.json"]:
            assert (tmp_path / name / path.relative_to(dataset)).read_bytes() == path.read_bytes()


# ----------------------------------------------------------------------------
# Rules, presets and the user's own people.


def lines_of(outdir):
    return [json.loads(line) for line in (outdir / "manifest.jsonl").read_text().splitlines()]


def test_rules_that_are_switched_off_refuse_nobody_and_are_not_promised(files, tmp_path, capsys):
    out = tmp_path / "out"
    status, _, err = run(arguments(files, out, rules="unique,repeat"), capsys)
    assert status == 0 and "--rules: private is not in force" in err, err
    assert {line["verdict"] for line in lines_of(out)} <= {"kept", "unique", "repeat", "tries"}
    assert all(line["max_sim_real"] is not None for line in lines_of(out))  # recorded all the same
    settings = json.loads((out / "settings.json").read_text())
    assert settings["rules"] == ["unique", "repeat"] and settings["privacy_check"] is False
    for page in ("report.html", "datasheet.md"):
        assert "Not promised: private" in (out / page).read_text()
        assert "Not promised: same" in (out / page).read_text()


def test_no_real_people_are_needed_where_the_private_rule_is_off(files, tmp_path, capsys):
    status, _, err = run(arguments(files, tmp_path / "out", rules="unique,same", real_features=None), capsys)
    assert status == 0, err
    assert all(line["max_sim_real"] is None for line in lines_of(tmp_path / "out"))


def test_quality_is_a_rule_of_its_own(files, tmp_path, capsys):
    plain = lines_of_run(files, tmp_path / "plain", capsys)
    assert lines_of_run(files, tmp_path / "low", capsys, min_sharpness=0.0) == plain  # in force, and refuses nobody
    status, _, err = run(arguments(files, tmp_path / "high", min_feature_norm=1e6, max_slots=8), capsys)
    assert status == 2 and "rule 'quality' refused" in err and "--min-feature-norm" in err


def lines_of_run(files, outdir, capsys, **changes):
    status, _, err = run(arguments(files, outdir, ids=1, **changes), capsys)
    assert status == 0, err
    return lines_of(outdir)


def test_the_near_infrared_picture_is_checked_by_its_own_embedding(files, tmp_path, capsys):
    thresholds = replace(from_moments(0.7, 0.1, mark_of(files)), unique=0.99999, same=-0.5, repeat=0.999999)
    save_thresholds(tmp_path / "t.json", thresholds)
    lines = lines_of_run(
        files, tmp_path / "out", capsys, check_nir=True, rules="private,same", thresholds=tmp_path / "t.json"
    )
    real = load_features(files / "real.safetensors").features.astype(np.float64)
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    kept = [line for line in lines if line["verdict"] == "kept"]
    pictures = np.stack([read_grey(tmp_path / "out" / line["nir"]) for line in kept])
    rows = embed(load_recognition(files / "rec.safetensors"), torch.from_numpy(pictures)).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = [line["checked"]["nir"] for line in kept]
    assert [one["sim_reference"] for one in found] == pytest.approx(rows @ rows[0], abs=2e-6)
    assert [one["max_sim_real"] for one in found] == pytest.approx((rows @ real.T).max(axis=1), abs=2e-6)
    assert json.loads((tmp_path / "out/settings.json").read_text())["checked_spectra"] == ["vis", "nir"]
    assert "NIR pictures, too" in (tmp_path / "out/report.html").read_text()


def read_grey(path):
    """uint8 [1, H, W]"""
    return decode_image(path.read_bytes(), "L", str(path)).transpose(2, 0, 1)


def test_the_original_filter_needs_no_thresholds_and_compares_with_the_first(files, tmp_path, capsys):
    plan = {"filter_preset": "arcbiface", "detector": None, "thresholds": None, "ids": 1, "max_slots": 2, "tries": None}
    status, _, err = run(arguments(files, tmp_path / "out", **plan), capsys)
    assert status in (0, 2) and "compares with one feature of each real person" in err, err  # no faces here
    settings = json.loads((tmp_path / "out/settings.json").read_text())
    assert settings["filter_preset"] == "arcbiface" and settings["absolute"] and settings["tries"] == 2500
    assert settings["real_features_compared"] == "first of each person"
    limits = [settings["thresholds"][name] for name in ("unique", "same", "repeat")]
    assert limits == pytest.approx([0.622, 0.622, 0.853])


def test_identities_of_the_users_own(files, tmp_path, capsys):
    rows = np.random.default_rng(1).normal(size=(3, 512))
    np.save(tmp_path / "own.npy", rows)
    line = arguments(files, tmp_path / "out", identities=tmp_path / "own.npy", samples_per_id=1, rules="private")
    status, _, err = run(line, capsys)
    assert status == 0 and "own.npy does not say which model made it" in err, err
    settings = json.loads((tmp_path / "out/settings.json").read_text())
    assert settings["identities"] == "file" and settings["identity_file"]["name"] == "own.npy"
    assert settings["max_slots"] == 3
    # Slot i is row i, at the length that the generator knows.
    generator = load_generator(files / "gen.safetensors")
    features = (rows * 4 / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    latents = np.stack([stream(0, "latent", slot, 0).standard_normal(512) for slot in range(3)])
    wanted = renderer_of(generator, 0.7)(latents.astype(np.float32), features)["nir"]
    found = np.stack([read_grey(tmp_path / f"out/NIR/{slot}/0.png") for slot in range(3)])
    assert np.abs(found.astype(int) - wanted).max() <= 1  # other batches round otherwise


def test_a_file_of_people_that_runs_out_says_so(files, tmp_path, capsys):
    rows = np.random.default_rng(1).normal(size=(2, 512))
    np.save(tmp_path / "own.npy", np.concatenate([rows, rows[:1]]))  # the third is the first again
    save_thresholds(tmp_path / "t.json", replace(from_moments(0.7, 0.1, mark_of(files)), unique=0.9999, repeat=0.99999))
    changes = {"thresholds": tmp_path / "t.json", "rules": "unique", "samples_per_id": 1}
    status, _, err = run(
        arguments(files, tmp_path / "out", identities=tmp_path / "own.npy", truncation=0, **changes), capsys
    )
    last = err.strip().splitlines()[-1]
    assert "of 3 identities were completed: all 3 people in the file of --identities were tried" in last, (status, err)


@pytest.mark.slow
def test_spread_identities_are_kept_among_the_parts_and_the_same_again(files, tmp_path, capsys):
    lines = lines_of_run(files, tmp_path / "one", capsys, identities="spread")
    assert lines == lines_of_run(files, tmp_path / "two", capsys, identities="spread", batch=1)
    assert lines != lines_of_run(files, tmp_path / "other", capsys)


def mark_of(files):
    return load_recognition(files / "rec.safetensors").fingerprint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gen_model": "nowhere.safetensors"}, "--gen-model: nowhere.safetensors: no such file"),
        ({"gen_model": "rec.safetensors"}, "--gen-model: .*not a generator"),
        ({"rec_model": "nowhere.pth"}, "--rec-model: nowhere.pth: no such file"),
        ({"real_features": None}, "--real-features: needed, so that nobody real is drawn"),
        ({"real_features": "nowhere"}, "--real-features: nowhere: no such file"),
        ({"real_features": "other.safetensors"}, "--real-features: .*features of recognition model ffffffffffffffff"),
        ({"thresholds": "foreign.json"}, "--thresholds: .*calibrated for recognition model ffffffffffffffff"),
        ({"thresholds": None, "real_features": "one.safetensors"}, "--thresholds: not given.*features of mode all"),
        ({"thresholds": None, "real_features": None, "no_privacy_check": True}, "--thresholds: needed"),
        ({"real_features": None, "no_privacy_check": True, "identities": "real-like"}, "--identities: real-like needs"),
        ({"real_features": "constant.safetensors"}, "--real-features: .*all 18 features point the same way"),
        ({"real_features": "alike.safetensors"}, "--real-features: .*the features of all 6 people are the same"),
        ({"real_features": "nan.json"}, "--real-features: .*NaN"),
        ({"real_features": "empty.json"}, "--real-features: .*for 0 names"),
        ({"gpus": 0}, "--gpus: 0 is not at least 1"),
        ({"gpus": 2, "device": "cuda:1"}, "--device: cuda:1: 2 processes take a GPU each"),
        ({"ids": 0}, "--ids"),
        ({"rules": "face,nobody"}, "--rules: 'nobody' is no rule; some of face,frontal,quality,private"),
        ({"rules": "face"}, "--rules: face cannot be in force with --detector none"),
        ({"filter_preset": "arcbiface"}, "--detector: --filter-preset arcbiface has a face detector"),
        ({"filter_preset": "arcbiface", "detector": None}, "--thresholds: --filter-preset arcbiface has thresholds of"),
        ({"min_feature_norm": "inf"}, "--min-feature-norm: inf is no finite number"),
        ({"identities": "spraed"}, "--identities: spraed: no such file; random, spread, real-like or a file"),
        ({"identities": "other.safetensors"}, "--identities: .*features of recognition model f+, but the generator"),
        ({"identities": "real.safetensors", "ids": 19}, "--identities: .*18 features cannot become 19 identities"),
        ({"device": "cuda:99"}, "--device: cuda:99: "),
        ({"device": "toaster"}, "--device: toaster: no such device"),
        ({"detector": "nowhere"}, "nowhere"),
        ({"truncation": "nan"}, "--truncation: nan is no finite number"),
        ({"ids": 5, "max_slots": 4}, "--max-slots: 4 is less than --ids 5"),
        ({"samples_per_id": 65}, "--tries: 64 is less than --samples-per-id 65"),
        ({"tries": 10**30}, "--tries"),
        ({"round": 10**7}, "--round"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_created(files, tmp_path, capsys, changes, words):
    here = {
        name: files / value if isinstance(value, str) and (files / value).is_file() else value
        for name, value in changes.items()
    }
    status, _, err = run(arguments(files, tmp_path / "out", **here), capsys)
    assert status == 2 and len(err.strip().splitlines()) == 1, err
    assert re.search(words, err), err
    assert not (tmp_path / "out").exists()


def test_another_runs_folder_is_refused(files, dataset, capsys):
    status, _, err = run(arguments(files, dataset, seed=5), capsys)
    assert status == 2 and "holds another run (seed differ; seed was 0)" in err and "--overwrite" in err


def test_help_is_in_full_sentences(capsys):
    status, out, _ = run(["--help"], capsys)
    assert status == 0 and "--samples-per-id" in out and "--samples_per_id" not in out


# ----------------------------------------------------------------------------
# Looking ahead.


def test_a_dry_run_tells_all_and_makes_nothing(files, tmp_path, capsys):
    outdir = tmp_path / "out"
    status, out, err = run(arguments(files, outdir, dry_run=True, format="rec"), capsys)
    told = json.loads(out)
    assert status == 0 and not outdir.exists()
    assert told["ids"] == 3 and told["layout"] == "rec" and told["thresholds"]["unique"] > 0
    forecast = told["forecast"]
    assert {"pilot", "slots", "candidates", "seconds", "disk_bytes", "memory_bytes", "infeasible"} <= set(forecast)
    assert sum(forecast["pilot"]["first_samples"].values()) == pytest.approx(1)
    assert forecast["pairs_per_second"] > 0 and "3 identities of 2 pairs" in err and "pairs a second" in err


def test_strict_ends_what_can_hardly_succeed(files, tmp_path, capsys):
    """Half of a person's samples pass; 64 candidates cannot hold the 200 that are wanted."""
    changes = {"samples_per_id": 200, "tries": 210, "ids": 3, "strict": True}
    status, _, err = run(arguments(files, tmp_path / "out", **changes), capsys)
    last = err.splitlines()[-1]
    assert status == 2 and last.startswith("Error: --tries: a person needs about ") and "(--strict ends" in last
    assert (tmp_path / "out" / "settings.json").exists() and not (tmp_path / "out" / "summary.json").exists()
