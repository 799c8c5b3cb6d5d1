"""Held-out people are embedded as they are one by one, whoever reads them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from arcface.backbones import build_backbone
from arcface.embed import embed
from arcface.recognition_tests import embed_people
from arcface.weights import RecognitionModel
from tests.arcface.people import people


@pytest.mark.parametrize("workers", [0, 1])
def test_only_these_people_are_embedded(workers: int) -> None:
    torch.manual_seed(0)
    model = RecognitionModel("mbfn", 32, "RGB", "0" * 16, build_backbone("mbfn", 32).eval(), {})
    everybody = people().sets[0]
    found = embed_people(model, replace(everybody, identities=("1", "3")), batch_size=3, workers=workers)
    for source in everybody.sources:
        own, rows = found[source.spectrum], [4, 5, 6, 7, 12, 13, 14, 15]  # four pictures each
        assert own.identities == ["1"] * 4 + ["3"] * 4 and own.names == [source.names[row] for row in rows]
        np.testing.assert_allclose(own.features, embed(model, [source.decode(row) for row in rows]), atol=1e-5)
