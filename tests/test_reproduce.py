"""reproduce.py as its user calls it: plans, mistakes, and the whole chain over scripts that stand in for the real ones
(tests/reproduction/fake_script.py); the real ones are each tested where they live."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import reproduce
from arcface.backbones import build_backbone
from arcface.benchmarks import write_bin
from arcface.weights import save_recognition
from commands import reproduce as work
from dnnlib.files import FolderLock
from reproduction import mini, paper
from reproduction.experiment import SEEDS, SOURCES, SPECTRA, recognition_name
from reproduction.stages import Stage
from torch_utils.image_tree import encode_png

SCRIPTS = ("dataset_tool", "train_recognition", "filter", "train", "generate_dataset", "calc_metrics")
FAKE = Path(__file__).parent / "reproduction/fake_script.py"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(reproduce.main, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    result = call(*arguments)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.exit_code == 2 and len(errors) == 1, result.output + repr(result.exception)
    return errors[0]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the paper's scale is given: a paired set at 256x256, another one, a model, a benchmark; and small pairs."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    for name, side in (("real", 256), ("others", 256), ("small", 64)):
        for spectrum, channels in (("VIS", 3), ("NIR", 1)):
            (folder / name / spectrum).mkdir(parents=True)
            for person, sample in itertools.product(range(2), range(2)):
                pixels = rng.integers(0, 256, (side, side, channels), dtype=np.uint8)
                (folder / name / spectrum / f"{person}_{sample}.png").write_bytes(encode_png(pixels))
    torch.manual_seed(0)
    save_recognition(folder / "rec.safetensors", build_backbone("r10n", 32).eval(), "r10n", 32)
    faces = [encode_png(rng.integers(0, 256, (112, 112, 3), dtype=np.uint8)) for _ in range(4)]
    (folder / "benchmarks").mkdir()
    write_bin(folder / "benchmarks/lfw.bin", [(faces[0], faces[1]), (faces[2], faces[3])], [True, False])
    return folder


def of_paper(inputs: Path, outdir: Path, **changed: object) -> list[object]:
    given: dict[str, object] = {
        "--data": inputs / "real",
        "--rec-model": inputs / "rec.safetensors",
        "--benchmarks": inputs / "benchmarks",
        **{f"--{name.replace('_', '-')}": value for name, value in changed.items()},
    }
    options = [word for name, value in given.items() if value is not None for word in (name, value)]
    return ["--scale", "paper", "--outdir", outdir, *options]


# ----------------------------------------------------------------------------
# Plans.


def parsed(stage: Stage) -> dict[str, object]:
    """The parameters that the stage's script would have, or the test fails as its user would."""
    command: click.Command = importlib.import_module(stage.script.removesuffix(".py")).main
    arguments = stage.command()[1:]
    if isinstance(command, click.Group):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    return command.make_context(stage.script, arguments).params


def test_every_command_of_the_miniature_is_one_that_its_script_takes() -> None:
    experiment = mini.build()
    stages = experiment.stages()
    assert {stage.script.removesuffix(".py") for stage in stages} == set(SCRIPTS)
    assert len({stage.name for stage in stages}) == len(stages) == 13 + 27
    found = {stage.name: parsed(stage) for stage in stages}
    wanted = {recognition_name(*run) for run in ((a, b, c) for a in SOURCES for b in SPECTRA for c in SEEDS)}
    assert wanted <= found.keys()
    # Nobody is in two sets of people.
    rendered = [found[f"people-{name}"] for name in ("instrument", "real", "heldout")]
    spans = sorted((one["first_identity"], one["first_identity"] + one["identities"]) for one in rendered)  # type: ignore[operator]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    # The comparison is fair: as many pairs of each source, and equal steps.
    real = found["people-real"]
    assert all(found[name]["ids"] == real["identities"] for name in ("unfiltered", "filtered"))
    assert all(found[name]["samples_per_id"] == real["samples"] for name in ("unfiltered", "filtered"))
    assert len({found[name]["steps"] for name in wanted}) == 1
    assert {found[name]["data"] for name in wanted} == {"people/real", "unfiltered", "filtered"}
    # The two sets differ in the rules alone.
    differing = {key for key in found["filtered"] if found["filtered"][key] != found["unfiltered"][key]}
    assert differing == {"outdir", "rules", "min_feature_norm"}


