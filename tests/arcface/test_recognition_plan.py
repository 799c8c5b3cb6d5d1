"""The options of a training, checked into a plan; nothing is made."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcface.backbones import build_backbone
from arcface.recognition_plan import begin_with, describe, make_plan
from arcface.weights import save_recognition
from dnnlib.errors import UserError
from torch_utils.image_tree import encode_png


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """Three people with two pairs each; as the command line has its options."""
    for person in range(3):
        for sample in range(2):
            for folder, channels in (("VIS", 3), ("NIR", 1)):
                path = tmp_path / "data" / folder / f"{person}_{sample}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encode_png(np.full((40, 40, channels), person, np.uint8)))
    unused = dict.fromkeys(("real", "real_spectra", "init_from", "backbone", "resolution"))
    places = {"data": str(tmp_path / "data"), "outdir": str(tmp_path / "run"), "benchmarks": ()}
    return {**unused, **places, "spectra": "vis", "batch": 4, "holdout": 0, "workers": 0} | dict.fromkeys(
        ("overwrite", "allow_tf32"), False
    )


def model_file(path: Path, color_order: str = "RGB") -> str:
    save_recognition(path, build_backbone("mbfn", 48), "mbfn", 48, color_order)
    return str(path)


def test_a_plan_can_be_sent_to_processes_and_makes_nothing(options: dict[str, Any], tmp_path: Path) -> None:
    plan = make_plan({**options, "real": options["data"], "spectra": "vis+nir"}, 2, "cpu")
    assert plan.config.gpus == 2 and plan.config.input_size == 40 and plan.config.data["real"]["pictures"] == 12
    told = describe(pickle.loads(pickle.dumps(plan)))
    assert told["classes"] == 6 and told["pictures"] == 24
    assert not (tmp_path / "run").exists()


def test_a_dry_run_plans_for_another_machine(options: dict[str, Any]) -> None:
    assert make_plan(options, 1, "cuda", dry_run=True).config.precision == "fp16"


def test_weights_to_begin_with_say_backbone_and_size(options: dict[str, Any], tmp_path: Path) -> None:
    assert begin_with(options) == (options, None)
    start = {**options, "init_from": model_file(tmp_path / "start.safetensors")}
    given, told = begin_with(start)
    assert (given["backbone"], given["resolution"]) == ("mbfn", 48) and start["backbone"] is None
    assert told is not None and len(told["fingerprint"]) == 16
    with pytest.raises(UserError, match="--resolution: 40, but --init-from: .* has 48"):
        begin_with({**start, "resolution": 40})
    with pytest.raises(UserError, match="--init-from: .* takes BGR; training is in RGB"):
        begin_with({**start, "init_from": model_file(tmp_path / "bgr.safetensors", "BGR")})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no picture", "VIS/0_0.png: not a PNG or JPEG picture"),
        (encode_png(np.zeros((40, 30, 3), np.uint8)), "picture VIS/0_0.png is 30x40; a square"),
    ],
)
def test_a_benchmarks_pictures_are_read_before_the_training(
    options: dict[str, Any], tmp_path: Path, data: bytes, words: str
) -> None:
    bench = tmp_path / "bench"
    (bench / "VIS").mkdir(parents=True)
    for name in ("0_0.png", "0_1.png", "1_0.png"):
        (bench / "VIS" / name).write_bytes(encode_png(np.zeros((40, 40, 3), np.uint8)))
    (bench / "pairs.txt").write_text("VIS/0_1.png VIS/0_0.png 1\nVIS/0_1.png VIS/1_0.png 0\n")
    make_plan({**options, "benchmarks": (bench,)}, 1, "cpu")
    (bench / "VIS/0_0.png").write_bytes(data)
    with pytest.raises(UserError, match=words):
        make_plan({**options, "benchmarks": (bench,)}, 1, "cpu")
