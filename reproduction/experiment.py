"""The experiment of the paper as stages: the same for each scale, which says where people come from and how much.

people, instrument   example faces and a recognition model (mini); at the paper's scale the user brings both
identities           features of the real people, and the filter's thresholds
generator            learns from the real people
datasets             `filtered` by the rules of generate_dataset.py, `unfiltered` with none of them in force
quality              pictures that the generator draws, and pictures of held-out people, against the real ones
audits               what either dataset gives away, and how well its people can be told apart
recognition          a model from nothing for each source, spectra and seed, tested on people nobody has seen
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

from dnnlib.errors import UserError
from metrics.detector_files import INCEPTION, read_detector
from metrics.registry import parse_metrics
from reproduction.stages import Arguments, Newest, Stage

SOURCES = ("real", "unfiltered", "filtered")
SYNTHETIC = ("unfiltered", "filtered")
SPECTRA = ("vis", "nir", "vis+nir")
SEEDS = (0, 1, 2)

FEATURES, THRESHOLDS = "features.safetensors", "thresholds.json"
GENERATOR = Newest("generator/*/best-network.safetensors")
QUALITY = {"drawn": "quality-drawn.jsonl", "heldout": "quality-heldout.jsonl"}
# Rules that refuse nobody: `quality`, the only one in force, lets through whatever has a length.
NO_FILTER = ("--rules", "quality", "--min-feature-norm", "0")

# Metrics of either set of pictures, and those that ask the network.
OF_PICTURES = ("fd_arcface", "kd_arcface", "pr_arcface", "alignment", "cross_id")
OF_NETWORK = ("id_consistency", "diversity")
OF_INCEPTION = ("fid", "kid", "is")
DIGEST = "@sha256:"  # between the file of a TorchScript program and what it must have


@dataclass(frozen=True)
class Dataset:
    """Where pairs lie, and the file that tells whether they are still the same ones. pairs: how many."""

    path: str
    mark: str
    pairs: int


@dataclass(frozen=True)
class Experiment:
    """One scale. Tuples of options go to the command lines as they are.

    rec_model: of the identity features, with `rec_options` beside it. heldout: real people of whom nothing is learned;
    None: there are none, and what needs them stays open. benchmarks: paths that recognition is tested on, `marks`: the
    files that tell whether they are the same. training_slots, generation_slots: of the generator's stage, and those of
    the datasets; any other takes one.
    """

    scale: str
    preparation: tuple[Stage, ...]
    real: Dataset
    heldout: Dataset | None
    rec_model: str
    rec_options: tuple[str, ...]
    training: tuple[str, ...]
    noise_mode: str
    ids: int
    samples: int
    generation: tuple[str, ...]
    measuring: tuple[str, ...]
    inception: str | None
    recognition: tuple[str, ...]
    benchmarks: tuple[str, ...]
    marks: tuple[str, ...]
    training_slots: int
    generation_slots: int
    seeds: tuple[int, ...] = SEEDS

    def stages(self) -> list[Stage]:
        """In the order in which they are best begun."""
        return [
            *self.preparation,
            self._features(),
            self._thresholds(),
            self._generator(),  # the longest: the real models are trained beside it
            *self._recognition_of("real"),
            *(self._dataset(source) for source in SYNTHETIC),
            *self._quality(),
            *(self._audit(source) for source in SYNTHETIC),
            *(stage for source in SYNTHETIC for stage in self._recognition_of(source)),
        ]

    # ----------------------------------------------------------------------------
    # What is learned from the real people.

    @property
    def _seen(self) -> tuple[str, ...]:
        return ("--rec-model", self.rec_model, *self.rec_options)

    def _features(self) -> Stage:
        arguments = ("features", "--data", self.real.path, *self._seen, "--out", FEATURES)
        return Stage("features", "dataset_tool.py", arguments, (self.real.mark, self.rec_model), (FEATURES,))

    def _thresholds(self) -> Stage:
        arguments = ("calibrate", "--data", self.real.path, *self._seen, "--real-features", FEATURES)
        written = (THRESHOLDS, THRESHOLDS.replace(".json", ".png"))
        reads = (self.real.mark, self.rec_model, FEATURES)
        return Stage("thresholds", "filter.py", (*arguments, "--out", THRESHOLDS, "--overwrite"), reads, written)

    def _generator(self) -> Stage:
        arguments: Arguments = ("--data", self.real.path, "--features", FEATURES, "--outdir", "generator")
        arguments += (*self.training, *self._seen, "--metrics", "fd_arcface", "--resume", "latest")
        reads = (self.real.mark, self.rec_model, FEATURES)
        return Stage("generator", "train.py", arguments, reads, ("generator",), self.training_slots)

    # ----------------------------------------------------------------------------
    # What is generated, and how good it is.

    def _dataset(self, source: str) -> Stage:
        rules = () if source == "filtered" else NO_FILTER
        arguments: Arguments = ("--gen-model", GENERATOR, *self._seen, "--real-features", FEATURES)
        arguments += ("--thresholds", THRESHOLDS, "--outdir", source, "--ids", str(self.ids))
        arguments += ("--samples-per-id", str(self.samples), "--noise-mode", self.noise_mode, *self.generation, *rules)
        reads = (GENERATOR, self.rec_model, FEATURES, THRESHOLDS)
        return Stage(source, "generate_dataset.py", arguments, reads, (source,), self.generation_slots)

    def _quality(self) -> list[Stage]:
        """Drawn pictures, and those of held-out people where there are some."""
        drawn = ("--gen-model", GENERATOR, "--features", FEATURES, "--noise-mode", self.noise_mode)
        stages = [self._measured("drawn", drawn, (GENERATOR, FEATURES), OF_NETWORK)]
        if self.heldout is not None:
            stages.append(self._measured("heldout", ("--fake", self.heldout.path), (self.heldout.mark,)))
        return stages

    def _measured(self, name: str, what: Arguments, reads: Arguments, more: tuple[str, ...] = ()) -> Stage:
        """As many pictures in each case, for the distance of few pictures is too large."""
        number = self.real.pairs if self.heldout is None else self.heldout.pairs
        families = (*OF_PICTURES, *(OF_INCEPTION if self.inception else ()), *more)
        inception = () if self.inception is None else ("--detector", self.inception)
        arguments: Arguments = (*what, "--data", self.real.path, *self._seen, *inception, *self.measuring)
        source = "--data" if self.heldout is None else "--heldout-data"
        metrics = parse_metrics(",".join(f"{family}{number}" for family in families), source)
        arguments += ("--metrics", ",".join(metric.name for metric in metrics), "--out", QUALITY[name])
        looked = () if self.inception is None else (self.inception.partition(DIGEST)[0],)
        reads = (*reads, self.real.mark, self.rec_model, *looked)
        return Stage(f"quality-{name}", "calc_metrics.py", arguments, reads, (QUALITY[name],))

    def _audit(self, source: str) -> Stage:
        arguments: Arguments = ("audit", "--data", source, *self._seen)
        arguments += ("--real-data", self.real.path, "--real-features", FEATURES)
        reads: Arguments = (f"{source}/manifest.jsonl", self.real.mark, self.rec_model, FEATURES, THRESHOLDS)
        if self.heldout is not None:
            arguments += ("--heldout-data", self.heldout.path)
            reads += (self.heldout.mark,)
        written = f"audit-{source}"
        arguments += ("--thresholds", THRESHOLDS, "--outdir", written, "--overwrite")
        return Stage(f"audit-{source}", "filter.py", arguments, reads, (written,))

    # ----------------------------------------------------------------------------
    # What the datasets are good for.

    def _recognition_of(self, source: str) -> list[Stage]:
        path, mark = (self.real.path, self.real.mark) if source == "real" else (source, f"{source}/manifest.jsonl")
        tests = tuple(word for place in self.benchmarks for word in ("--benchmarks", place))
        stages = []
        for spectra, seed in product(SPECTRA, self.seeds):
            name = recognition_name(source, spectra, seed)
            folder = f"recognition/{name}"
            arguments: Arguments = ("--data", path, "--spectra", spectra, "--outdir", folder, "--seed", str(seed))
            arguments += (*self.recognition, *tests)
            stages.append(Stage(name, "train_recognition.py", arguments, (mark, *self.marks), (folder,)))
        return stages


def recognition_name(source: str, spectra: str, seed: int) -> str:
    return f"{source}-{spectra.replace('+', '-')}-{seed}"


def inception_of(named: str | None) -> str | None:
    """FILE or FILE@sha256:HEX with the file's whole path, for commands that run elsewhere. Raises UserError."""
    if named is None:
        return None
    path, mark, digest = named.partition(DIGEST)
    if (found := read_detector(named, "--inception").holds) != INCEPTION:
        raise UserError(f"--inception: {path}: holds {found}, and an Inception network is needed")
    return f"{Path(path).resolve()}{mark}{digest}"
