"""What recognition training is tested on: people who were kept out, within and across spectra, and benchmarks.

Features and scores come from here; what they are worth comes from metrics/, through the script.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from arcface.alignment import Template, frame_between
from arcface.embed import embed
from arcface.preprocess import protocol
from arcface.recognition_data import PictureSet
from arcface.weights import RecognitionModel


class Embedded(NamedTuple):
    """Features float32 [N, C] of one spectrum's pictures, and whose and what they are."""

    features: np.ndarray
    identities: list[str]
    names: list[str]


def embed_people(model: RecognitionModel, people: PictureSet, batch_size: int = 64) -> dict[str, Embedded]:
    """Spectrum -> features of all pictures of these people. Raises UserError for a picture that cannot be read."""
    found = {}
    for source in people.sources:
        rows = people.rows(source)
        pictures = (source.decode(row) for row in rows)
        features = embed(model, pictures, batch_size, alignment=people.alignment)
        found[source.spectrum] = Embedded(
            features, [source.identities[row] for row in rows], [source.names[row] for row in rows]
        )
    return found


def repeatable(model: RecognitionModel, seed: int, alignment: Template | None) -> dict[str, Any]:
    """What every line of metrics.jsonl says, so that it can be repeated. alignment: of the pictures."""
    return {
        "detector": model.arch,
        "detector_sha256": model.fingerprint,
        "resize": protocol(model.input_size, model.color_order, frame_between(alignment, model.alignment)),
        "seed": seed,
    }
