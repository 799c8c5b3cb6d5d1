"""The experiment in miniature: example faces at 32x32, everything made here, within 45 minutes on two cores.

People of the instrument (the recognition model that sees for the filter), people whom the generator and the `real`
recognition models learn from, and people whom all are tested on: nobody is in two of these sets.
"""

from __future__ import annotations

from typing import NamedTuple

from reproduction.experiment import Dataset, Experiment
from reproduction.stages import Arguments, Stage

RESOLUTION = "32"
CORES = 2


class People(NamedTuple):
    """One rendered set. first: the number of its first person."""

    identities: int
    samples: int
    first: int

    @property
    def pairs(self) -> int:
        return self.identities * self.samples


class Sizes(NamedTuple):
    """How much of everything."""

    instrument: People = People(240, 10, 1000)
    real: People = People(100, 10, 0)
    heldout: People = People(100, 10, 2000)
    test_pairs: int = 2000
    instrument_epochs: int = 10
    kimg: float = 16
    recognition_steps: int = 120


SIZES = Sizes()


def build(sizes: Sizes = SIZES, benchmarks: tuple[str, ...] = (), inception: str | None = None) -> Experiment:
    """The miniature's experiment. benchmarks: further ones than the held-out people's."""
    model = "instrument/recognition.safetensors"
    people = {"instrument": sizes.instrument, "real": sizes.real, "heldout": sizes.heldout}
    lists = {"heldout": ("--pairs", str(sizes.test_pairs))}
    rendered = [_rendered(name, own, lists.get(name, ())) for name, own in people.items()]
    learned: Arguments = ("--data", "people/instrument", "--outdir", "instrument", "--scale", "16")
    learned += ("--epochs", str(sizes.instrument_epochs), "--benchmarks", "people/heldout")
    reads = (_mark("instrument"), _mark("heldout"))
    return Experiment(
        scale="mini",
        preparation=(*rendered, Stage("instrument", "train_recognition.py", learned, reads, ("instrument",))),
        real=Dataset("people/real", _mark("real"), sizes.real.pairs),
        heldout=Dataset("people/heldout", _mark("heldout"), sizes.heldout.pairs),
        rec_model=model,
        rec_options=(),
        # A few minutes must do: narrower networks, a faster learning rate and a firmer R1 than the preset's.
        training=(
            *("--cfg", "tiny32", "--kimg", f"{sizes.kimg:g}", "--tick", "1", "--snap", "4", "--keep", "1"),
            *("--fmaps", "0.03125", "--lr", "0.007", "--gamma", "0.3"),
        ),
        noise_mode="none",
        ids=sizes.real.identities,
        samples=sizes.real.samples,
        # Truncated to 0.7, a network that has seen so little draws too few people who are unlike: 49 of 100 were found.
        generation=("--identities", "real-like", "--truncation", "1"),
        measuring=("--workers", "0"),
        inception=inception,
        recognition=("--scale", "16", "--steps", str(sizes.recognition_steps)),
        benchmarks=("people/heldout", *benchmarks),
        marks=(_mark("heldout"), *benchmarks),
        training_slots=1,  # networks this small learn no faster on two threads; the other core has other stages
        generation_slots=1,
    )


def _mark(name: str) -> str:
    return f"people/{name}/dataset.json"


def _rendered(name: str, people: People, more: tuple[str, ...]) -> Stage:
    arguments: Arguments = ("example", "--dest", f"people/{name}", "--resolution", RESOLUTION, "--workers", "1")
    arguments += ("--identities", str(people.identities), "--samples", str(people.samples))
    arguments += ("--first-identity", str(people.first), *more)
    return Stage(f"people-{name}", "dataset_tool.py", arguments, (), (f"people/{name}",))
