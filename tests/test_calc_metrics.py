"""calc_metrics.py as a user calls it: what it prints and records, what it does not do again, mistakes in one line."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import calc_metrics
from arcface.alignment import ARCFACE_TEMPLATE, PORTRAIT_TEMPLATE
from arcface.backbones import build_backbone
from arcface.embed import embed
from arcface.weights import load_recognition, save_recognition
from commands import calc_metrics as work
from dnnlib.errors import UserError
from dnnlib.files import read_lines
from metrics.cross_spectral import PAIRED
from metrics.feature_stats import FeatureStats
from metrics.frechet import frechet_distance
from metrics.measure import measure
from torch_utils.feature_file import FILE_NAME, FeatureSet, save_features
from torch_utils.image_tree import PairedTree, encode_png
from torch_utils.spectra import SPECTRA
from training.draw import Drawings
from training.generator import Generator
from training.snapshots import load_generator, save_generator

SIDE = 16


def draw(folder: Path, seed: int, people: int = 4, samples: int = 3, side: int = SIDE) -> Path:
    rng = np.random.default_rng(seed)
    for spectrum in SPECTRA.values():
        (folder / spectrum.folder).mkdir(parents=True, exist_ok=True)
        for person in range(people):
            for sample in range(samples):
                pixels = rng.integers(0, 256, (side, side, spectrum.channels), dtype=np.uint8)
                (folder / spectrum.folder / f"{person}_{sample}.png").write_bytes(encode_png(pixels))
    return folder


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve real pairs with features, eight other pairs, a recognition model and a generator that knows it."""
    folder = tmp_path_factory.mktemp("measured")
    draw(folder / "real", 0)
    draw(folder / "made", 1, people=2, samples=4)
    torch.manual_seed(0)
    mark = save_recognition(folder / "rec.safetensors", build_backbone("r10n", 32).eval(), "r10n", 32)
    other = save_recognition(folder / "other.safetensors", build_backbone("r10n", 32).eval(), "r10n", 32)
    generator = Generator(resolution=SIDE, channel_base=128, channel_max=16, mapping_layers=2)
    save_generator(
        folder / "gen.safetensors", generator, {"recognition_model": mark, "feature_norm": 4.0, "images_seen": 8}
    )
    names = PairedTree(folder / "real").names
    features = np.random.default_rng(2).standard_normal((len(names), 512)).astype(np.float32)
    save_features(folder / "real" / FILE_NAME, FeatureSet(features, names, mark))
    save_features(folder / "strange.safetensors", FeatureSet(features, names, other))
    draw(folder / "big", 2, side=20)
    shutil.copytree(folder / "made" / "VIS", folder / "vis_only" / "VIS")
    for name in ("moved", "area"):
        shutil.copytree(folder / "made", folder / name)
    for name, template, resize in (
        ("real", ARCFACE_TEMPLATE, "lanczos"),
        ("moved", PORTRAIT_TEMPLATE, "generated"),
        ("area", ARCFACE_TEMPLATE, "area"),
    ):
        (folder / name / "dataset.json").write_text(json.dumps({**template.record(), "resize": resize}))
    return folder


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Ended:
    """Status, what was printed, and the only error line."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def error(self) -> str:
        (line,) = [line for line in self.err.splitlines() if line.startswith("Error: ")]
        assert self.status == 2 and "Traceback" not in self.err
        return line


def call(inputs: Path, capsys: pytest.CaptureFixture[str], *flags: str, **changes: Any) -> Ended:
    options = {"data": inputs / "real", "rec_model": inputs / "rec.safetensors", "workers": 0, **changes}
    line = [word for name, value in options.items() if value is not None
            for word in (f"--{name.replace('_', '-')}", str(value))]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        calc_metrics.main([*line, *flags])
    captured = capsys.readouterr()
    return Ended(int(ended.value.code or 0), captured.out, captured.err)


def test_pictures_are_measured_and_recorded(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results" / "m.jsonl"
    found = call(inputs, capsys, fake=inputs / "made", out=out, metrics="fd_arcface,pr_arcface", seed=3)
    assert found.status == 0, found.err
    lines = read_lines(out)
    printed = [line.split() for line in found.out.splitlines()]
    assert [tuple(words[:2]) for words in printed] == [(line["metric"], line["spectrum"]) for line in lines]
    assert "12 real and 8 drawn" in found.err and f"Recorded in {out}" in found.err
    model = load_recognition(inputs / "rec.safetensors")
    for words, line in zip(printed, lines, strict=True):
        assert float(words[2]) == pytest.approx(line["value"], rel=1e-4)
        assert (line["num_real"], line["num_fake"], line["seed"]) == (12, 8, 3)
        assert line["fake_digest"] == PairedTree(inputs / "made").content_digest()
        assert line["data_digest"] == PairedTree(inputs / "real").content_digest()
        assert (line["detector"], line["detector_sha256"]) == ("r10n", model.fingerprint)
        if line["metric"] == "fd_arcface":
            sides = []
            for folder in ("real", "made"):
                tree = PairedTree(inputs / folder)
                pixels = [
                    tree.trees[line["spectrum"]].decode(name, SPECTRA[line["spectrum"]].mode) for name in tree.names
                ]
                images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
                sides.append(FeatureStats.of(embed(model, images)))
            assert line["value"] == pytest.approx(frechet_distance(*sides), rel=1e-6)


def test_a_network_is_measured(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.jsonl"
    chosen: dict[str, Any] = {"gen_model": inputs / "gen.safetensors", "out": out, "metrics": "fd_arcface10"}
    found = call(inputs, capsys, **chosen, truncation=0.7, noise_mode="none", batch=4)
    assert found.status == 0, found.err
    vis, nir = read_lines(out)
    assert (vis["truncation"], vis["noise_mode"], vis["num_fake"], nir["spectrum"]) == (0.7, "none", 10, "nir")
    generator = load_generator(inputs / "gen.safetensors")
    features = np.random.default_rng(2).standard_normal((12, 512)).astype(np.float32)
    model, tree = load_recognition(inputs / "rec.safetensors"), PairedTree(inputs / "real").trees["nir"]
    drawn = [batch["nir"] for batch in Drawings(generator, features, 0, 3, 0.7, "none").pairs(range(10))]
    real = torch.from_numpy(np.stack([tree.decode(name, "L") for name in tree.names])).permute(0, 3, 1, 2)
    sides = [FeatureStats.of(embed(model, images)) for images in (real, torch.cat(drawn))]
    assert nir["value"] == pytest.approx(frechet_distance(*sides), rel=1e-4)
    one = call(inputs, capsys, **{**chosen, "out": tmp_path / "one.jsonl"}, spectra="nir", truncation=0.7,
               noise_mode="none")  # fmt: skip
    assert [line["value"] for line in read_lines(tmp_path / "one.jsonl")] == pytest.approx([nir["value"]], rel=1e-6)
    assert one.out.split()[1] == "nir"


def test_a_drawn_picture_is_compared_with_the_condition_that_it_was_drawn_at(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.jsonl"
    found = call(inputs, capsys, gen_model=inputs / "gen.safetensors", out=out, metrics="id_consistency9,cross_id9",
                 seed=5, batch=4)  # fmt: skip
    assert found.status == 0, found.err
    values = {(line["metric"], line["spectrum"]): line["value"] for line in read_lines(out)}
    drawings = Drawings(
        load_generator(inputs / "gen.safetensors"),
        np.random.default_rng(2).standard_normal((12, 512)).astype(np.float32), 5, 1,
    )  # fmt: skip
    model, own = load_recognition(inputs / "rec.safetensors"), dict[str, list[float]](vis=[], nir=[], pair=[])
    for index in range(9):  # one by one
        (pair,) = drawings.pairs([index])
        vectors = {name: embed(model, images)[0] for name, images in pair.items()}
        vectors["asked"] = drawings.conditions([index])[0]
        vectors = {name: vector / np.linalg.norm(vector) for name, vector in vectors.items()}
        for name in SPECTRA:
            own[name].append(float(vectors[name] @ vectors["asked"]))
        own["pair"].append(float(vectors["vis"] @ vectors["nir"]))
    for name in SPECTRA:
        assert values["id_consistency9_cosine", name] == pytest.approx(np.mean(own[name]), abs=1e-4)
    assert values["cross_id9_pair", "vis-nir"] == pytest.approx(np.mean(own["pair"]), abs=1e-4)


def test_what_is_recorded_is_not_measured_again(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.jsonl"
    first = call(inputs, capsys, fake=inputs / "made", out=out, metrics="kd_arcface")
    before = out.read_bytes()
    again = call(inputs, capsys, fake=inputs / "made", out=out, metrics="kd_arcface")
    assert again.status == 0 and again.out == first.out and out.read_bytes() == before
    assert "--overwrite measures again" in again.err
    more = call(inputs, capsys, fake=inputs / "made", out=out, metrics="kd_arcface,pr_arcface")
    assert [line.split()[0] for line in more.out.splitlines()] == ["pr_arcface_precision", "pr_arcface_recall"] * 2
    assert len(read_lines(out)) == 6
    for change in ({"seed": 1}, {"rec_model": inputs / "other.safetensors"}, {"data": inputs / "made"}):
        lines = len(read_lines(out))
        call(inputs, capsys, **{"fake": inputs / "made", "out": out, "metrics": "kd_arcface", **change})
        assert len(read_lines(out)) == lines + 2, change
    call(inputs, capsys, "--overwrite", fake=inputs / "made", out=out, metrics="kd_arcface")
    assert len(read_lines(out)) == 14


def test_what_has_no_value_for_these_pictures_is_not_measured_for_ever(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One person has no strangers, so a figure less; only the same detectors' lines are shown again."""
    alone = {"fake": draw(tmp_path / "alone", 3, people=1), "out": tmp_path / "m.jsonl", "metrics": "cross_id"}
    other = call(inputs, capsys, **alone, rec_model=inputs / "other.safetensors")
    first = call(inputs, capsys, **alone)
    lines = read_lines(tmp_path / "m.jsonl")
    assert {line["metric"] for line in lines} == {"cross_id_pair", *(f"cross_id_{p}_real" for p in PAIRED)}
    again = call(inputs, capsys, **alone)
    assert read_lines(tmp_path / "m.jsonl") == lines and again.out == first.out != other.out
    call(inputs, capsys, "--overwrite", **alone)
    assert call(inputs, capsys, **alone).out == first.out and len(read_lines(tmp_path / "m.jsonl")) > len(lines)


