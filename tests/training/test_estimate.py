"""Parameters counted by hand, and memory against what PyTorch's profiler sees of real phases."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import train as script
from training.config import DatasetFacts, TrainingConfig, TrainingOptions, build_training_config
from training.estimate import activation_bytes, build_meta, estimate
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
