"""Are the VIS and the NIR of a pair the same face, pixel by pixel? The paper draws both from one latent and takes it
for granted; this measures it, for drawn pairs, for real ones, and for pairs that are none: VIS of one person, NIR of
another.
"""

from __future__ import annotations

import torch

from metrics.observers import Detector, Observer
from metrics.people import people_of, strangers_of
from metrics.pictures import Pictures, Rows
from metrics.registration import displacement, gradient_correlation, grey, mutual_information
from metrics.registry import BOTH, Result, Setting, observer, register
from metrics.rows import Seen
from torch_utils.spectra import SPECTRA

SHUFFLED = 256  # pairs whose pictures are kept, to pair them anew
AT_ONCE = 32  # pictures that are compared at a time, so that what is computed stays in the processor's cache
FIGURES = ("error", "nmi", "gradient")
PARTS = tuple(f"{figure}{of}" for of in ("", "_real", "_shuffled") for figure in FIGURES)


def compared(first: torch.Tensor, second: torch.Tensor) -> Rows:
    """Of grey pictures float32 [N, H, W]: by figure, float64 [N] each."""
    found = [
        (displacement(ours, theirs).norm(dim=1), mutual_information(ours, theirs), gradient_correlation(ours, theirs))
        for ours, theirs in zip(first.split(AT_ONCE), second.split(AT_ONCE), strict=True)
    ]
    columns = [torch.cat([values.double() for values in column]) for column in zip(*found, strict=True)]
    return {figure: values.cpu().numpy() for figure, values in zip(FIGURES, columns, strict=True)}


@observer("alignment")
def pairs(detector: Detector | None) -> Observer:
    """How well the two pictures of each pair lie on each other."""

    def observe(pictures: Pictures) -> Rows:
        return compared(*(grey(pictures[spectrum]) for spectrum in SPECTRA))

    return Observer("alignment", "gradients", "", "", observe)


@observer("first-pairs")
def first_pairs(detector: Detector | None) -> Observer:
    """The pictures themselves, grey, of the first pairs: uint8 [N, H, W]."""

    def observe(pictures: Pictures) -> Rows:
        return {name: grey(images).round().byte().cpu().numpy() for name, images in pictures.items()}

    return Observer("first-pairs", "", "", "", observe, most=SHUFFLED)


@register("alignment{N}", needs=("alignment", "first-pairs"), both=True, higher_is_better=False, parts=PARTS, least=1)
def alignment(real: Seen, fake: Seen, setting: Setting) -> list[Result]:
    """error: mean length of the shift between the two pictures, pixels. nmi: normalised mutual information of their
    grey values. gradient: correlation of their edges. See metrics/registration.py."""
    kinds = {"": fake.rows["alignment"], "_real": real.rows["alignment"]}
    if strangers := shuffled(fake, setting.device):
        kinds["_shuffled"] = strangers
    return [
        Result(BOTH, float(rows[figure].mean()), figure + of, float(rows[figure].std()))
        for of, rows in kinds.items()
        for figure in FIGURES
    ]


def shuffled(seen: Seen, device: torch.device) -> Rows:
    """The same figures of VIS pictures with the NIR of other people; nothing where all are of one."""
    kept = seen.rows["first-pairs"]
    vis, nir = (torch.from_numpy(kept[spectrum]).to(device).float() for spectrum in SPECTRA)
    others = strangers_of(people_of(seen.labels, len(vis)))
    return compared(vis, nir[torch.from_numpy(others).to(device)]) if len(others) else {}
