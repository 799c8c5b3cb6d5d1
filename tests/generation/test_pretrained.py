"""The models in pretrained/ belong together, are small, and are what generate_dataset.py uses by itself."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from arcface.weights import load_recognition
from dnnlib.errors import UserError
from generation.pretrained import DEFAULTS, FEATURES, FOLDER, GENERATOR, RECOGNITION, SUITED, THRESHOLDS, settled
from generation.thresholds import load_thresholds
from torch_utils.feature_file import load_features
from training.snapshots import load_generator

NAMES = ("gen_model", "rec_model", "thresholds", "identities", "truncation")
NOTHING: dict[str, Any] = {**dict.fromkeys(NAMES), "real_features": (), "seed": 3}


def test_who_names_no_model_gets_all_that_belongs_to_the_pretrained_ones():
    models = {"gen_model": str(GENERATOR), "rec_model": str(RECOGNITION), "thresholds": str(THRESHOLDS)}
    assert settled(NOTHING) == {**models, **SUITED, "real_features": (str(FEATURES),), "seed": 3}
    wishes = {"thresholds": "strict.json", "truncation": 0.0, "identities": "spread"}
    found = settled({**NOTHING, **wishes, "real_features": ("mine",)})
    assert found == {**models, **wishes, "real_features": (str(FEATURES), "mine"), "seed": 3}


def test_who_names_both_models_gets_the_papers_defaults_and_no_files():
    own = {**NOTHING, "gen_model": "g", "rec_model": "r"}
    assert settled(own) == {**own, **DEFAULTS}


@pytest.mark.parametrize(("has", "lacks"), [("gen_model", "--rec-model"), ("rec_model", "--gen-model")])
def test_one_model_of_two_is_refused(has, lacks):
    with pytest.raises(UserError, match=f"^{lacks}: needed, for "):
        settled({**NOTHING, has: "file"})


def test_the_shipped_files_belong_together_and_are_small():
    model, real = load_recognition(RECOGNITION), load_features(FEATURES)
    generator, limits = load_generator(GENERATOR), load_thresholds(THRESHOLDS)
    assert real.model == model.fingerprint == limits.recognition_model == generator.metadata["recognition_model"]
    assert generator.resolution == 64 and generator.c_dim == model.num_features == real.features.shape[1]
    assert real.mode == "all" and len(set(real.identities)) >= 200
    assert generator.metadata["feature_norm"] == pytest.approx(real.norm, rel=1e-3)
    assert np.isfinite([limits.unique, limits.same, limits.repeat]).all()
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 30e6
    assert {"README.md", GENERATOR.name, RECOGNITION.name, FEATURES.name, THRESHOLDS.name} <= {f.name for f in files}


def test_reading_the_generator_imports_no_compiler_of_pytorch():
    code = (
        "import sys; from generation.pretrained import GENERATOR; from training.snapshots import load_generator; "
        "load_generator(str(GENERATOR), 'cpu'); print('torch._dynamo' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=FOLDER.parent)
    assert result.stdout == "False\n", result.stderr
