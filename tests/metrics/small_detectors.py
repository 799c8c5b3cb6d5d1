"""Small networks in place of the large ones, under the public files' names, and files of them."""

import pytest
import torch
from torch import nn

from metrics import inception, vgg_lpips
from metrics.detector_files import FORMS, INCEPTION
from tests.metrics.random_weights import fill, shapes_of


class SmallInception(inception.Inception):
    """The first layer alone."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.Conv2d_1a_3x3 = inception._Convolution(3, inception.Layer("", 8, (3, 3), 2))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.Conv2d_1a_3x3(x).mean(dim=(2, 3))


def use_small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a test."""
    monkeypatch.setitem(FORMS, INCEPTION, FORMS[INCEPTION]._replace(build=SmallInception))
    monkeypatch.setattr(vgg_lpips, "STAGES", ((4,),) * 5)
    monkeypatch.setattr(vgg_lpips, "NUM_FEATURES", 6)


def weights(holds: str) -> dict[str, torch.Tensor]:
    return fill(shapes_of(FORMS[holds].build()))


def written(holds: str, name: str = "", **changes: torch.Tensor | None) -> str:
    """A file with a network's weights, some of them changed or (None) left out."""
    state = {**weights(holds), **changes}
    path = name or f"{holds}.pth"
    torch.save({key: values for key, values in state.items() if values is not None}, path)
    return path
