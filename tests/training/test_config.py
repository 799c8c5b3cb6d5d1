"""Options -> configuration: every preset's figures, and every wrong combination named."""

import json

import pytest

from dnnlib.errors import UserError
from training.config import PRESETS, DatasetFacts, TrainingOptions, build_training_config, notices


def build(resolution: int = 256, **options: object):
    return build_training_config(TrainingOptions(**options), DatasetFacts(resolution, 100, 512))  # type: ignore[arg-type]


# name, gpus, resolution -> kimg, batch, mbstd, channel_base, lr, gamma, ema kimg, ramp, mapping layers
EXPECTED = [
    ("auto", 1, 256, 10000, 16, 4, 16384, 0.0025, 0.8192, 5, 0.05, 8),
    ("auto", 8, 512, 10000, 64, 4, 32768, 0.0025, 0.8192, 20, 0.05, 8),
    ("auto", 2, 1024, 10000, 8, 4, 32768, 0.002, 26.2144, 2.5, 0.05, 8),
    ("auto_512", 8, 512, 10000, 32, 4, 32768, 0.0025, 1.6384, 10, 0.05, 8),
    ("stylegan2", 8, 1024, 25000, 32, 4, 32768, 0.002, 10, 10, None, 8),
    ("paper256", 8, 256, 25000, 64, 8, 16384, 0.0025, 1, 20, None, 8),
    ("paper512", 8, 512, 25000, 64, 8, 32768, 0.0025, 0.5, 20, None, 8),
    ("paper1024", 8, 1024, 25000, 32, 4, 32768, 0.002, 2, 10, None, 8),
    ("cifar", 2, 32, 100000, 64, 32, 32768, 0.0025, 0.01, 500, 0.05, 2),
    ("biface256", 1, 256, 25000, 12, 4, 16384, 0.0025, 1, 20, None, 8),
    ("tiny32", 1, 32, 10, 16, 4, 2048, 0.0025, 0.0128, 1, 0.05, 2),
    ("tiny64", 1, 64, 100, 16, 4, 4096, 0.0025, 0.0512, 5, 0.05, 8),
]


@pytest.mark.parametrize("row", EXPECTED, ids=[f"{row[0]}-{row[2]}" for row in EXPECTED])
def test_presets(row: tuple) -> None:
    cfg, gpus, resolution, kimg, batch, mbstd, base, lr, gamma, ema, ramp, mapping = row
    config = build(resolution, cfg=cfg, gpus=gpus)
    assert (config.total_kimg, config.batch, config.ema_rampup) == (kimg, batch, ramp)
    assert config.generator["channel_base"] == base and config.generator["mapping_layers"] == mapping
    assert config.generator["channel_max"] == (128 if cfg.startswith("tiny") else 512)
    assert all(kwargs["mbstd_group"] == mbstd for kwargs in config.discriminators.values())
    assert (config.learning_rate, config.gamma, config.ema_kimg) == pytest.approx((lr, gamma, ema))


@pytest.mark.parametrize(
    ("cfg", "gpus", "batch", "batch_gpu"),
    [
        ("paper1024", 1, 32, 4),  # made for 8 GPUs: one alone takes as little at once as each of those
        ("paper256", 2, 64, 8),
        ("paper256", 16, 64, 4),
        ("cifar", 1, 64, 32),
        ("biface256", 1, 12, 12),
        ("auto", 3, 48, 16),
        ("auto", 5, 60, 12),  # min(5 * 16, 64), cut to a multiple of 5
        ("auto_512", 5, 30, 6),
    ],
)
def test_any_number_of_gpus(cfg: str, gpus: int, batch: int, batch_gpu: int) -> None:
    config = build(cfg=cfg, gpus=gpus)
    assert (config.batch, config.batch_gpu) == (batch, batch_gpu)
    own = build(cfg=cfg, gpus=gpus, batch=gpus * 6)
    assert own.batch_gpu == 6 and build(cfg=cfg, gpus=gpus, batch=gpus * 6, batch_gpu=3).batch_gpu == 3


def test_every_preset_is_in_the_table() -> None:
    assert {row[0] for row in EXPECTED} == set(PRESETS)


def test_cifar_goes_without_path_length_mixing_and_residuals() -> None:
    config = build(32, cfg="cifar")
    assert (config.path_length_weight, config.style_mixing) == (0, 0)
    assert not any(kwargs["residual"] for kwargs in config.discriminators.values())


def test_conditions_and_the_originals_ways() -> None:
    config = build()
    assert [kwargs["c_dim"] for kwargs in config.discriminators.values()] == [512, 0]
    assert config.r1_spectra == ("vis", "nir") and config.ada_signal == "each"
    assert [kwargs["image_channels"] for kwargs in config.discriminators.values()] == [3, 1]
    published = build(nir_r1=False, cond_nir=True, nir_weight=0.1, ada_signal="vis")
    assert published.r1_spectra == ("vis",) and published.adversarial_weight == {"vis": 1, "nir": 0.1}
    assert published.discriminators["nir"]["c_dim"] == 512
    assert build(cond=False).generator["c_dim"] == 0
    assert json.loads(config.to_text())["resolution"] == 256


