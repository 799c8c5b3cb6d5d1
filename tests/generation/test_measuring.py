"""What metrics look with, as options name it: --detector, --resize and the metrics that are taken where none is named.
The networks are small ones under the public files' names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import calc_metrics
import train
from commands.train import prepare
from dnnlib.errors import UserError
from dnnlib.files import read_lines, sha256_file
from generation.measuring import Instruments
from metrics import public_files
from metrics.choices import CLEAN
from metrics.detector_files import AtHand
from metrics.feature_stats import FeatureStats
from metrics.frechet import frechet_distance
from metrics.registry import parse_metrics
from tests.metrics.small_detectors import use_small_networks, written
from torch_utils.feature_file import FILE_NAME, FeatureSet, save_features
from torch_utils.image_tree import PairedTree
from torch_utils.streams import stream
from training.draw import Drawings
from training.generator import Generator
from training.snapshots import load_generator, save_generator


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two datasets of noise, `real` and `made`, of twelve pairs each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    use_small_networks(monkeypatch)
    for side in ("real", "made"):
        for folder, channels in (("VIS", 3), ("NIR", 1)):
            Path(side, folder).mkdir(parents=True)
            for number in range(12):
                rng = stream(0, f"{side} {folder}", number)
                pixels = rng.integers(0, 256, (16, 16, channels), dtype=np.uint8)
                Image.fromarray(pixels.squeeze()).save(Path(side, folder, f"{number // 2}_{number % 2}.png"))


def measured(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, list[dict[str, Any]]]:
    """Status, what was told, and the lines."""
    with pytest.raises(SystemExit) as ended:
        calc_metrics.main(["--data", "real", "--fake", "made", "--workers", "0", "--out", "m.jsonl", *options])
    lines = read_lines("m.jsonl") if Path("m.jsonl").exists() else []
    return int(ended.value.code or 0), capsys.readouterr().err, lines


def test_a_detector_measures_and_is_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    path = written("inception")
    status, told, lines = measured(capsys, "--detector", path, "--metrics", "fid,kid,is", "--resize", CLEAN)
    assert status == 0, told
    names = [(line["metric"], line["spectrum"]) for line in lines]
    assert names == [(metric, spectrum) for metric in ("fid", "kid", "is") for spectrum in ("vis", "nir")]
    (observer,) = Instruments(None, None, None, 4, (path,), CLEAN).open(parse_metrics("fid")).values()
    for line in lines:
        assert (line["detector"], line["detector_sha256"]) == ("inception-v3-2015", sha256_file(path))
        assert line["resize"] == observer.resize == "bicubic-antialias-299-minus-128"
    for folder, line in (("VIS", lines[0]), ("NIR", lines[1])):
        sides = []
        for side in ("real", "made"):
            files = sorted(Path(side, folder).iterdir())
            pixels = np.stack([np.atleast_3d(np.array(Image.open(file))) for file in files])
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
            sides.append(FeatureStats.of(observer.observe({"x": images})["x/features"]))
        assert line["value"] == pytest.approx(frechet_distance(*sides), rel=1e-4) and line["value"] > 0
    first, _, second = measured(capsys, "--detector", path, "--metrics", "fid", "--resize", "own")
    assert first == 0 and len(second) == len(lines) + 2 and second[-1]["value"] != lines[1]["value"]


def test_a_network_s_path_and_pictures_under_vgg16(capsys: pytest.CaptureFixture[str]) -> None:
    """The path's length as LPIPS sees it, pair by pair; batches change nothing."""
    generator = Generator(resolution=16, channel_base=128, channel_max=16, mapping_layers=2)
    about = {"recognition_model": None, "feature_norm": 4.0, "images_seen": 8}
    save_generator("gen.safetensors", generator, about)
    names = PairedTree("real").names
    features = stream(0, "features").standard_normal((len(names), 512)).astype(np.float32)
    save_features(Path("real", FILE_NAME), FeatureSet(features, names, "test"))
    files = written("vgg16"), written("lpips")
    options = ["--data", "real", "--gen-model", "gen.safetensors", "--workers", "0", "--metrics", "ppl7_wend,pr7"]
    options += [word for file in files for word in ("--detector", file)]
    values = []
    for batch in ("4", "14"):
        with pytest.raises(SystemExit) as ended:
            calc_metrics.main([*options, "--batch", batch, "--out", f"{batch}.jsonl"])
        assert ended.value.code == 0, capsys.readouterr().err
        lines = read_lines(f"{batch}.jsonl")
        values.append([line["value"] for line in lines])
        assert [line["metric"] for line in lines[:3]] == ["ppl7_wend", "ppl7_wend", "pr7_precision"]
        assert lines[0]["detector"] == "vgg16+lpips-v0.1" and lines[2]["detector"] == "vgg16"
    assert values[0] == pytest.approx(values[1], rel=1e-2)  # a step of 1e-4 is near what float32 can tell
    look = AtHand(files).detector("lpips", "", "own", "cpu").look
    drawings = Drawings(load_generator("gen.safetensors"), features, seed=0, batch=2)
    found = [look(images["nir"])["distances"] for images in drawings.path(range(7), 1e-4)]
    assert values[0][1] == pytest.approx(np.concatenate(found).mean() * 1e8, rel=1e-2) and values[0][1] > 0


