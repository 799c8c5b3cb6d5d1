"""train_recognition.py from its command line: a run, a second one, and the user's mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import dataset_tool
from arcface.weights import load_recognition
from dnnlib.files import read_lines
from torch_utils.image_tree import encode_png
from train_recognition import main


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people, each a random pattern, four noisy pictures of each."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for person in range(6):
        pattern = {"VIS": rng.integers(40, 216, (4, 4, 3)), "NIR": rng.integers(40, 216, (4, 4, 1))}
        for sample in range(4):
            for folder, values in pattern.items():
                (root / folder).mkdir(exist_ok=True)
                big = values.repeat(8, axis=0).repeat(8, axis=1)
                picture = (big + rng.integers(-20, 21, big.shape)).astype(np.uint8)
                (root / folder / f"{person:03d}_{sample}.png").write_bytes(encode_png(picture))
    return root


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_run_and_a_second_one(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments: list[object] = ["--data", data, "--outdir", out, "--spectra", "vis+nir", "--backbone", "mbfn"]
    arguments += ["--batch", 8, "--steps", 3, "--holdout", 2, "--device", "cpu"]
    first = run(*arguments)
    assert first.exit_code == 0, first.output
    lines = read_lines(out / "metrics.jsonl")
    assert {line["spectrum"] for line in lines} == {"vis", "nir", "vis-nir"}
    assert {"eer", "mated_mean", "mated_sd", "nonmated_mean", "fmr_at_mean_minus_2sd"} <= {x["metric"] for x in lines}
    assert all(line["num_real"] == 16 and line["num_identities"] == 2 for line in lines)
    config = json.loads((out / "config.json").read_text())
    assert config["input_size"] == 32 and config["data"]["identities"] == 4 and config["data"]["holdout"] == 2
    assert "mbfn at 32x32" in (out / "log.txt").read_text()
    before = (out / "recognition.safetensors").read_bytes()
    second = run(*arguments)
    assert second.exit_code == 0 and "all is done" in second.output
    other = run(*arguments, "--lr", 0.01)
    assert other.exit_code == 2 and "another lr" in other.output
    again = run(*arguments, "--overwrite")
    assert again.exit_code == 0 and (out / "recognition.safetensors").read_bytes() == before


def test_mistakes_are_one_line_and_leave_nothing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    cases = [
        (("--data", tmp_path / "none"), "--data"),
        (("--data", data, "--holdout", 5), "--holdout"),
        (("--data", data, "--backbone", "r51"), "--backbone"),
        (("--data", data, "--epochs", 1, "--steps", 1), "--epochs and --steps"),
        (("--data", data, "--spectra", "uv"), "--spectra"),
        (("--data", data, "--batch", 8, "--device", "abc"), "--device"),
        (("--data", data, "--batch", 100), "--batch"),
        (("--data", data, "--batch", 8, "--benchmarks", tmp_path), "--benchmarks"),
        (("--data", data, "--batch", 8, "--rec-arch", "r18"), "--rec-arch"),
        (("--data", data, "--rec-model", "x.pth"), "--data: one of"),
        ((), "--data: one of"),
        (("--rec-model", tmp_path / "none.pth"), "--rec-model"),
        (("--data", data, "--batch", 8, "--real", tmp_path / "none"), "--real"),
        (("--data", data, "--batch", 8, "--real-spectra", "vis"), "--real-spectra"),
        (("--data", data, "--batch", 8, "--init-from", tmp_path / "none.pth"), "--init-from"),
        (("--data", data, "--batch", 8, "--head", "softmax", "--scale", 3), "--scale"),
        (("--data", data, "--batch", 8, "--workers", -1), "--workers"),
        (("--data", data, "--batch", 8, "--workers", 100000), "--workers"),
        (("--data", data, "--batch", 8, "--eval-every", 1), "--eval-every"),
        (("--data", data, "--batch", 8, "--benchmarks", ""), "--benchmarks: the value is empty"),
        (("--rec-model", "x.pth", "--steps", 3, "--benchmarks", data), "--steps: says how to train"),
        (("--data", data, "--batch", 9, "--gpus", 2, "--device", "cpu"), "--batch"),
    ]
    for arguments, word in cases:
        result = run(*arguments, "--outdir", out)
        assert result.exit_code == 2 and word in result.stderr, (arguments, result.output)
        assert "Traceback" not in result.output
        message = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
        assert len(message) == 1 and not out.exists()


def test_dry_run_and_underscores(data: Path, tmp_path: Path) -> None:
    result = run("--data_folder", data, "--outdir", tmp_path / "run", "--batch", 8, "--dry-run")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["classes"] == 6 and told["pictures"] == 24 and told["steps_per_epoch"] == 3 and told["scale"] == 64
    assert told["head_parameters"] == 6 * 512 and told["backbone_parameters"] > 1e6
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").write_text("x")
    refused = run("--data", data, "--outdir", tmp_path / "file/run", "--batch", 8, "--dry-run")
    assert refused.exit_code == 2 and "--outdir" in refused.stderr


def test_benchmarks_after_training_and_without(data: Path, tmp_path: Path) -> None:
    out, tested = tmp_path / "run", tmp_path / "tested"
    people = [(person, (person + 1) % 6) for person in range(6)]
    pairs = [f"VIS/{a:03d}_0.png NIR/{a:03d}_1.png 1\nVIS/{a:03d}_0.png NIR/{b:03d}_1.png 0\n" for a, b in people]
    (data / "pairs-vis-nir.txt").write_text("".join(pairs))
    common: list[object] = ["--benchmarks", data, "--device", "cpu"]
    first = run(
        "--data", data, "--outdir", out, "--backbone", "mbfn", "--batch", 8, "--steps", 6, "--eval-every", 1, *common
    )
    assert first.exit_code == 0, first.output
    lines = read_lines(out / "metrics.jsonl")
    assert {line["step"] for line in lines} == {3, 6} and (out / "det.png").exists()
    last = {line["metric"]: line["value"] for line in lines if line["step"] == 6}
    assert {"accuracy", "accuracy_sd", "eer"} <= set(last)
    assert all(line["benchmark"] == "pairs-vis-nir" and line["spectrum"] == "vis-nir" for line in lines)
    assert all(line["num_pairs"] == 12 and line["resize"] == "bilinear-antialias-32-rgb" for line in lines)
    assert "pairs-vis-nir vis-nir" in first.output and "6 non-mated pairs are too few" in first.stderr
    assert all(line["num_folds"] == 10 for line in lines)
    refused = run("--rec-model", out / "recognition.safetensors", "--outdir", out, *common)
    assert refused.exit_code == 2 and "holds a run" in refused.stderr
    broken = tmp_path / "pairs.txt"
    broken.write_text("10\t300\n")
    none = run("--rec-model", out / "recognition.safetensors", "--outdir", tested, "--benchmarks", broken)
    assert none.exit_code == 2 and "10 folds of 300" in none.stderr and not tested.exists()
    plan = run("--rec-model", out / "recognition.safetensors", "--outdir", tested, *common, "--dry-run")
    assert plan.exit_code == 0 and not tested.exists()
    assert json.loads(plan.stdout)["benchmarks"] == {"pairs-vis-nir": {"spectra": "vis-nir", "pairs": 12}}
    second = run("--rec-model", out / "recognition.safetensors", "--outdir", tested, *common)
    assert second.exit_code == 0, second.output
    again = {line["metric"]: line["value"] for line in read_lines(tested / "metrics.jsonl")}
    assert again == pytest.approx(last) and (tested / "det.png").exists()
    kept = run("--rec-model", out / "recognition.safetensors", "--outdir", tested, *common)
    assert kept.exit_code == 2 and "holds the results of a test" in kept.stderr
    assert (
        run("--rec-model", out / "recognition.safetensors", "--outdir", tested, *common, "--overwrite").exit_code == 0
    )


def test_a_second_set_and_weights_to_begin_with(data: Path, tmp_path: Path) -> None:
    common: list[object] = ["--data", data, "--batch", 8, "--steps", 1, "--device", "cpu"]
    assert run(*common, "--backbone", "mbfn", "--outdir", tmp_path / "one").exit_code == 0
    start: list[object] = ["--init-from", tmp_path / "one/recognition.safetensors"]
    result = run(*common, *start, "--real", data, "--outdir", tmp_path / "two")
    assert result.exit_code == 0, result.output
    config = json.loads((tmp_path / "two/config.json").read_text())
    assert config["backbone"] == "mbfn" and len(config["init_from"]["fingerprint"]) == 16
    assert config["data"]["identities"] == config["data"]["real"]["identities"] == 6
    assert "on 48 vis pictures of 12 people" in result.output
    other = run(*common, *start, "--backbone", "r10n", "--outdir", tmp_path / "three")
    assert other.exit_code == 2 and "--backbone: r10n, but --init-from" in other.stderr


def test_every_format_trains_and_tests_like_its_folder(data: Path, tmp_path: Path) -> None:
    """The same pictures in the same order: the same weights, and the same results across the spectra."""
    places = {"folder": data, "rec": tmp_path / "a.rec", "webdataset": tmp_path / "a.tar", "zip": tmp_path / "a.zip"}
    common: list[object] = ["--spectra", "vis+nir", "--backbone", "mbfn", "--batch", 8, "--steps", 2, "--holdout", 2]
    found = []
    for kind, place in places.items():
        if kind != "folder":
            packing = ["pack", "--data", str(data), "--dest", str(place), "--format", kind]
            assert CliRunner().invoke(dataset_tool.main, packing).exit_code == 0
        result = run("--data", place, "--outdir", tmp_path / kind, *common, "--device", "cpu")
        assert result.exit_code == 0, result.output
        lines = read_lines(tmp_path / kind / "metrics.jsonl")
        mark = load_recognition(tmp_path / kind / "recognition.safetensors").fingerprint
        found.append((mark, [(line["spectrum"], line["metric"], line["value"]) for line in lines]))
    assert found == [found[0]] * 4 and {spectrum for spectrum, _, _ in found[0][1]} == {"vis", "nir", "vis-nir"}
