"""Parameters and work counted by hand, and memory against what PyTorch's profiler sees of real phases."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import train as script
from training.config import PRESETS, DatasetFacts, TrainingConfig, TrainingOptions, build_training_config
from training.estimate import activation_bytes, build_meta, estimate
from training.operations import discriminator_flops, generator_flops, pair_flops
from training.trainer import Trainer


def test_parameters_by_hand(config: TrainingConfig) -> None:
    """16x16, z = c = w = 8, widths 32, 16, 8 at 4, 8, 16; two mapping layers; nothing but sums and products."""
    counted = estimate(config)["parameters"]
    mapping = (8 * 8 + 8) + (16 * 8 + 8) + (8 * 8 + 8)
    assert counted["generator"]["mapping"] == mapping

    def layer(inputs: int, outputs: int) -> int:
        return (8 * inputs + inputs) + outputs * inputs * 9 + outputs + 1

    blocks = {"b4": 32 * 16 + layer(32, 32), "b8": layer(32, 16) + layer(16, 16), "b16": layer(16, 8) + layer(8, 8)}
    assert counted["generator"]["synthesis"] == blocks
    heads = {
        n: sum(8 * w + w + channels * w + channels for w in (32, 16, 8)) for n, channels in (("vis", 3), ("nir", 1))
    }
    assert counted["generator"]["heads"] == heads
    trainer = Trainer(config, torch.device("cpu"))
    networks = [trainer.generator, *trainer.discriminators.values()]
    assert counted["generator"]["total"] == mapping + sum(blocks.values()) + sum(heads.values())
    assert counted["total"] == sum(parameter.numel() for net in networks for parameter in net.parameters())


def planned(cfg: str, resolution: int, **options: object) -> TrainingConfig:
    return build_training_config(
        TrainingOptions(cfg=cfg, batch=4, **options),  # type: ignore[arg-type]
        DatasetFacts(resolution, 100, 512),
    )


def test_work_by_hand() -> None:
    generator, discriminators = build_meta(planned("tiny32", 8, fmaps=1 / 256))
    # channel_base 128: 32 channels at 4x4, 16 at 8x8.
    layers = 32 * 32 * 9 * 16 + 32 * 16 * 9 * 16 + 16 * 16 * 9 * 64
    heads = (32 * 16 + 16 * 64) * (3 + 1)
    assert generator_flops(generator) == pytest.approx(2 * (layers + heads))
    judged = 3 * 16 * 64 + 16 * 16 * 9 * 64 + 16 * 32 * 9 * 16 + 16 * 32 * 16 + 33 * 32 * 9 * 16
    assert discriminator_flops(discriminators["vis"]) == pytest.approx(2 * judged)


def test_work_of_a_pair() -> None:
    """Every network forward and backward once for each loss, and a lazy regulariser in so many of the iterations."""

    def work(**options: object) -> tuple[float, float, dict[str, float]]:
        config = planned("tiny32", 32, **options)
        generator, discriminators = build_meta(config)
        judges = {name: discriminator_flops(network) for name, network in discriminators.items()}
        return pair_flops(config, generator, discriminators), generator_flops(generator), judges

    whole, g, d = work()
    without_r1, *_ = work(gamma=0)
    vis_alone, *_ = work(nir_r1=False)
    assert without_r1 == pytest.approx((3 + 1 + 6 / 2 / 4) * g + (2 + 6) * sum(d.values()))
    assert whole - without_r1 == pytest.approx(6 / 16 * sum(d.values()))
    assert whole - vis_alone == pytest.approx(6 / 16 * d["nir"])


@pytest.mark.parametrize("cfg", PRESETS)
def test_every_preset_tells_its_work(cfg: str) -> None:
    assert estimate(planned(cfg, 32))["tflop_per_kimg"] > 0


def measured_peaks(config: TrainingConfig, path: Path) -> dict[str, int]:
    """Bytes that each phase adds at most to what is allocated, as the profiler's events tell."""
    trainer = Trainer(config, torch.device("cpu"))
    reals = {name: torch.zeros(config.batch, k["image_channels"], 32, 32) for name, k in config.discriminators.items()}
    c = torch.randn(config.batch, 8)
    peaks = {}
    for again in (False, True):  # the first time, Adam makes its moments
        for phase in trainer.phases:
            with profile(activities=[ProfilerActivity.CPU], profile_memory=again) as profiler:
                phase.run(trainer._rounds(phase, reals, c, c))
            if again:
                profiler.export_chrome_trace(str(path))
                events = json.loads(path.read_text())["traceEvents"]
                steps = [event["args"] for event in events if event.get("name") == "[memory]"]
                before = steps[0]["Total Allocated"] - steps[0]["Bytes"]
                peaks[phase.name] = max(step["Total Allocated"] for step in steps) - before
    return peaks


def test_activations_are_those_of_real_phases(tmp_path: Path) -> None:
    options = TrainingOptions(cfg="tiny32", batch=4, aug="fixed", p=1.0, augpipe="bg")
    config = build_training_config(options, DatasetFacts(32, 100, 8))
    expected = activation_bytes(config, *build_meta(config))
    peaks = measured_peaks(config, tmp_path / "trace.json")
    assert peaks.keys() == expected.keys()
    for name, peak in peaks.items():
        assert 1 / 1.4 < expected[name] / peak < 1.4, name


def test_memory_grows_with_the_batch_and_shrinks_with_precision() -> None:
    def total(**options: object) -> float:
        config = build_training_config(
            TrainingOptions(cfg="paper1024", gpus=8, cuda=True, **options),  # type: ignore[arg-type]
            DatasetFacts(1024, 100, 512),
        )
        return estimate(config)["memory_gib_per_gpu"]

    full, half = total(precision="fp32"), total()
    assert 4 < half < 0.75 * full and full < 40
    assert total(precision="fp32", batch=8) < 0.6 * full


def test_dry_run_prints_json_alone(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--data", str(data), "--outdir", str(tmp_path / "runs"), "--device", "cpu", "--precision", "bf16", "-n"]
    with pytest.raises(SystemExit) as ended:
        script.main(line)
    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert ended.value.code == 0 and not (tmp_path / "runs").exists()
    assert printed["precision"] == "fp32" and printed["memory_gib_per_gpu"] > 0
    assert printed["parameters"]["discriminators"].keys() == {"vis", "nir"}
    assert {field.name for field in dataclasses.fields(TrainingConfig)} < printed.keys()
    assert "--precision: bf16 is for a GPU" in captured.err
