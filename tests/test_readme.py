"""Every command of README.md, in its order, in miniature: MINIATURE says what is smaller, all else is as it stands."""

import importlib.util
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from arcface.backbones import build_backbone
from tests.conftest import ROOT
from tests.training import released

README = (ROOT / "README.md").read_text(encoding="utf-8")

SHORT = "--kimg 0.008 --tick 0.008 --workers 0"
NARROW = f"--fmaps 0.00390625 --batch 4 {SHORT}"
NO_RULES = "--rules quality --min-feature-norm 0"  # networks trained this little pass no others

# What stands in README -> what is run. Each must occur.
MINIATURE = {
    "--resolution 256": "--resolution 32",
    "--workers 8": "--workers 1",
    "--cfg auto ": f"--cfg auto {NARROW} ",
    "--cfg=auto ": f"--cfg=auto --fmaps 0.00390625 {SHORT} ",
    "--cfg paper256": f"--cfg paper256 {NARROW}",
    "--batch=12": "--batch=4",
    "--kimg 1000": "",
    "--snap 20": "--snap 1",
    "--snap=20": "--snap=1",
    "--resume latest --gpus 8": "--resume latest --gpus 2 --device cpu",  # two processes in training alone: each takes
    "--gpus 8": "--gpus 1",  # seconds to start
    "--gpu_device_number 0": "--gpu_device_number cpu",
    "--ids 1000 --samples-per-id 32": f"--ids 4 --samples-per-id 2 {NO_RULES}",
    "--filter-preset arcbiface": "--filter-preset arcbiface --dry-run",  # which nothing here would pass
    "--outdir out/mine": "--outdir out/mine --ids 1 --samples-per-id 2",
    "--backbone r50 --batch 128 --epochs 20": "--backbone r10n --batch 4 --epochs 1",
    "--backbone r50 --batch 512 --lr 0.1 --epochs 20": "--backbone r10n --batch 4 --lr 0.1 --epochs 1",
    "--holdout 50": "--holdout 2",
}
# What the README says comes out, and more than a few bytes of it.
COMES_OUT = (
    "data/tufts/VIS/1_E1.png",
    "data/tufts/NIR/3_E2.png",
    "data/tufts/dataset.json",
    "data/tufts/identity_features.safetensors",
    "data/thresholds.json",
    "data/identity_features.json",
    "out/tufts/report.html",
    "out/tufts/manifest.jsonl",
    "out/tufts/metrics.jsonl",
    "runs/recognition/recognition.safetensors",
    "runs/recognition/curves.png",
)


def blocks(text: str) -> list[list[str]]:
    """The commands of each fenced block, as one would type them on one line; comments are left out."""
    found = []
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        lines = block.replace("\\\n", " ").splitlines()
        found.append([" ".join(words) for line in lines if (words := shlex.split(line, comments=True))])
    return found


def small(command: str) -> str:
    for big, little in MINIATURE.items():
        command = f"{command} ".replace(f"{big.strip()} ", f"{little.strip()} ").strip()
    return command


def run(command: str) -> None:
    """In this process, or as `make -n` shows it. What this cannot run, a test cannot vouch for: it fails."""
    words = shlex.split(command)
    if words[0] == "make":
        said = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert said.returncode == 0 and ".venv/bin/python" in said.stdout, command + said.stdout + said.stderr
        return
    assert words[0] == ".venv/bin/python" and (ROOT / words[1]).is_file(), f"cannot be run here: {command}"
    script = importlib.import_module(words[1].removesuffix(".py"))
    result = CliRunner().invoke(script.main, words[2:])
    assert result.exit_code == 0, f"{command}\n{result.output}{result.exception!r}"


def photographs(folder: Path) -> None:
    """Three participants as the Tufts set names them: one face in other lights, in both spectra."""
    from skimage.data import astronaut

    face = np.ascontiguousarray(astronaut()[:260, 100:360])
    for person in (1, 2, 3):
        for sample in (1, 2):
            light = (face * (1 - 0.15 * person + 0.05 * sample)).astype(np.uint8)
            for word, pixels in (("RGB", light), ("NIR", light[..., 0])):
                path = folder / word / str(person) / f"TD_{word}_E_{sample}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path, quality=95)


def downloads(folder: Path) -> None:
    """What a user brings, with random weights."""
    folder.mkdir()
    torch.manual_seed(0)
    torch.save(build_backbone("mbf", 112).state_dict(), folder / "r100.pth")  # its shapes say what it is
    generator = released.generator(16, 512, 512, 16, widths=(16, 8, 4))
    released.save(folder / "released.pkl", G_ema=generator)
    widths = (32, 16, 8, 4)
    single: dict[str, Any] = {"z": 512, "c": 0, "w": 512, "widths": widths, "layers": 8, "heads": {"torgb": 3}}
    networks: dict[str, Any] = {name: released.generator(32, **single) for name in ("G", "G_ema")}
    released.save(folder / "ffhq256.pkl", **networks, D=released.discriminator(3, 0, widths))


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("facenet_pytorch") is None, reason="the wheel facenet-pytorch carries the weights"
)
@pytest.mark.filterwarnings("ignore")
def test_every_command_runs_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photographs(tmp_path / "raw")
    downloads(tmp_path / "models")
    for commands in blocks(README):
        if any("--gpus 8" in command for command in commands):  # the node's block is that of one GPU, from nothing
            for folder in ("runs", "out"):
                Path(folder).rename(f"{folder}-of-one-gpu")
        for command in commands:
            run(small(command))
    assert [path for path in COMES_OUT if not Path(path).is_file() or Path(path).stat().st_size < 50] == []


def test_every_replacement_is_of_something_in_the_readme() -> None:
    text = "\n".join(command + " " for commands in blocks(README) for command in commands)
    assert [big for big in MINIATURE if f"{big.strip()} " not in text] == []


def test_what_it_cannot_run_fails() -> None:
    for command in ("ls", "bash x.sh", ".venv/bin/python nothing.py", "make no-such-target"):
        with pytest.raises(AssertionError):
            run(command)