def test_the_papers_settings(inputs: Path) -> None:
    given = paper.Given(
        data=str(inputs / "real"),
        rec_model=str(inputs / "rec.safetensors"),
        rec_arch=None,
        heldout=str(inputs / "others"),
        benchmarks=(str(inputs / "benchmarks"),),
        inception=None,
        ids=100,
        samples=32,
        kimg=None,
        gpus=8,
    )
    stages = paper.build(given).stages()
    found = {stage.name: parsed(stage) for stage in stages}
    assert all((found[stage.name].get("gpus") or 1) == stage.slots for stage in stages)  # it sees no others
    generator = found["generator"]
    wanted = {"cfg": "auto", "batch": 12, "mirror": True, "snap": 20, "nir_weight": 0.1, "kimg": None, "gpus": 3}
    assert {name: generator[name] for name in wanted} == wanted  # 4 pairs a GPU, as many as are compared in a group
    assert found["filtered"]["ids"] == 100 and found["filtered"]["samples_per_id"] == 32
    assert found["filtered"]["identities"] == "random" and found["filtered"]["gpus"] == 8
    assert found["real-vis-0"]["backbone"] == "r50" and found["real-vis-0"]["steps"] == 40 * 3200 // 128
    assert found["quality-heldout"]["fake"] == str(inputs / "others")
    assert "quality-heldout" not in {stage.name for stage in paper.build(given._replace(heldout=None)).stages()}


