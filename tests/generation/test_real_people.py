"""The real people of several files."""

from __future__ import annotations

import numpy as np
import pytest

from dnnlib.errors import UserError
from generation.real_people import RealPeople
from generation.rules import FIRST, NONE, Rules
from torch_utils.feature_file import FeatureSet

VIS = FeatureSet(np.array([[3, 0], [0, 2], [0, 4]], dtype=np.float32), ["0_0.png", "1_0.png", "1_1.png"], "model")
NIR = FeatureSet(np.array([[-5, 0], [0, -6]], dtype=np.float32), ["0_0.png", "2_0.png"], "model", spectrum="nir")
BOTH = RealPeople(["vis", "nir"], [VIS, NIR])


def test_compared_are_all_the_first_of_each_person_or_none():
    assert BOTH.compared(Rules(), 2).tolist() == [[1, 0], [0, 1], [0, 1], [-1, 0], [0, -1]]
    # A person who is in both files has one first feature.
    assert BOTH.compared(Rules(compared=FIRST), 2).tolist() == [[1, 0], [0, 1], [0, -1]]
    assert BOTH.compared(Rules(compared=NONE), 2).shape == RealPeople([], []).compared(Rules(), 2).shape == (0, 2)


def test_features_of_another_size_or_model_are_refused_by_name():
    with pytest.raises(UserError, match=r"^--real-features: vis: features of 2 numbers, but the model gives 3$"):
        BOTH.check_size(3, "the model gives 3")
    with pytest.raises(UserError, match="^--real-features: vis: "):
        BOTH.of_model("other", "R")
    assert BOTH.of_model("model", "R") == []
