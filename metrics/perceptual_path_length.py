"""Perceptual path length (Karras et al. 2019, section 4.1): how much a picture changes, as LPIPS sees it, for a small
step between two latents, in units of the step's square; in the space of styles, at the ends of paths (W, end).

The steps are taken by what draws (metrics.pictures.PATH); pictures of more than 256 pixels are reduced to that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metrics.observers import Detector, Observer
from metrics.pictures import EPSILON, PATH, Pictures, Rows
from metrics.registry import Result, Setting, observer, register
from metrics.rows import Seen


def path_length(lengths: NDArray) -> float:
    """Mean of the points' lengths [N] without the lowest and the highest 1 %.

    The percentiles are rounded outwards to a length that occurs, and stay, as StyleGAN counts: of 101 lengths one falls
    at each end, of 100 none.
    """
    ordered = np.sort(np.asarray(lengths, dtype=np.float64))
    cut = (len(ordered) - 1) // 100
    return float(ordered[cut : len(ordered) - cut].mean())


@observer("path", of="lpips")
def path_observer(detector: Detector | None) -> Observer:
    """Lengths by spectrum: 'vis' [N], a row a point."""
    assert detector is not None, "a path is measured by a detector"

    def observe(pictures: Pictures) -> Rows:
        return {name: detector.look(images)["distances"] / EPSILON**2 for name, images in pictures.items()}

    return Observer("path", detector.name, detector.sha256, detector.resize, observe, PATH)


@register("ppl2_wend", "ppl{N}_wend", needs=("path",), real=False, higher_is_better=False)
def ppl(real: Seen, fake: Seen, setting: Setting) -> list[Result]:
    """By spectrum; ppl2_wend takes 50,000 points."""
    return [Result(spectrum, path_length(lengths)) for spectrum, lengths in fake.rows["path"].items()]
