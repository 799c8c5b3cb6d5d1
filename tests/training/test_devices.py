"""Where tensors are made: beside the networks, whatever the device."""

import numpy as np
import pytest
import torch

from tests.devices import META, OneDevice
from torch_utils import distributed
from training import augment
from training.augment_geometry import warp
from training.config import DatasetFacts, TrainingOptions, build_training_config
from training.draw import Drawings
from training.trainer import Trainer


@pytest.mark.parametrize("native", [False, True])
def test_an_iteration_stays_on_its_device(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All phases, all transforms, rounds, ADA, drawing for metrics; both ways of sampling."""
    # Tensors on meta have no values: these are what an iteration looks at.
    monkeypatch.setattr(torch.Tensor, "__float__", lambda self: 0.5)
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda self: True)
    monkeypatch.setattr(augment, "_warp_moved", warp)
    monkeypatch.setattr("torch_utils.ops.grid_sample.native_serves", lambda device: native)
    steps: list[int] = []  # how many gradients each had

    def finite(gradients: list[torch.Tensor]) -> bool:
        steps.append(len(gradients))
        return True

    monkeypatch.setattr(distributed, "all_finite", finite)
    options = TrainingOptions(
        cfg="tiny32", batch=4, batch_gpu=2, augpipe="bgcfnc", fmaps=1 / 256, cuda=True, precision="fp16"
    )
    config = build_training_config(options, DatasetFacts(16, 100, 8))
    images = {"vis": torch.zeros([4, 3, 16, 16], dtype=torch.uint8), "nir": torch.zeros([4, 1, 16, 16]).to(torch.uint8)}
    with OneDevice():
        trainer = Trainer(config, META)
        for _ in range(5):
            trainer.step((images, torch.zeros([4, 8])), torch.zeros([10, 8], device=META))
        drawings = Drawings(trainer.ema.averaged, np.zeros([10, 8], dtype=np.float32), seed=0, batch=2)
        list(drawings.pairs(range(3))), list(drawings.groups(range(2), 3)), list(drawings.path(range(3), 1e-4))
    assert len(steps) == 5 * 2 + 2 + 1 and all(steps)  # main phases, path length, R1
    held = (value for part in trainer._stateful().values() for value in part.state_dict().values())
    assert {tensor.device for tensor in held if isinstance(tensor, torch.Tensor)} == {META}