def test_a_metric_is_recorded_whole_or_not_at_all(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spectrum without its line would never be measured; what was measured before stays."""

    def stopped(*arguments: Any) -> Iterator[list[dict[str, Any]]]:
        yield next(measure(*arguments))
        raise UserError("stopped")

    chosen: dict[str, Any] = {"fake": inputs / "made", "out": tmp_path / "m.jsonl", "metrics": "pr_arcface,kd_arcface"}
    with monkeypatch.context() as patch:
        patch.setattr(work, "measure", stopped)
        assert call(inputs, capsys, **chosen).error == "Error: stopped"
    assert [line["spectrum"] for line in read_lines(tmp_path / "m.jsonl")] == ["vis", "vis", "nir", "nir"]
    assert {line.split()[0] for line in call(inputs, capsys, **chosen).out.splitlines()} == {"kd_arcface"}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "--batch: the GPU's memory is full; a smaller one needs less"),
        (RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed."), "--workers: a process that reads"),
    ],
)
def test_too_little_memory_is_told_in_one_line(
    inputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: Exception, said: str
) -> None:
    def fails(*arguments: Any) -> Iterator[list[dict[str, Any]]]:
        raise fault
        yield []

    monkeypatch.setattr(work, "measure", fails)
    assert call(inputs, capsys, fake=inputs / "made", metrics="fd_arcface").error.startswith(f"Error: {said}")


def test_a_network_without_conditions_is_measured_but_not_asked_for_them(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = Generator(resolution=SIDE, c_dim=0, channel_base=128, channel_max=16, mapping_layers=2)
    about = {"recognition_model": "any", "feature_norm": None, "images_seen": 8}
    save_generator(tmp_path / "free.safetensors", generator, about)
    chosen: dict[str, Any] = {"gen_model": tmp_path / "free.safetensors", "out": tmp_path / "m.jsonl"}
    found = call(inputs, capsys, **chosen, metrics="fd_arcface5,diversity16")
    assert found.status == 0 and len(read_lines(tmp_path / "m.jsonl")) == 2 + 8, found.err
    error = call(inputs, capsys, **chosen, metrics="id_consistency5").error
    assert "--metrics: id_consistency5: compares with the condition, and the network has none" in error


@pytest.mark.slow
def test_two_processes_find_the_same(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = []
    for gpus in (1, 2):
        out = tmp_path / f"{gpus}.jsonl"
        found = call(inputs, capsys, gen_model=inputs / "gen.safetensors", out=out, gpus=gpus, device="cpu",
                     metrics="fd_arcface9,pr_arcface9,alignment9,id_consistency9,diversity24")  # fmt: skip
        assert found.status == 0, found.err
        values.append({(line["metric"], line["spectrum"]): line["value"] for line in read_lines(out)})
    assert values[0].keys() == values[1].keys() and len(values[0]) == 6 + 9 + 10 + 8
    assert all(values[1][key] == pytest.approx(value, rel=1e-5) for key, value in values[0].items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "--gen-model: one of --gen-model, a network, and --fake, pictures, is needed"),
        ({"fake": "made", "gen_model": "gen.safetensors"}, "--gen-model: one of"),
        ({"fake": "nowhere"}, "--fake: .*nowhere"),
        ({"fake": "big"}, "--fake: .*big: pictures of 20x20, but those of --data .*real are 16x16"),
        ({"fake": "vis_only"}, "--fake: .*vis_only: no NIR pictures; --spectra vis measures one alone"),
        ({"fake": "moved"}, "--fake: .*moved: its faces are aligned to another template than those of --data"),
        ({"fake": "area"}, "--fake: .*area: reduced by area, but --data .*real by lanczos; prepare both in one way"),
        ({"fake": "made", "truncation": 0.7}, "--truncation: is for --gen-model; leave it out"),
        ({"fake": "made", "data": "nowhere"}, "--data: .*nowhere"),
        ({"fake": "made", "metrics": "fud"}, "--metrics: fud: no such metric"),
        ({"fake": "made", "metrics": "fd_arcface50"}, "there are 8 drawn pairs; fd_arcface measures all of them"),
        ({"fake": "made", "metrics": "id_consistency"}, "--metrics: id_consistency: asks a network"),
        ({"fake": "made", "metrics": "alignment", "spectra": "vis"}, "--metrics: alignment: compares the two spectra"),
        ({"fake": "made", "rec_model": None}, "--metrics: fd_arcface needs --rec-model"),
        ({"fake": "made", "rec_model": "gen.safetensors"}, "--rec-model: "),
        ({"fake": "made", "out": "real"}, "--out: "),
        ({"gen_model": "rec.safetensors"}, "--gen-model: "),
        ({"gen_model": "gen.safetensors", "features": "nowhere"}, "nowhere"),
        ({"gen_model": "gen.safetensors", "features": "strange.safetensors"}, "--features: .*the network knows"),
        ({"gen_model": "gen.safetensors", "data": "big", "features": "real/" + FILE_NAME}, "pictures of 16x16"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line_before_anything_is_made(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    options = {"out": tmp_path / "made" / "m.jsonl", "metrics": "fd_arcface", **changes}
    paths = ("fake", "gen_model", "data", "features", "rec_model", "out")
    options |= {name: inputs / options[name] for name in paths if isinstance(options.get(name), str)}
    error = call(inputs, capsys, **options).error
    assert re.search(said, error), error
    assert not (tmp_path / "made").exists()
