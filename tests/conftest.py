"""What all tests share."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from torch_utils.feature_file import FILE_NAME, FeatureSet, save_features
from torch_utils.image_tree import encode_png
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


@pytest.fixture
def tiny_data(tmp_path: Path) -> Path:
    """Three people, two pairs of noise of each, 16x16, with features: what train.py takes."""
    rng = np.random.default_rng(0)
    names = [f"{person}_{sample}.png" for person in range(3) for sample in range(2)]
    for folder, channels in (("VIS", 3), ("NIR", 1)):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for name in names:
            pixels = rng.integers(0, 256, (16, 16, channels), dtype=np.uint8)
            (tmp_path / "data" / folder / name).write_bytes(encode_png(pixels))
    features = FeatureSet(rng.standard_normal([6, 8]).astype(np.float32), names, "test-model")
    save_features(tmp_path / "data" / FILE_NAME, features)
    return tmp_path / "data"
