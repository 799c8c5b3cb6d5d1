"""The whole chain through the command lines, in miniature: nothing -> people -> models -> filtered dataset."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import dataset_tool
import filter
import generate_dataset
import train
import train_recognition
from arcface.embed import embed
from arcface.weights import load_recognition
from dnnlib.files import read_lines
from torch_utils.feature_file import load_features, save_features
from torch_utils.image_tree import ImageTree
from training.snapshots import load_generator, load_state


def run(command: click.Command, *arguments: object) -> Result:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result


def refused(command: click.Command, *arguments: object) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.exit_code == 2 and len(errors) == 1, result.output + repr(result.exception)
    return errors[0]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every stage once; a loosened `thresholds.json`, because networks trained this little tell nobody apart."""
    root = tmp_path_factory.mktemp("chain")
    people, recognition, runs = root / "people", root / "recognition", root / "runs"
    example = ("example", "--dest", people, "--identities", 8, "--samples", 4, "--resolution", 32, "--workers", 1)
    run(dataset_tool.main, *example)
    trained = ("--data", people, "--outdir", recognition, "--steps", 6, "--batch", 8, "--holdout", 2)
    run(train_recognition.main, *trained)
    model = recognition / "recognition.safetensors"
    run(dataset_tool.main, "features", "--data", people, "--rec-model", model)
    calibrated = ("calibrate", "--data", people, "--rec-model", model, "--out", root / "thresholds.json")
    run(filter.main, *calibrated)
    training: tuple[object, ...] = (
        "--data",
        people,
        "--outdir",
        runs,
        "--cfg",
        "tiny32",
        "--fmaps",
        1 / 256,
        "--batch",
        4,
        "--workers",
        0,
    )
    training += ("--tick", 0.02, "--snap", 1)
    run(train.main, *training, "--kimg", 0.04)
    state = shutil.copy(next(runs.glob("*/training-state-*.pt")), root / "state.pt")
    thresholds = json.loads((root / "thresholds.json").read_text())
    thresholds.update(unique=0.9999999, same=-0.9999999, repeat=0.99999999)
    (root / "loose.json").write_text(json.dumps(thresholds))
    snapshot = next(runs.glob("*/network-snapshot-*.safetensors"))
    generation: tuple[object, ...] = (
        "--gen-model",
        snapshot,
        "--rec-model",
        model,
        "--real-features",
        people / "identity_features.safetensors",
    )
    generation += ("--thresholds", root / "loose.json", "--detector", "none", "--ids", 2, "--samples-per-id", 2)
    run(generate_dataset.main, *generation, "--outdir", root / "out")
    return {
        "root": root,
        "people": people,
        "model": model,
        "runs": runs,
        "state": state,  # a copy: a test goes on with the run
        "training": training,
        "generation": generation,
    }


def test_the_dataset_is_whole(chain: dict[str, Any]) -> None:
    out = chain["root"] / "out"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["identities_kept"] == 2 and summary["pairs_kept"] == 4
    assert ImageTree(out / "VIS").names == ImageTree(out / "NIR").names and len(ImageTree(out / "VIS").names) == 4
    kept = [line for line in read_lines(out / "manifest.jsonl") if line["verdict"] == "kept"]
    assert {line["vis"] for line in kept} == {f"VIS/{name}" for name in ImageTree(out / "VIS").names}
    assert "<html" in (out / "report.html").read_text()


def test_the_manifests_similarities_are_those_of_the_pictures(chain: dict[str, Any]) -> None:
    """The kept pictures, read from disk and embedded again, against every real feature."""
    out, model = chain["root"] / "out", load_recognition(chain["model"])
    real = load_features(chain["people"] / "identity_features.safetensors").features.astype(np.float64)
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    for line in read_lines(out / "manifest.jsonl"):
        if line["verdict"] != "kept":
            continue
        pixels = ImageTree(out).decode(line["vis"], "RGB").transpose(2, 0, 1)[None]
        feature = embed(model, torch.from_numpy(np.ascontiguousarray(pixels)))[0].astype(np.float64)
        assert (real @ feature).max() / np.linalg.norm(feature) == pytest.approx(line["max_sim_real"], abs=1e-4)


def test_a_second_run_says_that_all_is_done(chain: dict[str, Any]) -> None:
    before = (chain["root"] / "out/manifest.jsonl").read_bytes()
    again = run(generate_dataset.main, *chain["generation"], "--outdir", chain["root"] / "out")
    assert "All is done already" in again.stderr
    assert (chain["root"] / "out/manifest.jsonl").read_bytes() == before
    assert "Nothing to do" in run(train.main, *chain["training"], "--kimg", 0.04, "--resume", "latest").stderr
    features = run(dataset_tool.main, "features", "--data", chain["people"], "--rec-model", chain["model"])
    assert "Nothing to do" in features.stdout


def test_training_goes_on_in_its_folder(chain: dict[str, Any]) -> None:
    run(train.main, *chain["training"], "--kimg", 0.08, "--resume", "latest")
    folders = list(chain["runs"].iterdir())
    assert len(folders) == 1
    kimg = [line["progress/kimg"] for line in read_lines(folders[0] / "stats.jsonl")]
    assert kimg == pytest.approx([0.02, 0.04, 0.06, 0.08])


