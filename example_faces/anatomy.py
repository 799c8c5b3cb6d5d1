"""A person of the example dataset: a vector of anatomical and spectral parameters from wide independent ranges.

Lengths are in decimetres (a face is about 1.4 wide) on the head's base surface, whose origin lies inside the head
between the ears, slightly under the eye line: x to the viewer's right, y up, z towards the camera. Ranges follow the
spread of adult anthropometry (Farkas, "Anthropometry of the Head and Face", 1994), somewhat widened and without its
correlations, so that small networks can tell people apart. The spectral parameters feed example_faces/spectra.py.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from torch_utils.streams import stream

# ----------------------------------------------------------------------------
# The range of a parameter stands beside its name.


def between(low: float, high: float, what: str, none: float = 0.0, log: bool = False) -> Any:
    """Declares a parameter drawn uniformly from [low, high] (from the logarithms if `log`).

    With probability `none` it is zero instead: a person without a beard, without freckles, ...
    """
    return field(metadata={"low": low, "high": high, "what": what, "none": none, "log": log})


@dataclass(frozen=True)
class Person:
    """The parameters of one person; `map_seed` keys the personal map of moles, freckles and mottling."""

    map_seed: int
    # Head and jaw.
    head_width: float = between(0.66, 0.79, "half breadth of the head at the cheekbones")
    head_height: float = between(1.10, 1.28, "origin to the crown")
    face_length: float = between(0.97, 1.21, "origin to under the chin")
    face_depth: float = between(0.85, 0.95, "origin to the plane of the face")
    forehead_width: float = between(0.90, 1.05, "breadth of the forehead, relative to the cheekbones'")
    jaw_width: float = between(0.66, 0.94, "breadth of the jaw, relative to the cheekbones'")
    jaw_squareness: float = between(2.1, 3.3, "exponent of the outline of the lower face: 2 an ellipse, higher squarer")
    chin_width: float = between(0.10, 0.24, "half breadth of the chin's prominence")
    chin_projection: float = between(0.05, 0.17, "how far the chin stands out")
    cheekbones: float = between(0.00, 0.08, "how far the cheekbones stand out")
    cheek_fullness: float = between(-0.07, 0.06, "hollow to full cheeks")
    brow_ridge: float = between(0.00, 0.06, "how far the brow ridge stands out")
    # Eyes.
    eye_distance: float = between(0.275, 0.355, "half the distance between the pupils")
    eye_width: float = between(0.135, 0.180, "half width of the lid opening")
    eye_opening: float = between(0.036, 0.066, "height of the upper lid's arch over the corners, awake and at ease")
    eye_tilt: float = between(-0.08, 0.20, "outer corner above the inner one, radians")
    eye_height: float = between(0.09, 0.20, "height of the eyes over the origin")
    eye_depth: float = between(0.03, 0.11, "depth of the sockets")
    lid_fold: float = between(0.0, 1.0, "from a lid without a crease to a deep crease")
    # Brows.
    brow_height: float = between(0.13, 0.23, "brow over pupil")
    brow_thickness: float = between(0.026, 0.070, "half thickness of the brow")
    brow_length: float = between(0.15, 0.25, "half length of the brow")
    brow_arch: float = between(0.00, 0.07, "height of the arch")
    brow_tilt: float = between(-0.12, 0.22, "outer end above the inner one, radians")
    brow_density: float = between(0.55, 1.0, "share of skin that the brow hides")
    # Nose.
    nose_width: float = between(0.12, 0.21, "half breadth over the wings")
    nose_length: float = between(0.34, 0.45, "eye line to nose base, share of the way to the chin")
    nose_bridge: float = between(0.04, 0.15, "height of the bridge between the eyes and halfway down")
    nose_bridge_width: float = between(0.045, 0.085, "half breadth of the bridge")
    nose_tip: float = between(0.15, 0.27, "projection of the tip")
    # Mouth.
    mouth_width: float = between(0.19, 0.31, "half width at rest")
    mouth_height: float = between(0.31, 0.46, "nose base to the line of the lips, share of the way to the chin")
    upper_lip: float = between(0.028, 0.075, "height of the red of the upper lip")
    lower_lip: float = between(0.042, 0.100, "height of the red of the lower lip")
    lip_blood: float = between(0.05, 0.17, "blood fraction of the lips")
    # Ears.
    ear_size: float = between(0.17, 0.26, "half height of the ear")
    ear_protrusion: float = between(0.10, 0.70, "angle between ear and head, radians")
    # Pigments.
    melanin: float = between(0.012, 0.30, "volume fraction of melanosomes in the epidermis", log=True)
    haemoglobin: float = between(0.009, 0.042, "volume fraction of blood in the dermis", log=True)
    iris_melanin: float = between(0.0, 1.0, "from blue over green to dark brown")
    hair_eumelanin: float = between(0.02, 1.0, "black-brown pigment of hair, brows and beard")
    hair_pheomelanin: float = between(0.0, 0.7, "yellow-red pigment of hair, brows and beard")
    # Hair.
    hairline_height: float = between(0.62, 0.86, "height of the hairline over the origin")
    hairline_recession: float = between(0.0, 0.26, "how far the hairline recedes beside the middle")
    hair_volume: float = between(0.03, 0.24, "thickness of the hair on the head")
    hair_length: float = between(0.0, 1.0, "from shorn over ear-long (0.5) to shoulder-long")
    hair_fringe: float = between(0.25, 1.0, "how far hair falls over the forehead", none=0.6)
    hair_parting: float = between(-1.0, 1.0, "side of the parting")
    hair_curl: float = between(0.0, 1.0, "from straight to curly")
    beard: float = between(0.25, 1.0, "density of the beard on chin and cheeks", none=0.66)
    moustache: float = between(0.25, 1.0, "density of the moustache", none=0.62)
    # Skin.
    freckles: float = between(0.2, 1.0, "density of freckles", none=0.6)
    moles: float = between(0.0, 6.0, "number of moles on the face")
    age: float = between(0.0, 1.0, "depth of folds and wrinkles")

    def vector(self) -> np.ndarray:
        """The parameters in the order of PARAMETER_NAMES, float64 [len(PARAMETER_NAMES)]."""
        return np.array([getattr(self, name) for name in PARAMETER_NAMES], dtype=np.float64)

    def replace(self, **changes: Any) -> Person:
        """The same person with some parameters changed."""
        return dataclasses.replace(self, **changes)


PARAMETERS = {f.name: f.metadata for f in dataclasses.fields(Person) if f.metadata}
PARAMETER_NAMES = tuple(PARAMETERS)

# ----------------------------------------------------------------------------
# Drawing a person.


def sample_person(seed: int, identity: int) -> Person:
    """Draws person number `identity` of the population `seed`."""
    rng = stream(seed, "example_faces.person", identity)
    values: dict[str, float] = {}
    for name, spec in PARAMETERS.items():
        draw, absent = float(rng.random()), float(rng.random()) < spec["none"]  # always two draws a parameter
        if spec["log"]:
            value = spec["low"] * (spec["high"] / spec["low"]) ** draw
        else:
            value = spec["low"] + (spec["high"] - spec["low"]) * draw
        values[name] = 0.0 if absent else value
    return Person(int(rng.integers(2**31)), **values)
