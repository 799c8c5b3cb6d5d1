"""What recognition training is tested on: people who were kept out, within and across spectra, and benchmarks.

Features and scores come from here; what they are worth comes from metrics/, through the script.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from arcface.alignment import Template, frame_between
from arcface.embed import embed_source
from arcface.preprocess import protocol
from arcface.recognition_data import PictureSet
from arcface.weights import RecognitionModel
from torch_utils.picture_source import PictureSource


class Embedded(NamedTuple):
    """Features float32 [N, C] of one spectrum's pictures, and whose and what they are."""

    features: np.ndarray
    identities: list[str]
    names: list[str]


class _Rows:
    """Some pictures of a source, as Pictures."""

    def __init__(self, source: PictureSource, rows: list[int]) -> None:
        self.source, self.rows = source, rows
        self.names = [source.names[row] for row in rows]

    def decode(self, index: int) -> np.ndarray:
        return self.source.decode(self.rows[index])

    def __len__(self) -> int:
        return len(self.rows)


def embed_people(
    model: RecognitionModel, people: PictureSet, batch_size: int = 64, workers: int | None = None
) -> dict[str, Embedded]:
    """Spectrum -> features of all pictures of these people, read by `workers` processes (`embed_source`).

    Raises UserError for a picture that cannot be read.
    """
    found = {}
    for source in people.sources:
        pictures = _Rows(source, people.rows(source))
        features = embed_source(model, pictures, batch_size, workers, alignment=people.alignment)
        identities = [source.identities[row] for row in pictures.rows]
        found[source.spectrum] = Embedded(features, identities, pictures.names)
    return found


def repeatable(model: RecognitionModel, seed: int, alignment: Template | None) -> dict[str, Any]:
    """What every line of metrics.jsonl says, so that it can be repeated. alignment: of the pictures."""
    return {
        "detector": model.arch,
        "detector_sha256": model.fingerprint,
        "resize": protocol(model.input_size, model.color_order, frame_between(alignment, model.alignment)),
        "seed": seed,
    }
