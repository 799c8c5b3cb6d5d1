"""What all tests share."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from torch_utils.ops import build

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only wait for one another on several, most of all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cpu_module() -> ModuleType:
    """csrc/ with cpu.cpp, built once and kept in build/ops until its sources change."""
    made = build.Build(build.CPU_SOURCES, arch="", root=ROOT / "build" / "ops")
    if not made.is_finished:
        if missing := build.missing_tools(cuda=False):
            pytest.skip("; ".join(missing))
        build.ensure(made, again=True)
    return build.load(made)