def test_transfer_has_no_rampup_and_a_faster_p() -> None:
    fresh, begun = build(cfg="auto"), build(cfg="auto", init_from="x.pkl", freezed=13)
    assert (fresh.ada_kimg, fresh.ema_rampup, fresh.init_from, fresh.freeze_layers) == (500, 0.05, None, 0)
    assert (begun.ada_kimg, begun.ema_rampup, begun.init_from, begun.freeze_layers) == (100, None, "x.pkl", 13)
    assert build(freezed=4, resume="latest").ada_kimg == 500


@pytest.mark.parametrize(
    ("options", "precision", "clamp"),
    [
        ({}, "fp32", None),
        ({"precision": "fp16"}, "fp32", None),
        ({"cuda": True}, "fp16", 256),
        ({"cuda": True, "precision": "bf16"}, "bf16", None),
        ({"cuda": True, "precision": "fp32"}, "fp32", None),
        ({"cuda": True, "fp32": True}, "fp32", None),
        ({"cuda": True, "fp32": True, "precision": "fp32"}, "fp32", None),
    ],
)
def test_precision_follows_the_device(options: dict, precision: str, clamp: float | None) -> None:
    config = build(**options)
    assert config.precision == precision and config.generator["clamp"] == clamp
    assert all(kwargs["clamp"] == clamp for kwargs in config.discriminators.values())


def test_what_has_no_effect_is_said() -> None:
    assert notices(TrainingOptions(precision="fp16"))[0].startswith("--precision: fp16 is for a GPU")
    assert notices(TrainingOptions(allow_tf32=True))[0].startswith("--allow-tf32: ")
    assert notices(TrainingOptions(precision="fp16", allow_tf32=True, cuda=True)) == notices(TrainingOptions()) == []


def test_backend_options() -> None:
    config = build()
    assert (config.allow_tf32, config.cudnn_benchmark) == (False, True)
    config = build(allow_tf32=True, nobench=True)
    assert (config.allow_tf32, config.cudnn_benchmark) == (True, False)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"aug": "fixed"}, "--aug"),
        ({"p": 0.2}, "--p"),
        ({"aug": "fixed", "p": 1.5}, "--p"),
        ({"aug": "noaug", "target": 0.5}, "--target"),
        ({"target": -1.0}, "--target"),
        ({"cfg": "huge"}, "--cfg"),
        ({"augpipe": "everything"}, "--augpipe"),
        ({"batch": 10, "gpus": 4}, "--batch"),
        ({"batch": 12, "batch_gpu": 5}, "--batch-gpu"),
        ({"batch": 12, "batch_gpu": 24}, "--batch-gpu"),
        ({"cfg": "paper256", "gpus": 3}, "--batch"),
        ({"cfg": "paper256", "gpus": 100}, "--batch"),
        ({"batch": 0}, "--batch"),
        ({"batch": 10**20}, "--batch"),
        ({"aug": "noaug", "augpipe": "bg"}, "--augpipe"),
        ({"aug": "noaug", "ada_signal": "vis"}, "--ada-signal"),
        ({"aug": "fixed", "p": 0.1, "ada_signal": "each"}, "--ada-signal"),
        ({"cond": False, "cond_nir": True}, "--cond-nir"),
        ({"gamma": -1.0}, "--gamma"),
        ({"lr": 0.0}, "--lr"),
        ({"lr": float("inf")}, "--lr"),
        ({"kimg": float("inf")}, "--kimg"),
        ({"gamma": float("nan")}, "--gamma"),
        ({"fmaps": 1 / 256}, "--fmaps"),
        ({"fmaps": 100.0}, "--fmaps"),
        ({"kimg": 0.0}, "--kimg"),
        ({"tick": 0.0}, "--tick"),
        ({"snap": 0}, "--snap"),
        ({"subset": 101}, "--subset"),
        ({"workers": -1}, "--workers"),
        ({"nir_weight": -0.1}, "--nir-weight"),
        ({"gpus": 0}, "--gpus"),
        ({"precision": "fp8"}, "--precision"),
        ({"precision": "fp16", "fp32": True}, "--fp32"),
        ({"precision": "bf16", "fp32": True, "cuda": True}, "--fp32"),
        ({"freezed": 1}, "--freezed"),
        ({"freezed": -1, "init_from": "x.pkl"}, "--freezed"),
        ({"freezed": 20, "init_from": "x.pkl"}, "--freezed"),
        ({"resolution": 48}, "--data"),
    ],
)
def test_wrong_combinations_name_their_option(options: dict, named: str) -> None:
    with pytest.raises(UserError, match=rf"^{named}: "):
        build(**options)
