"""Several processes take the steps of one, and all stop for one's NaN."""

from pathlib import Path

import pytest
import torch

from tests.arcface.crew_work import steps
from torch_utils.launch import World, launch


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    for size in (1, 2):
        launch(World(size, "cpu"), lambda: tmp_path, steps)
    (alone, measured), *both = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    for state, values in both:
        for mine, whole in zip(values, measured, strict=True):
            assert mine == pytest.approx(whole, rel=1e-4)
        for name, weights in alone["backbone"].items():
            torch.testing.assert_close(state["backbone"][name], weights, atol=1e-5, rtol=1e-4)
        for name in ("norm_mean", "norm_sd"):
            torch.testing.assert_close(state["head"][name], alone["head"][name], atol=0, rtol=1e-5)
    assert all(torch.equal(values, both[1][0]["backbone"][name]) for name, values in both[0][0]["backbone"].items())
