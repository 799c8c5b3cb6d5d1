"""What options of train_recognition.py can be. Light, so that command lines are read without torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal, NamedTuple

FULL_INPUT_SIZE = 112
SMALLEST_INPUT_SIZE = 32
SPECTRA_CHOICES: dict[str, tuple[str, ...]] = {"vis": ("vis",), "nir": ("nir",), "vis+nir": ("vis", "nir")}

# ----------------------------------------------------------------------------
# What an architecture is: a row of the table below.


@dataclass(frozen=True)
class Architecture:
    """One backbone.

    family   'iresnet', 'mobilefacenet' or 'vit'.
    depths   residual blocks in each of the four stages; all blocks of a ViT.
    widths   channels: iResNet stem and four stages; MobileFaceNet stem, stages 2 to 4, expansions, last map; ViT token.
    narrow   True: strides follow the input size; False: 112x112 and a total stride of 16.
    """

    family: Literal["iresnet", "mobilefacenet", "vit"]
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    narrow: bool = False


_FULL = (64, 64, 128, 256, 512)
ARCHITECTURES: dict[str, Architecture] = {
    "r18": Architecture("iresnet", (2, 2, 2, 2), _FULL),
    "r34": Architecture("iresnet", (3, 4, 6, 3), _FULL),
    "r50": Architecture("iresnet", (3, 4, 14, 3), _FULL),
    "r100": Architecture("iresnet", (3, 13, 30, 3), _FULL),
    "r200": Architecture("iresnet", (6, 26, 60, 6), _FULL),
    "mbf": Architecture("mobilefacenet", (1, 4, 6, 2), (128, 128, 256, 256, 128, 256, 512, 512)),
    "vit_t": Architecture("vit", (12,), (256,)),
    "vit_s": Architecture("vit", (12,), (512,)),
    "vit_b": Architecture("vit", (24,), (512,)),
    "r10n": Architecture("iresnet", (1, 1, 1, 1), (32, 32, 64, 128, 256), narrow=True),
    "r18n": Architecture("iresnet", (2, 2, 2, 2), (32, 32, 64, 128, 256), narrow=True),
    "mbfn": Architecture("mobilefacenet", (1, 2, 3, 1), (32, 32, 64, 64, 64, 128, 256, 256), narrow=True),
}


# ----------------------------------------------------------------------------
# Heads: the loss (arcface.heads).


class Head(NamedTuple):
    """What --scale and --margin are where the user says nothing. None: the head has none."""

    scale: float | None = None
    margin: float | None = None


HEADS = {
    "arcface": Head(64.0, 0.5),
    "cosface": Head(64.0, 0.35),
    "adaface": Head(64.0, 0.4),
    "softmax": Head(),
}

# ----------------------------------------------------------------------------
# Augmentation (arcface.recognition_augment).


def _strength(default: float, help: str) -> float:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class AugmentConfig:
    """How much a training picture is changed. 0 switches a part off. Each is an option of the command line."""

    flip: float = _strength(0.5, "Probability of mirroring.")
    crop: float = _strength(0.0, "Probability of showing a random square part, 50 to 100 % of the area, at full size.")
    shift: float = _strength(0.03, "Standard deviation of the shift, as a share of the side.")
    zoom: float = _strength(0.04, "Standard deviation of the logarithm of the size.")
    turn: float = _strength(4.0, "Standard deviation of the rotation in degrees.")
    brightness: float = _strength(0.08, "Standard deviation of the added light, where black to white is 2.")
    contrast: float = _strength(0.1, "Standard deviation of the logarithm of the contrast.")
    saturation: float = _strength(0.0, "Standard deviation of the logarithm of the saturation.")
    color: float = _strength(0.05, "Standard deviation of the logarithm of each channel's gain; grey stays grey.")
    low_res: float = _strength(0.0, "Probability of losing detail, down to 20 % of the resolution.")
    noise: float = _strength(0.0, "Standard deviation of noise, where black to white is 2.")
    blur: float = _strength(0.0, "Probability of a 3x3 binomial blur.")
    erase: float = _strength(0.0, "Probability of greying a rectangle, 2 to 33 % of the area.")


PARTS = {part.name: part for part in fields(AugmentConfig)}
