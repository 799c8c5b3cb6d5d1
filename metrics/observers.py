"""What looks at the pictures: functions, with what a result must say about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from metrics.pictures import PAIRS, Pictures, Rows


class Detector(NamedTuple):
    """A network that looks at pictures of one spectrum.

    kind: what metrics ask for ('inception', 'vgg16', 'lpips', 'arcface'). name: its architecture. sha256: of its
    weights, or the fingerprint that stands for it. resize: the protocol by which pictures are brought to its size.
    look: uint8 [N, C, H, W], C 1 or 3 -> rows by name, of which 'features' [N, D] are what distances are measured
    between; 'lpips' takes pictures two by two, float too, and gives their 'distances' [N / 2].
    """

    kind: str
    name: str
    sha256: str
    resize: str
    look: Callable[[torch.Tensor], Rows]


class Observer(NamedTuple):
    """What turns a batch of a stream into rows; the other fields as a Detector has them ('': it has no weights).

    most: so many items, the first, are looked at, for rows that are large; None: all.
    """

    kind: str
    name: str
    sha256: str
    resize: str
    observe: Callable[[Pictures], Rows]
    stream: str = PAIRS
    most: int | None = None


def observer_of(detector: Detector) -> Observer:
    """A detector that looks at each spectrum: rows such as 'vis/features'."""

    def observe(pictures: Pictures) -> Rows:
        return {
            f"{spectrum}/{name}": rows
            for spectrum, images in pictures.items()
            for name, rows in detector.look(images).items()
        }

    return Observer(detector.kind, detector.name, detector.sha256, detector.resize, observe)