def test_metrics_choose_the_best_network_and_change_nothing(
    chain: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped and resumed with metrics: the same network and state, to the bit, as at once and without."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    training, runs = list(chain["training"]), tmp_path / "runs"
    training[training.index(chain["runs"])] = runs
    measured = (*training, "--rec-model", chain["model"], "--metrics", "fd_arcface,fd_arcface8", "--resume", "latest")
    first = run(train.main, *measured, "--kimg", 0.02).stderr
    assert first.count("cache miss") == 2 and "Warning: fd_arcface8: 32 real and 8 drawn pictures" in first
    folder = next(runs.iterdir())
    with (folder / "metrics.jsonl").open("a") as file:  # as if a later state had been there
        file.write(json.dumps({"metric": "fd_arcface", "images_seen": 30}) + "\n")
    assert run(train.main, *measured, "--kimg", 0.04).stderr.count("cache hit") == 2
    ours, theirs = load_state(folder / "training-state-000000.pt"), load_state(chain["state"])
    assert ours["counters"]["images_seen"] == theirs["counters"]["images_seen"] == 40
    for name in ("generator", "generator_ema", "discriminator_nir"):
        assert all(torch.equal(values, theirs[name][key]) for key, values in ours[name].items())
    lines = read_lines(folder / "metrics.jsonl")
    assert [(line["metric"], line["spectrum"], line["images_seen"]) for line in lines] == [
        (metric, spectrum, images)
        for images in (20, 40)
        for metric in ("fd_arcface", "fd_arcface8")
        for spectrum in ("vis", "nir")
    ]
    assert all(line["value"] > 0 and line["num_real"] == 32 and "bilinear" in line["resize"] for line in lines)
    assert lines[0]["detector_sha256"] == load_recognition(chain["model"]).fingerprint
    assert load_generator(folder / "best-network.safetensors").metadata["images_seen"] in (20, 40)


def test_dry_run_prints_the_configuration_and_makes_nothing(chain: dict[str, Any], tmp_path: Path) -> None:
    plan = run(train.main, "--data", chain["people"], "--outdir", tmp_path / "runs", "--cfg", "biface256", "--dry-run")
    assert json.loads(plan.stdout)["gamma"] == 1 and not (tmp_path / "runs").exists()
    dry = ("--data", chain["people"], "--outdir", tmp_path / "runs", "--cfg", "tiny32", "--dry-run")
    assert json.loads(run(train.main, *dry, "--device", "cuda:7").stdout)["precision"] == "fp16"
    assert "--device: nonsense: " in refused(train.main, *dry, "--device", "nonsense")
    assert "--gpus: 0 " in refused(train.main, *dry, "--gpus", 0)
    assert "--resume: nowhere.pt: no such file" in refused(train.main, *dry, "--resume", "nowhere.pt")
    text = refused(train.main, *dry, "--resume", chain["model"])
    assert "not a training state" in text and "weights_only" not in text


def test_mistakes_are_one_line_and_make_nothing(chain: dict[str, Any], tmp_path: Path) -> None:
    outdir = tmp_path / "runs"
    common = ("--data", chain["people"], "--outdir", outdir)
    assert "--p" in refused(train.main, *common, "--p", 0.1)
    assert "--features" in refused(train.main, *common, "--features", tmp_path / "none.safetensors")
    assert "--resume" in refused(train.main, *common, "--resume", chain["model"])
    assert "not a training state but a network" in refused(
        train.main, *common, "--resume", next(chain["runs"].glob("*/network-snapshot-*.safetensors"))
    )
    assert "--gen-model" in refused(
        generate_dataset.main, *chain["generation"], "--gen-model", chain["state"], *common[2:]
    )
    inside = ("--outdir", chain["people"] / "VIS" / "x")
    assert "lies among the pictures" in refused(train.main, *common[:2], *inside)
    assert "lies among the pictures" in refused(generate_dataset.main, *chain["generation"], *inside)
    assert "lies among the pictures" in refused(train_recognition.main, *common[:2], *inside, "--batch", 8)
    assert "lies among the pictures" in refused(dataset_tool.main, "example", "--dest", inside[1])
    assert "no finite number" in refused(train.main, *common, "--kimg", "inf")
    assert "--rec-arch: says what --rec-model is" in refused(train.main, *common, "--rec-arch", "r50")
    assert "--data" in refused(train.main, "--data", tmp_path / "none", "--outdir", outdir)
    assert "another program" in refused(
        train_recognition.main,
        "--data",
        chain["people"],
        "--outdir",
        next(chain["runs"].iterdir()),
        "--overwrite",
        "--batch",
        8,
    )
    assert "--outdir" in refused(train.main, "--data", chain["people"], "--outdir", chain["model"])
    assert "--device" in refused(train.main, *common, "--device", "cuda:7")
    assert "--cfg" in refused(train.main, *common, "--cfg", "huge")
    model = ("--rec-model", chain["model"])
    assert "no such metric; fid50k_full may be meant" in refused(train.main, *common, "--metrics", "fid50kfull")
    assert "fid50k looks with inception-v3-2015: --detector FILE" in refused(
        train.main, *common, *model, "--metrics", "fid50k"
    )
    assert "needs --rec-model" in refused(train.main, *common, "--metrics", "fd_arcface")
    assert "--rec-model" in refused(train.main, *common, "--rec-model", tmp_path / "none.safetensors")
    features = load_features(chain["people"] / "identity_features.safetensors")
    save_features(tmp_path / "other.safetensors", dataclasses.replace(features, model="0123456789abcdef"))
    for metrics in ((), ("--metrics", "none")):
        said = refused(train.main, *common, *model, *metrics, "--features", tmp_path / "other.safetensors")
        assert "0123456789abcdef" in said and "other.safetensors" in said
    assert not outdir.exists()
