"""This project's networks as metrics see them: a recognition model as a detector, a generator as a side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch

from arcface.alignment import Template, frame_between
from arcface.embed import embed
from arcface.preprocess import protocol
from arcface.weights import RecognitionModel, load_recognition
from dnnlib.errors import UserError
from metrics.detectors import Detector, Observer
from metrics.pictures import EPSILON, GROUP, GROUPS, PAIRS, PATH, Pictures, Rows, Side, Stream
from metrics.registry import Metric, build_observers, detectors_of
from torch_utils import distributed
from torch_utils.spectra import SPECTRA
from training.draw import Drawings

ARCFACE = "arcface"


def recognition_detector(model: RecognitionModel, alignment: Template | None, batch: int = 64) -> Detector:
    """Features of a recognition model. alignment: of the pictures that it shall look at."""
    resize = protocol(model.input_size, model.color_order, frame_between(alignment, model.alignment))

    def look(images: torch.Tensor) -> Rows:
        return {"features": embed(model, images, batch_size=batch, alignment=alignment)}

    return Detector(ARCFACE, model.arch, model.fingerprint, resize, look)


def network_side(drawings: Drawings, spectra: Sequence[str] = tuple(SPECTRA)) -> Side:
    """What a generator draws, of these spectra."""
    world, rank = distributed.world_size(), distributed.rank()

    def own(number: int) -> range:
        return range(rank, number, world)

    def seen(drawn: Iterable[Pictures]) -> Iterator[Pictures]:
        return ({name: pictures[name] for name in spectra} for pictures in drawn)

    return Side(
        spectra=tuple(spectra),
        number=None,
        streams={
            PAIRS: Stream(lambda number: seen(drawings.pairs(own(number)))),
            PATH: Stream(lambda number: seen(drawings.path(own(number), EPSILON))),
            GROUPS: Stream(lambda number: seen(drawings.groups(own(_groups(number)), GROUP)), _groups),
        },
        labels=lambda number: {"conditions": drawings.conditions(range(number))},
    )


def _groups(number: int) -> int:
    return max(1, number // GROUP)


class Instruments(NamedTuple):
    """What metrics look with, as the user named it. alignment: of the pictures. batch: pictures at a time."""

    rec_model: str | None
    rec_arch: str | None
    alignment: Template | None
    batch: int

    def open(self, metrics: Sequence[Metric], device: torch.device | str = "cpu") -> dict[str, Observer]:
        """The observers of metrics, by kind. Raises UserError for a metric whose detector is missing or broken."""
        detectors: dict[str, Detector] = {}
        for kind, metric in detectors_of(metrics).items():
            if kind != ARCFACE:
                raise UserError(f"--metrics: {metric} needs --detector, a file with an {kind} network")
            if self.rec_model is None:
                raise UserError(f"--metrics: {metric} needs --rec-model, the recognition model of the features")
            model = load_recognition(self.rec_model, device, self.rec_arch)
            detectors[kind] = recognition_detector(model, self.alignment, self.batch)
        return build_observers(metrics, detectors)
