"""The kernels under test: their CPU build, which has the same arithmetic, and the real ones where there is a GPU."""

from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from torch_utils.ops import build
from torch_utils.ops.kernels import kernels_for, use


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """A device on which the ops run compiled kernels during the test."""
    if request.param == "cpu":
        module: ModuleType | None = request.getfixturevalue("cpu_module")
        device = torch.device("cpu")
    else:
        if not torch.cuda.is_available():
            pytest.skip("no NVIDIA GPU")
        if missing := build.missing_tools():
            pytest.skip("; ".join(missing))
        device = torch.empty(0, device="cuda").device
        module = kernels_for(torch.empty(0, device=device))
        assert module is not None, "the build failed; its line is on stderr"
    with use(module):
        yield device