def test_dry_runs_print_the_plan_and_make_nothing(inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call("--outdir", out, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "40 stages of --scale mini" in result.stdout and not out.exists()
    assert "python generate_dataset.py --gen-model 'generator/*/best-network.safetensors'" in result.stdout
    result = call(*of_paper(inputs, out), "--gpus", 2, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "GPU hours not measured" in result.stdout and "GiB" in result.stdout and not out.exists()
    assert "10,000 thousand pairs" in result.stdout and "1000 steps of 128 pictures" in result.stdout


def test_mistakes_are_one_line_and_make_nothing(inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "--data: a real paired set is needed" in refused(*of_paper(inputs, out, data=None))
    assert "--rec-model: a recognition model is needed" in refused(*of_paper(inputs, out, rec_model=None))
    assert "--benchmarks: verification benchmarks are needed" in refused(*of_paper(inputs, out, benchmarks=None))
    assert "pictures of 64 pixels; the paper's have 256" in refused(*of_paper(inputs, out, data=inputs / "small"))
    assert "--heldout-data" in refused(*of_paper(inputs, out, heldout_data=tmp_path))
    assert "is --data; people are needed" in refused(*of_paper(inputs, out, heldout_data=inputs / "real"))
    assert "--rec-model" in refused(*of_paper(inputs, out, rec_model=inputs / "benchmarks/lfw.bin"))
    assert "no benchmark there" in refused(*of_paper(inputs, out, benchmarks=inputs / "real/VIS"))
    assert "--inception" in refused(*of_paper(inputs, out, inception=tmp_path / "none.pt"))
    assert "--kimg" in refused(*of_paper(inputs, out, kimg=0))
    assert "--cores: is for --scale mini" in refused(*of_paper(inputs, out, cores=2))
    assert "--ids: is for --scale paper" in refused("--outdir", out, "--ids", 7)
    assert "--data: is for --scale paper" in refused("--outdir", out, "--data", inputs / "real")
    assert "no benchmark there" in refused("--outdir", out, "--benchmarks", tmp_path)
    assert "--outdir" in refused("--outdir", inputs / "rec.safetensors")
    assert "is not empty and holds no experiment" in refused("--outdir", inputs)
    if torch.cuda.device_count() < 9:
        assert "--gpus: 9, but this machine has" in refused(*of_paper(inputs, out, gpus=9))
    assert not out.exists()


# ----------------------------------------------------------------------------
# The chain.


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of scripts that do their work at once."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    for name in SCRIPTS:
        (folder / f"{name}.py").write_text(FAKE.read_text())
    rng = np.random.default_rng(0)
    for spectrum, channels in (("VIS", 3), ("NIR", 1)):
        (tmp_path / f"{spectrum}.png").write_bytes(encode_png(rng.integers(0, 256, (32, 32, channels), dtype=np.uint8)))
    monkeypatch.setenv("FAKE_PICTURES", str(tmp_path))
    monkeypatch.setattr(work, "SCRIPTS", folder)
    return folder


def test_the_whole_chain_and_again(fakes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call("--outdir", out, "--cores", 2)
    assert result.exit_code == 0, result.output + repr(result.exception)
    assert "[40/40] filtered-vis-nir-2" in result.stderr and result.stdout.splitlines()[-1].startswith("Report: ")
    claims = json.loads((out / "claims.json").read_text())
    assert all(set(claim) == {"claim", "criterion", "values", "verdict"} for claim in claims)
    verdicts = {claim["claim"]: claim["verdict"] for claim in claims}
    assert verdicts["Recognition trained on filtered pairs is better than on unfiltered ones."] == "reproduced"
    results = json.loads((out / "results.json").read_text())
    assert len(results["recognition"]) == 27 and results["recipe"]["decides"] == ["pairs-vis-vis"]
    assert results["stages"]["filtered"]["command"].startswith("python generate_dataset.py --gen-model")
    table = (out / "results.md").read_text()
    assert "| filtered | VIS+NIR | 89.00 ± 1.00 |" in table
    page = (out / "report.html").read_text()
    assert page.count('class="person"') == 3 * 2 and "http" not in page.replace("http://www.w3.org", "")
    assert "<svg" in page and "not reproduced" in page
    assert "of the thresholds" in page and "of an audit" in page and "| refused: same | 1 | 1 |" in table
    before = (out / "stages.json").read_text()
    again = call("--outdir", out)
    assert again.exit_code == 0 and again.stderr.count("done before") == 40
    assert (out / "stages.json").read_text() == before
    dry = call("--outdir", out, "--dry-run")
    assert dry.stdout.count(": done, ") == 40
    assert "holds an experiment of --scale mini" in refused("--scale", "paper", "--outdir", out, "--data", out)


def test_what_another_run_has_done_in_the_meantime_counts(
    fakes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder's record is read before the folder is ours; what counts is how it is then."""
    assert call("--outdir", tmp_path / "out").exit_code == 0
    record = tmp_path / "out/stages.json"
    done = record.read_text()
    record.write_text(json.dumps({"scale": "mini", "stages": {}}))
    monkeypatch.setattr(FolderLock, "take", lambda *_: record.write_text(done))
    again = call("--outdir", tmp_path / "out")
    assert again.exit_code == 0 and again.stderr.count("done before") == 40


def test_a_stage_that_fails_ends_the_run_in_one_line(fakes: Path, tmp_path: Path) -> None:
    (fakes / "train.py").write_text("import sys\nprint('Error: --data: broken')\nsys.exit(2)\n")
    result = call("--outdir", tmp_path / "out")
    (log,) = (tmp_path / "out/logs").glob("*-generator.log")
    assert result.exit_code == 2
    assert f"Error: generator: exit code 2: Error: --data: broken (log: {log};" in result.stderr
    assert not (tmp_path / "out/claims.json").exists()
    (fakes / "train.py").write_text(FAKE.read_text())
    assert call("--outdir", tmp_path / "out").exit_code == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_signals_reach_the_stage(fakes: Path, tmp_path: Path, number: int, status: int) -> None:
    """Asked to stop, the child saves and leaves; the next run ends the work."""
    waiting = "import pathlib, signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
    waiting += "pathlib.Path('waiting').touch()\ntime.sleep(60)\n"
    (fakes / "train.py").write_text(waiting)
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # a shell's & ignores it
    program += f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); import pathlib, reproduce; "
    program += f"import commands.reproduce as work; work.SCRIPTS = pathlib.Path({str(fakes)!r}); reproduce.main()"
    out = tmp_path / "out"
    child = subprocess.Popen([sys.executable, "-c", program, "--outdir", str(out)], stderr=subprocess.PIPE, text=True)
    while not (out / "waiting").exists():
        assert child.poll() is None
        time.sleep(0.05)
    os.kill(child.pid, number)
    assert child.stderr is not None and "the same command goes on from there" in child.stderr.read()
    assert child.wait() == status
    assert json.loads((out / "stages.json").read_text())["stages"]["generator"]["state"] == "stopped"
