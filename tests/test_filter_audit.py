"""filter.py audit as a user calls it: its files, what it finds, and mistakes in one line."""

from __future__ import annotations

import csv
import json
import re
import shutil

import numpy as np
import pytest
import torch

import dataset_tool
from arcface.backbones import build_backbone
from arcface.embed import embed_dataset, embed_source
from arcface.weights import load_recognition, save_recognition
from generation import audit_files
from generation.datasheet import AUDIT_BEGIN, AUDIT_END
from tests.browser import needs_browser, rendered
from tests.filter_runs import run
from torch_utils.feature_file import load_features, save_features
from torch_utils.image_tree import PairedTree, encode_png


def draw(seed, people, folder, samples=4):
    """Pictures of coloured squares, others for each person, with noise."""
    rng = np.random.default_rng(seed)
    for person in range(people):
        face = np.kron(rng.integers(0, 200, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.int64)
        for sample in range(samples):
            picture = np.minimum(face + rng.integers(0, 99, face.shape), 255).astype(np.uint8)
            for spectrum, pixels in (("VIS", picture), ("NIR", picture[..., :1])):
                place = folder / spectrum / str(person) / f"{sample}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(encode_png(pixels))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Six synthetic people, of whom one is a real one's copy; twelve real and five held-out people."""
    folder = tmp_path_factory.mktemp("audit")
    draw(0, 6, folder / "syn")
    draw(1, 12, folder / "real")
    draw(2, 5, folder / "held")
    for spectrum in ("VIS", "NIR"):
        shutil.copy(folder / "real" / spectrum / "7" / "1.png", folder / "syn" / spectrum / "3" / "2.png")
        shutil.copy(folder / "syn" / spectrum / "5" / "0.png", folder / "syn" / spectrum / "5" / "3.png")
    torch.manual_seed(0)
    save_recognition(folder / "rec.safetensors", build_backbone("r10n", 32).eval(), "r10n", 32)
    model = load_recognition(folder / "rec.safetensors")
    save_features(folder / "real.safetensors", embed_dataset(model, PairedTree(folder / "real"), show_progress=False))
    return folder


def audit(files, capsys, *more, **changed):
    options = {"data": files / "syn", "rec_model": files / "rec.safetensors", "real_data": files / "real", **changed}
    given = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    return run(capsys, "audit", "--workers", 0, *given, *more)


def test_an_audit_finds_what_is_there(files, tmp_path, capsys):
    run(capsys, "calibrate", "--data", files / "real", "--rec-model", files / "rec.safetensors", "--out",
        tmp_path / "t.json")  # fmt: skip
    status, out, err = audit(files, capsys, "--heldout-data", files / "held", "--thresholds", tmp_path / "t.json",
                             "--outdir", tmp_path / "a")  # fmt: skip
    assert status == 0, err
    assert "Copies of real pictures" in out and "promise is not kept" in out
    found = json.loads((tmp_path / "a" / "audit.json").read_text())
    assert found["highest_real_similarity"] == pytest.approx(1) and found["highest_real_similarity_sample"] == "3/2.png"
    assert found["duplicates"]["of_real_pictures"] == 1 and found["duplicates"]["of_own_pictures"] == 2
    assert list(found["leakage"]) == ["1e-2", "1e-3", "unique"] and found["leakage"]["unique"]["samples"] >= 1
    assert found["membership"]["made"] and found["membership"]["low"] <= found["membership"]["auc"] <= 1
    assert (found["membership"]["members"], found["membership"]["outsiders"]) == (12, 5)
    person = found["identities"][3]
    assert (person["nearest_person"], person["nearest_picture"], person["score"]) == ("7", "7/1.png", 1)
    assert found["inputs"]["real_data"]["people"] == 12 and found["inputs"]["recognition_model"]["fingerprint"]
    lines = list(csv.DictReader((tmp_path / "a" / "audit.csv").open()))
    assert len(lines) == 24 and [line["picture"] for line in lines[:2]] == ["0/0.png", "0/1.png"]
    leak = next(line for line in lines if line["picture"] == "3/2.png")
    assert (leak["nearest_picture"], leak["over_unique"], leak["pixels_nearest_picture"]) == ("7/1.png", "1", "7/1.png")
    assert sum(line["over_1e-3"] == "1" for line in lines) == found["leakage"]["1e-3"]["samples"]
    page = (tmp_path / "a" / "audit.html").read_text()
    assert "3/2.png · 7/1.png" in page and "Nearly the same, pixel by pixel" in page
    links = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert links and all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    assert "<script" not in page and not re.findall(r"\$\w+", re.sub(r"base64,[^\"]*", "", page))


def test_features_that_are_there_are_not_made_again(files, tmp_path, capsys, monkeypatch):
    assert audit(files, capsys, "--outdir", tmp_path / "one")[0] == 0
    calls = []

    def counted(model, source, **options):
        calls.append(len(source))
        return embed_source(model, source, **options)

    monkeypatch.setattr(audit_files, "embed_source", counted)
    status, _, err = audit(files, capsys, "--outdir", tmp_path / "two", "--real-features", files / "real.safetensors")
    assert status == 0 and calls == [24], err
    found = [json.loads((tmp_path / name / "audit.json").read_text()) for name in ("one", "two")]
    assert found[0]["leakage"] == found[1]["leakage"]


def test_without_held_out_people_it_is_said(files, tmp_path, capsys):
    shutil.copytree(files / "syn", tmp_path / "syn")
    sheet = f"# Sheet\nbefore\n{AUDIT_BEGIN}\nnothing yet\n{AUDIT_END}\nafter\n"
    (tmp_path / "syn" / "datasheet.md").write_text(sheet)
    status, out, _ = audit(files, capsys, data=tmp_path / "syn")
    assert status == 0 and "Membership was not tested" in out and "datasheet.md" in out
    found = json.loads((tmp_path / "syn" / "audit" / "audit.json").read_text())
    assert found["membership"]["auc"] is None and "no held-out people" in found["membership"]["note"]
    text = (tmp_path / "syn" / "datasheet.md").read_text()
    assert text.startswith("# Sheet\nbefore\n") and text.endswith("after\n") and "nothing yet" not in text
    assert "Copies of real pictures" in text and "| unique" not in text and "not given" in text
    assert len(PairedTree(tmp_path / "syn")) == 24  # the findings are in nobody's way
    written = [
        tmp_path / "syn" / name for name in ("datasheet.md", *(f"audit/audit.{x}" for x in ("json", "csv", "html")))
    ]
    before = [path.read_bytes() for path in written]
    assert audit(files, capsys, "--overwrite", data=tmp_path / "syn")[0] == 0
    assert [path.read_bytes() for path in written] == before


def test_other_spectrum_other_forms(files, tmp_path, capsys):
    status, _, err = audit(files, capsys, "--spectrum", "nir", "--outdir", tmp_path / "nir")
    assert status == 0, err
    assert json.loads((tmp_path / "nir" / "audit.json").read_text())["inputs"]["spectrum"] == "nir"
    shutil.copytree(files / "real" / "VIS", tmp_path / "plain")  # a folder a person, of one spectrum
    status, _, err = audit(files, capsys, "--outdir", tmp_path / "vis", real_data=tmp_path / "plain")
    assert status == 0, err
    for spectrum in ("VIS", "NIR"):
        for path in (files / "syn" / spectrum).rglob("*.png"):
            place = tmp_path / "orig" / f"id_{path.parent.name}" / spectrum / f"sample_{path.stem}_{spectrum}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    status, _, err = audit(files, capsys, data=tmp_path / "orig")
    assert status == 0, err
    again = json.loads((tmp_path / "orig" / "audit" / "audit.json").read_text())
    plain = json.loads((tmp_path / "vis" / "audit.json").read_text())
    assert again["leakage"] == plain["leakage"]
    archive = shutil.make_archive(str(tmp_path / "syn"), "zip", files / "syn")
    status, _, err = audit(files, capsys, data=archive)
    assert status == 0 and (tmp_path / "syn-audit" / "audit.html").exists(), err


@pytest.mark.slow
def test_a_packed_dataset_shows_both_spectra(files, tmp_path, capsys):
    shutil.copytree(files / "syn", tmp_path / "syn")
    status, _, err = audit(files, capsys, "--outdir", tmp_path / "plain", data=tmp_path / "syn")
    assert status == 0, err
    plain = json.loads((tmp_path / "plain" / "audit.json").read_text())
    (tmp_path / "in" / "previews").mkdir(parents=True)
    shutil.copy(files / "syn" / "VIS" / "0" / "0.png", tmp_path / "in" / "previews")
    for form, packed in (("rec", "in/p.rec"), ("webdataset", "p.tar")):
        with pytest.raises(SystemExit) as ended:
            dataset_tool.main(["pack", "--data", str(files / "syn"), "--dest", str(tmp_path / packed),
                               "--format", form])  # fmt: skip
        assert ended.value.code == 0
        data = tmp_path / "in" if form == "rec" else tmp_path / packed  # a folder with one .rec is that
        status, _, err = audit(files, capsys, "--outdir", tmp_path / form, data=data)
        assert status == 0, err
        found = json.loads((tmp_path / form / "audit.json").read_text())
        for name in found["leakage"]:
            assert found["leakage"][name]["samples"] == plain["leakage"][name]["samples"]
        page = (tmp_path / form / "audit.html").read_text()
        assert page.count("synthetic, VIS") == page.count("synthetic, NIR") > 0


def test_hostile_names_are_shown_and_not_obeyed(files, tmp_path, capsys):
    shutil.copytree(files / "syn", tmp_path / "a&b")
    name = '<script>alert("$x")<'
    for spectrum in ("VIS", "NIR"):
        (tmp_path / "a&b" / spectrum / "3").rename(tmp_path / "a&b" / spectrum / name)
    status, _, err = audit(files, capsys, data=tmp_path / "a&b")
    assert status == 0, err
    page = (tmp_path / "a&b" / "audit" / "audit.html").read_text()
    assert "<script" not in page and "&lt;script&gt;alert(&quot;$x&quot;)&lt;" in page and "Audit of a&amp;b" in page


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [1280, 500], ids=["wide", "phone"])
def test_a_browser_renders_the_page(files, tmp_path, capsys, width):
    assert audit(files, capsys, "--heldout-data", files / "held", "--outdir", tmp_path / "a")[0] == 0
    pixels = rendered(tmp_path / "a" / "audit.html", tmp_path, width)
    assert np.ptp(pixels[:, -8:], axis=(0, 1)).max() == 0  # nothing sticks out to the right
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100  # and pictures and charts are there


