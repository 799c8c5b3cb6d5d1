"""What metrics look with and at: a recognition model and image networks as detectors, a generator as a side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch

from arcface.alignment import Template, frame_between
from arcface.embed import embed
from arcface.preprocess import protocol
from arcface.weights import RecognitionModel, load_recognition
from dnnlib.errors import UserError
from metrics.choices import OWN
from metrics.detector_files import INCEPTION, AtHand
from metrics.observers import Detector, Observer
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
    """What metrics look with, as the user named it.

    alignment: of the pictures. batch: pictures at a time. detectors: files with image networks (see
    metrics.detector_files). resize: the protocol by which those see pictures.
    """

    rec_model: str | None
    rec_arch: str | None
    alignment: Template | None
    batch: int
    detectors: tuple[str, ...] = ()
    resize: str = OWN

    def has_inception(self, cached: bool = True) -> bool:
        """Whether a file of the user's, or one in the cache, holds one."""
        at_hand = AtHand(self.detectors)
        return INCEPTION in at_hand.files or (cached and not at_hand.lacks(INCEPTION))

    def open(self, metrics: Sequence[Metric], device: torch.device | str = "cpu") -> dict[str, Observer]:
        """The observers of metrics, by kind. Raises UserError for a metric whose detector is missing or broken, and for
        a file that is, whether it is needed or not."""
        detectors: dict[str, Detector] = {}
        at_hand = AtHand(self.detectors)
        for kind, metric in detectors_of(metrics).items():
            if kind != ARCFACE:
                detectors[kind] = at_hand.detector(kind, metric, self.resize, device)
                continue
            if self.rec_model is None:
                raise UserError(f"--metrics: {metric} needs --rec-model, the recognition model of the features")
            model = load_recognition(self.rec_model, device, self.rec_arch)
            detectors[kind] = recognition_detector(model, self.alignment, self.batch)
        return build_observers(metrics, detectors)