def test_without_an_inception_it_is_said_that_this_is_no_fid(capsys: pytest.CaptureFixture[str]) -> None:
    status, told, _ = measured(capsys)
    assert status == 2 and "fd_arcface needs --rec-model" in told
    assert "Measuring fd_arcface, which is no FID, for there is no Inception: --detector FILE with" in told
    assert "fetch inception`" in told


@pytest.mark.parametrize("cached", [False, True])
def test_with_an_inception_it_is_fid(cached: bool, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    path = written("inception")
    if cached:
        public_files.kept_at("inception").parent.mkdir(parents=True)
        Path(path).rename(public_files.kept_at("inception"))
        digest = sha256_file(public_files.kept_at("inception"))[:8]
        file = public_files.FILES["inception"]._replace(sha256=digest)
        monkeypatch.setitem(public_files.FILES, "inception", file)
    status, told, lines = measured(capsys, *([] if cached else ["--detector", path]))
    assert status == 0 and "Measuring fid, for there is an Inception" in told
    assert [line["metric"] for line in lines] == ["fid", "fid"] and lines[0]["num_fake"] == 12


def test_what_is_wrong_ends_before_any_work(capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        ("--metrics", "pr"): "--metrics: pr looks with vgg16: --detector FILE with vgg16-397923af.pth, or",
        ("--detector", "absent.pth", "--metrics", "alignment"): "--detector: absent.pth: no such file",
        ("--detector", written("vgg16"), "--metrics", "ppl2_wend"): "ppl2_wend looks with lpips-v0.1: --detector FILE",
        ("--resize", "lanczos"): "'lanczos' is not one of 'own', 'clean', 'pytorch-fid'",
    }
    for options, words in cases.items():
        status, told, lines = measured(capsys, *options)
        errors = [line for line in told.splitlines() if line.startswith("Error: ")]
        assert status == 2 and len(errors) == 1 and words in errors[0] and not lines and "Traceback" not in told


def planned(data: Path, *options: str) -> Any:
    """What train.py would do."""
    line = ["--data", str(data), "--outdir", "runs", "--cfg", "tiny32", "--kimg", "0.1", "--batch", "4", *options]
    chosen = {**train.main.make_context("train.py", line).params, "device": "cpu", "gpus": 1}
    return prepare(**chosen)


def test_training_measures_fid_only_where_an_inception_is_named(tiny_data: Path) -> None:
    plan = planned(tiny_data)
    assert plan.metrics == "none" and any("No metrics and no best network" in note for note in plan.notes)
    path = written("inception")
    plan = planned(tiny_data, "--detector", path, "--resize", "clean")
    assert plan.metrics == "fid50k_full"
    assert plan.instruments.detectors == (path,) and plan.instruments.resize == "clean"
    assert planned(tiny_data, "--detector", path, "--metrics", "fid2k").metrics == "fid2k"
    public_files.kept_at("inception").parent.mkdir(parents=True)
    Path(path).rename(public_files.kept_at("inception"))
    assert planned(tiny_data).metrics == "none"
    with pytest.raises(UserError, match="--metrics: pr looks with vgg16"):
        planned(tiny_data, "--metrics", "pr")
    with pytest.raises(UserError, match="--metrics: id_consistency: compares with the condition, and the network has"):
        planned(tiny_data, "--cond", "false", "--metrics", "id_consistency")
