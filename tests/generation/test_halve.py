"""Networks in float16: half as large, the same but for rounding, and a name of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from arcface.backbones import build_backbone
from arcface.weights import load_recognition, save_recognition
from generation.halve import main
from tests.arcface.people import settled
from training.generator import Generator
from training.snapshots import load_generator, save_generator

ABOUT = {"recognition_model": "m", "feature_norm": 3.0, "images_seen": 1000}


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return settled(build_backbone("mbfn", 32))


def halve(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def test_a_halved_recognition_model_is_another_that_sees_nearly_the_same(backbone, tmp_path):
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    mark = save_recognition(whole, backbone, "mbfn", 32, "BGR", {"data": "people"})
    assert halve("recognition", whole, half) == 0
    assert half.stat().st_size < 0.55 * whole.stat().st_size
    before, after = load_recognition(whole), load_recognition(half)
    assert before.fingerprint == mark != after.fingerprint
    assert (after.arch, after.color_order, after.training) == ("mbfn", "BGR", {"data": "people"})
    for name, values in before.backbone.state_dict().items():
        rounded = values.half().float() if values.is_floating_point() else values
        assert torch.equal(after.backbone.state_dict()[name], rounded)
    pictures = torch.randn(4, 3, 32, 32)
    both = torch.nn.functional.cosine_similarity(before.backbone(pictures), after.backbone(pictures))
    assert both.min() > 0.9999
    again = tmp_path / "again.safetensors"
    assert halve("recognition", half, again) == 0 and again.read_bytes() == half.read_bytes()


def test_a_halved_generator_keeps_what_is_known_of_it(tmp_path):
    torch.manual_seed(0)
    generator = Generator(resolution=16, c_dim=8, channel_base=256, channel_max=16)
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    save_generator(whole, generator, ABOUT)
    assert halve("generator", whole, half) == 0
    assert {values.dtype for values in load_file(half).values()} == {torch.float16}
    assert load_generator(half).metadata == ABOUT
    z, c = torch.randn(2, generator.z_dim), torch.randn(2, 8)
    one, other = (load_generator(path)(z, c)["vis"].numpy() for path in (whole, half))
    assert 0 < np.abs(one - other).max() < 0.02


def test_what_cannot_be_halved_is_refused_and_leaves_nothing(backbone, tmp_path, capsys):
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    next(backbone.parameters()).data.mul_(1e6)
    save_recognition(whole, backbone, "mbfn", 32)
    for arguments, words in (
        (("recognition", whole, half), "holds values that float16 cannot"),
        (("generator", whole, half), f"SOURCE: {whole}: a safetensors file, but not a generator's"),
        (("recognition", tmp_path / "none.pth", half), f"SOURCE: {tmp_path / 'none.pth'}: no such file"),
        (("recognition", whole, whole), f"DEST: {whole} exists"),
        (("recognition", whole, tmp_path / "no" / "half"), "no such folder"),
        (("face", whole, half), "'face' is not one of 'recognition', 'generator'"),
    ):
        assert halve(*arguments) == 2
        assert words in capsys.readouterr().err
    assert not half.exists()