def test_one_person_with_one_picture_is_audited_as_far_as_it_goes(files, tmp_path, capsys):
    draw(9, 1, tmp_path / "one", samples=1)
    (tmp_path / "one" / "datasheet.md").write_bytes(b"\xff\xfe is no text")
    status, out, err = audit(files, capsys, data=tmp_path / "one")
    assert status == 0 and "Nothing to tell of its people" in out, err
    found = json.loads((tmp_path / "one" / "audit" / "audit.json").read_text())
    assert found["synthetic"]["eer"] is None and found["duplicates"]["highest_to_own"] is None
    assert (tmp_path / "one" / "datasheet.md").read_bytes() == b"\xff\xfe is no text"


def test_held_out_people_who_are_not_are_told(files, tmp_path, capsys):
    shutil.copytree(files / "held", tmp_path / "held")
    for spectrum in ("VIS", "NIR"):
        shutil.copy(files / "real" / spectrum / "2" / "2.png", tmp_path / "held" / spectrum / "1" / "1.png")
    status, _, err = audit(files, capsys, "--heldout-data", tmp_path / "held", "--outdir", tmp_path / "a")
    assert status == 0 and "1 of 20 held-out pictures are among the real ones" in err


def test_mistakes_are_one_line(files, tmp_path, capsys):
    def refused(words, *more, **changed):
        status, _, err = audit(files, capsys, *more, **{"outdir": tmp_path / "out", **changed})
        last = err.strip().splitlines()[-1]
        assert status == 2 and words in last and "Traceback" not in err, err
        assert not (tmp_path / "out").exists()

    refused("--real-data", real_data=files / "syn")
    refused("is the same as another dataset", real_data=files / "syn" / ".." / "syn")
    refused("--heldout-data", "--heldout-data", files / "real")
    refused("lies among the pictures", outdir=files / "syn" / "VIS")
    refused("lies among the pictures", outdir=files / "syn")
    refused("lies among the pictures", outdir=files / "real" / "audit")
    refused("no such folder or zip", data=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    refused("no PNG or JPEG pictures", real_data=tmp_path / "empty")
    shutil.copytree(files / "syn", tmp_path / "lame")
    (tmp_path / "lame" / "NIR" / "0" / "0.png").unlink()
    refused("1 VIS images have no NIR partner", data=tmp_path / "lame")
    shutil.rmtree(tmp_path / "lame")
    shutil.copytree(files / "syn", tmp_path / "lame")
    (tmp_path / "lame" / "VIS" / "0" / "0.png").write_bytes(encode_png(np.zeros((32, 16, 3), dtype=np.uint8)))
    refused(f"Error: --data: {tmp_path / 'lame'}: 0/0.png: 16x32 is not square", data=tmp_path / "lame")
    (tmp_path / "lame" / "VIS" / "0" / "0.png").write_bytes(b"no picture")
    refused(f"Error: --data: {tmp_path / 'lame'}/VIS/0/0.png: not a PNG", data=tmp_path / "lame")
    draw(4, 1, tmp_path / "lonely")
    refused("there is only one person in it", real_data=tmp_path / "lonely")
    features = load_features(files / "real.safetensors")
    features.model = "f" * 16
    save_features(tmp_path / "f.safetensors", features)
    refused("features of recognition model ffffffffffffffff", "--real-features", tmp_path / "f.safetensors")
    features = load_features(files / "real.safetensors")
    features.features, features.names = features.features[1:], features.names[1:]
    save_features(tmp_path / "f.safetensors", features)
    refused("0/0.png has none (1 such)", "--real-features", tmp_path / "f.safetensors")
    assert audit(files, capsys, "--outdir", tmp_path / "done")[0] == 0
    refused("holds an audit already", outdir=tmp_path / "done")
