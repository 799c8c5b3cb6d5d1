"""The experiment at the paper's scale: a real paired set, a released recognition model, benchmarks, and GPUs.

Tomasevic et al. 2024 train on a paired set of about 100 people at 256x256 (cfg auto, batch 12, mirrored, a snapshot
every 20 ticks, NIR weighed 0.1), see with an iResNet-100 of ArcFace, generate 100 or more people with 32 pairs each,
and test on LFW, CFP-FP, AgeDB-30, CALFW and CPLFW. What a recognition model of the comparison is, is our choice: an
iResNet-50 with ArcFace's head and 40 passes over the generated pictures, all sources and spectra for equal steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from arcface.weights import load_recognition
from dnnlib.errors import UserError
from reproduction.experiment import Dataset, Experiment, inception_of
from torch_utils.description import DESCRIPTION
from torch_utils.image_tree import PairedTree

RESOLUTION = 256
BATCH = 12  # pairs, of the generator
GROUP = 4  # of the minibatch standard deviation; on more GPUs than have so many pairs each it would be a smaller one
EPOCHS, RECOGNITION_BATCH = 40, 128


class Given(NamedTuple):
    """What the user brings. kimg: None is the preset's."""

    data: str
    rec_model: str
    rec_arch: str | None
    heldout: str | None
    benchmarks: tuple[str, ...]
    inception: str | None
    ids: int
    samples: int
    kimg: float | None
    gpus: int


def build(given: Given) -> Experiment:
    """The paper's experiment, its inputs checked. Raises UserError that names the option at fault."""
    pairs = _pairs(given.data, "--data")
    heldout = None if given.heldout is None else _dataset(given.heldout, _pairs(given.heldout, "--heldout-data"))
    if heldout is not None and heldout.path == str(Path(given.data).resolve()):
        raise UserError(f"--heldout-data: {given.heldout}: is --data; people are needed of whom nothing is learned")
    load_recognition(given.rec_model, arch=given.rec_arch)
    benchmarks = tuple(str(Path(place).resolve()) for place in given.benchmarks)
    model = str(Path(given.rec_model).resolve())
    share = max(number for number in range(1, given.gpus + 1) if BATCH % number == 0 and BATCH // number >= GROUP)
    return Experiment(
        scale="paper",
        preparation=(),
        real=_dataset(given.data, pairs),
        heldout=heldout,
        rec_model=model,
        rec_options=() if given.rec_arch is None else ("--rec-arch", given.rec_arch),
        training=(
            *("--cfg", "auto", "--batch", str(BATCH), "--mirror", "true", "--nir-weight", "0.1"),
            *("--snap", "20", "--keep", "2", "--gpus", str(share)),
            *(() if given.kimg is None else ("--kimg", f"{given.kimg:g}")),
        ),
        noise_mode="const",
        ids=given.ids,
        samples=given.samples,
        generation=("--identities", "random", "--gpus", str(given.gpus)),
        measuring=(),
        inception=inception_of(given.inception),
        recognition=(
            *("--backbone", "r50", "--head", "arcface", "--batch", str(RECOGNITION_BATCH)),
            *("--steps", str(steps(given.ids * given.samples))),
        ),
        benchmarks=benchmarks,
        marks=benchmarks,
        training_slots=share,
        generation_slots=given.gpus,
    )


def steps(pictures: int) -> int:
    """Of a recognition run: EPOCHS passes over so many pictures."""
    return max(1, EPOCHS * pictures // RECOGNITION_BATCH)


def _dataset(path: str, pairs: int) -> Dataset:
    place = Path(path).resolve()
    mark = place / DESCRIPTION
    return Dataset(str(place), str(mark if mark.is_file() else place), pairs)


def _pairs(path: str, option: str) -> int:
    """How many there are. Raises UserError where there is no paired set of the paper's size."""
    tree = PairedTree(path, option)
    side = tree.decode("vis", tree.names[0]).shape[0]
    if side != RESOLUTION:
        raise UserError(
            f"{option}: {path}: pictures of {side} pixels; the paper's have {RESOLUTION}, as "
            f"`dataset_tool.py prepare --resolution {RESOLUTION}` makes them"
        )
    return len(tree.names)
