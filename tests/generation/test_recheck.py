"""The brute-force re-check: passes what was made, fails what was tampered with."""

from __future__ import annotations

import json
import shutil

import pytest

import generate_dataset
from tests.generation import recheck
from tests.test_generate_dataset import arguments, files  # noqa: F401


@pytest.fixture(scope="module")
def dataset(files, tmp_path_factory):  # noqa: F811
    outdir = tmp_path_factory.mktemp("dataset") / "out"
    with pytest.raises(SystemExit) as ended:
        generate_dataset.main(arguments(files, outdir))
    assert ended.value.code == 0
    return outdir


def check(files, root, capsys):  # noqa: F811
    """(status, what is printed) of the script."""
    with pytest.raises(SystemExit) as ended:
        recheck.main(
            [
                *("--data", str(root), "--rec-model", str(files / "rec.safetensors")),
                *("--real-features", str(files / "real.safetensors")),
            ]
        )
    return ended.value.code, capsys.readouterr().out


@pytest.fixture
def copy(dataset, tmp_path):
    return shutil.copytree(dataset, tmp_path / "out")


def test_what_was_made_is_right(files, dataset, capsys):  # noqa: F811
    status, out = check(files, dataset, capsys)
    assert status == 0, out
    assert [line.split()[0] for line in out.splitlines()] == ["private", "same", "unique", "repeat", "No"]


def test_a_copied_picture_is_found(files, copy, capsys):  # noqa: F811
    shutil.copy(copy / "VIS/1/0.png", copy / "VIS/1/1.png")
    status, out = check(files, copy, capsys)
    assert status == 1 and "BROKEN   repeat" in out and "VIS/1/1.png and VIS/1/0.png" in out


def test_another_persons_picture_is_found(files, copy, capsys):  # noqa: F811
    shutil.copy(copy / "VIS/0/0.png", copy / "VIS/2/0.png")
    status, out = check(files, copy, capsys)
    assert status == 1 and "BROKEN   unique" in out


def test_a_looser_threshold_is_found(files, copy, capsys):  # noqa: F811
    settings = json.loads((copy / "settings.json").read_text())
    settings["thresholds"] |= {"unique": -0.9, "same": 0.9999999}
    (copy / "settings.json").write_text(json.dumps(settings))
    status, out = check(files, copy, capsys)
    assert status == 1 and "BROKEN   private" in out and "BROKEN   same" in out


def test_wrong_counts_are_found(files, copy, capsys):  # noqa: F811
    (copy / "NIR/0/1.png").unlink()
    summary = json.loads((copy / "summary.json").read_text())
    summary["candidates"] += 1
    (copy / "summary.json").write_text(json.dumps(summary))
    status, out = check(files, copy, capsys)
    assert status == 1 and "BROKEN   nir pictures: 5, but 6 were" in out and "BROKEN   candidates: " in out


def test_a_manifest_that_lies_is_found(files, copy, capsys):  # noqa: F811
    text = (copy / "manifest.jsonl").read_text().splitlines()
    number = next(n for n, line in enumerate(text) if json.loads(line)["verdict"] == "kept")
    text[number] = json.dumps({**json.loads(text[number]), "max_sim_real": -0.5})
    (copy / "manifest.jsonl").write_text("\n".join(text) + "\n")
    status, out = check(files, copy, capsys)
    assert status == 1 and "BROKEN   manifest: VIS/0/0.png: max_sim_real -0.5, not" in out


@pytest.mark.parametrize(
    "chosen",
    [
        {"format": "original", "previews": 2},
        {"format": "webdataset", "image_format": "jpg", "quality": 60},
        {"format": "rec", "workers": 1},
        {"image_format": "jpg"},
    ],
)
def test_every_format_is_right_and_has_its_report_and_datasheet(files, chosen, tmp_path, capsys):  # noqa: F811
    outdir = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        generate_dataset.main(arguments(files, outdir, **chosen))
    assert ended.value.code == 0
    status, out = check(files, outdir, capsys)
    assert status == 0, out
    assert (outdir / "report.html").read_text().count("data:image/png") >= 2 * 6
    settings, dataset = (json.loads((outdir / f"{name}.json").read_text()) for name in ("settings", "dataset"))
    format, suffix = chosen.get("format", "folder"), chosen.get("image_format", "png")
    assert (settings["layout"], settings["image_format"], dataset["format"]) == (format, suffix, format)
    assert f"| layout | {format} |" in (outdir / "datasheet.md").read_text()
    assert len(list(outdir.glob("previews/*.jpg"))) == chosen.get("previews", 0)


def test_overwrite_leaves_nothing_of_another_format(files, tmp_path, capsys):  # noqa: F811
    outdir = tmp_path / "out"
    for changes in ({"format": "webdataset", "previews": 1}, {"format": "rec", "overwrite": True}):
        with pytest.raises(SystemExit) as ended:
            generate_dataset.main(arguments(files, outdir, **changes))
        assert ended.value.code == 0, capsys.readouterr().err
    assert sorted(path.name for path in outdir.iterdir()) == [
        *("dataset.json", "datasheet.md", "manifest.jsonl", "pairs.idx", "pairs.rec", "pairs.rec.json"),
        *("report.html", "settings.json", "summary.json"),
    ]


def test_quality_is_jpegs(files, tmp_path, capsys):  # noqa: F811
    with pytest.raises(SystemExit) as ended:
        generate_dataset.main(arguments(files, tmp_path / "out", quality=80))
    assert ended.value.code == 2 and capsys.readouterr().err == (
        "Error: --quality: goes with --image-format jpg; a PNG loses nothing\n"
    )


def test_encoder_processes_change_no_byte(files, tmp_path):  # noqa: F811
    found = []
    for workers in (0, 2):
        outdir = tmp_path / str(workers)
        with pytest.raises(SystemExit) as ended:
            generate_dataset.main(arguments(files, outdir, image_format="jpg", workers=workers, previews=1))
        assert ended.value.code == 0
        everything = {path.relative_to(outdir).as_posix(): path for path in outdir.rglob("*") if path.is_file()}
        found.append(
            {name: path.read_bytes() for name, path in everything.items() if name[:6] not in ("report", "summar")}
        )
    assert found[0] == found[1] and any(name.endswith(".jpg") for name in found[0])
