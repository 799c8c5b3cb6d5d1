"""A small paired dataset with features, and a configuration that trains in no time."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from torch_utils.feature_file import FILE_NAME, FeatureSet, save_features
from torch_utils.image_tree import PairedTree, encode_png
from training.config import DatasetFacts, TrainingConfig, TrainingOptions, build_training_config
from training.dataset import PairedFaces


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four people, three noisy pairs of each, 16x16."""
    root = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    names = []
    for person in range(4):
        pattern = rng.integers(0, 200, (4, 4, 3)).repeat(4, axis=0).repeat(4, axis=1)
        for sample in range(3):
            pixels = (pattern + rng.integers(0, 50, pattern.shape)).astype(np.uint8)
            names.append(f"{person:02d}_{sample}.png")
            for folder, array in (("VIS", pixels), ("NIR", pixels[..., :1])):
                (root / folder).mkdir(exist_ok=True)
                (root / folder / names[-1]).write_bytes(encode_png(array))
    values = rng.standard_normal([12, 8]).astype(np.float32)
    save_features(root / FILE_NAME, FeatureSet(values, names, "test-model"))
    return root


@pytest.fixture(scope="session")
def dataset(data: Path) -> PairedFaces:
    from torch_utils.feature_file import load_features

    return PairedFaces(PairedTree(data), load_features(data / FILE_NAME), mirror=True)


@pytest.fixture
def config() -> TrainingConfig:
    options = TrainingOptions(cfg="tiny32", batch=4, kimg=0.08, tick=0.04, snap=1, workers=0, fmaps=1 / 256)
    built = build_training_config(options, DatasetFacts(16, 12, 8))
    return dataclasses.replace(built, ada_kimg=0.1, generator={**built.generator, "z_dim": 8, "w_dim": 8})
