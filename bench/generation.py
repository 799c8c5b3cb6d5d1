"""Accepted pairs a second: the real pipeline against a plain loop, and what more known real people cost.

Both sides draw the same candidates with the same small, untrained networks (the demo's sizes) and judge them by the
same rules at the same thresholds; both encode PNGs and write them, and both tell the manifest's figures of a candidate.

The plain loop is what one writes first, and what the original does: one candidate at a time through the generator and
the recognition model, then a Python loop over all known identities, each compared by a function that gives the cosine
of two features, left at the first that is too like; then the same over the person's accepted samples; an accepted pair
is saved by Pillow before the next candidate is drawn. It is not made slower than that: networks are in inference mode
and in our own fast formulation, all is NumPy, and nothing is drawn, embedded or compared twice. `plain, unit` is the
same by somebody who normalises each feature once, so that a comparison is one dot product: the least that a Python loop
can cost. It has figures of its own.

Ours is `generate_dataset.py`'s work without starting it: candidates, rules, encoding, parts on disk, files, manifest.
Neither side's time holds the report page, which costs the same for ten people as for a million.

Real features are random directions, which untrained networks' pictures are unlike, so that how many are known changes
the cost of a candidate and not who is accepted. A round is timed per accepted pair.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from arcface.backbones import build_backbone
from arcface.embed import embed
from arcface.weights import RecognitionModel, fingerprint
from bench import measure
from dnnlib.cli import Command, option
from generation.candidates import CandidateMaker, Embedder, Renderer
from generation.encoding import Encoder
from generation.finished import Finished
from generation.identity_sampling import RandomIdentities
from generation.layouts import FolderLayout
from generation.networks import embedder_of, renderer_of
from generation.parts import Parts
from generation.privacy_diversity import unit_rows
from generation.records import Plan
from generation.rules import KEPT
from generation.selection import Selection
from generation.summary import Counts
from generation.thresholds import Thresholds, from_moments
from generation.writers import write_manifest
from torch_utils.memory import keep_freed_memory
from torch_utils.search import Gallery
from torch_utils.spectra import SPECTRA
from torch_utils.streams import stream
from training.generator import Generator

FEW, MANY = 100, 10_000  # known real identities
RESOLUTION, TRUNCATION, SEED = 32, 0.7, 0

Likeness = Callable[[NDArray[np.float32], NDArray[np.float32]], float]


@dataclass(frozen=True)
class Setting:
    """What both sides work with. real: [R, D] unit rows."""

    generator: Generator
    model: RecognitionModel
    thresholds: Thresholds
    plan: Plan
    real: NDArray[np.float32]

    @property
    def sampler(self) -> RandomIdentities:
        return RandomIdentities(SEED, 4.0, self.generator.c_dim)

    def knowing(self, count: int) -> Setting:
        """The same with so many real identities."""
        return replace(self, real=self.real[:count])


def setting(ids: int, samples: int, resolution: int = RESOLUTION, known: int = MANY) -> Setting:
    """Networks of the demo's sizes, and thresholds at which about half of the later candidates pass."""
    torch.manual_seed(SEED)
    generator = Generator(resolution=resolution, channel_base=1024, channel_max=128, mapping_layers=2).eval()
    backbone = build_backbone("r10n", resolution).eval()
    mark = fingerprint(backbone.state_dict())
    backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = RecognitionModel("r10n", resolution, "RGB", mark, backbone, {})
    plan = Plan(ids=ids, samples_per_id=samples, tries=50 * samples, max_slots=100 * ids)
    real = unit_rows(np.random.default_rng(SEED).standard_normal((known, model.num_features)))
    return Setting(generator, model, thresholds_between(generator, model), plan, real)


def thresholds_between(generator: Generator, model: RecognitionModel, people: int = 32) -> Thresholds:
    """Where these networks' pictures lie: nearly all people apart, half of their later samples alike enough."""
    features = np.repeat(RandomIdentities(SEED, 4.0, generator.c_dim)(range(people)), 2, axis=0)
    latents = [
        stream(SEED, "latent", slot, k).standard_normal(generator.z_dim) for slot in range(people) for k in (0, 1)
    ]
    pictures = renderer_of(generator, TRUNCATION)(np.asarray(latents, dtype=np.float32), features)
    rows = unit_rows(embed(model, torch.from_numpy(pictures["vis"]))).astype(np.float64)  # [2 N, D]
    same = float(np.quantile((rows[::2] * rows[1::2]).sum(1), 0.5))
    others = (rows[::2] @ rows[::2].T)[np.triu_indices(people, 1)]
    unique = float(np.quantile(others, 0.9999))
    return replace(from_moments(0.7, 0.1, model.fingerprint), unique=unique, same=same, repeat=0.999999)


# ----------------------------------------------------------------------------
# The plain loop.


def cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


def dot(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The cosine of features of length one."""
    return float(first @ second)


class PlainLoop:
    """One candidate at a time. likeness: of two features of length one."""

    def __init__(self, given: Setting, folder: Path, likeness: Likeness) -> None:
        self.given, self.folder, self.likeness = given, folder, likeness
        self.renderer: Renderer = renderer_of(given.generator, TRUNCATION)
        self.embedder: Embedder = embedder_of(given.model, 1)
        self.lines: list[dict[str, Any]] = []

    def run(self) -> int:
        """Accepted pairs."""
        plan, slot, references = self.given.plan, 0, list[NDArray[np.float32]]()
        pairs = 0
        while len(references) < plan.ids and slot < plan.max_slots:
            samples = self.person(slot, len(references), references)
            if samples:
                references.append(samples[0])
                pairs += len(samples)
            slot += 1
        return pairs

    def person(
        self, slot: int, identity: int, references: list[NDArray[np.float32]]
    ) -> list[NDArray[np.float32]] | None:
        """Embeddings of a person's samples, whose pictures are written; None where the person is not completed."""
        plan, limits = self.given.plan, self.given.thresholds
        feature = self.given.sampler([slot])
        accepted: list[NDArray[np.float32]] = []
        for attempt in range(plan.tries):
            latent = stream(SEED, "latent", slot, attempt).standard_normal(self.given.generator.z_dim)
            pictures = self.renderer(latent.astype(np.float32)[None], feature)
            embedding = self.embedder(pictures["vis"])[0]
            embedding = embedding / np.linalg.norm(embedding)
            verdict = "kept"
            if self.is_like_any(embedding, self.given.real, limits.unique):
                verdict = "private"
            elif self.is_like_any(embedding, references, limits.unique):
                verdict = "unique"
            elif accepted and self.likeness(embedding, accepted[0]) < limits.same:
                verdict = "same"
            elif self.is_like_any(embedding, accepted, limits.repeat):
                verdict = "repeat"
            self.lines.append({"identity": identity, "slot": slot, "seed": attempt, "verdict": verdict})
            if verdict == "kept":
                self.save(pictures, identity, len(accepted))
                accepted.append(embedding)
            elif attempt == 0:
                return None
            if len(accepted) == plan.samples_per_id:
                return accepted
        return None

    def save(self, pictures: dict[str, NDArray[np.uint8]], identity: int, sample: int) -> None:
        for name, spectrum in SPECTRA.items():
            path = self.folder / spectrum.folder / str(identity) / f"{sample}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = pictures[name][0].transpose(1, 2, 0)
            Image.fromarray(pixels if spectrum.channels == 3 else pixels[..., 0]).save(path)

    def is_like_any(self, embedding: NDArray[np.float32], known: Iterable[NDArray[np.float32]], highest: float) -> bool:
        """Whether any of the known is more like than `highest`: a loop over all of them."""
        return any(self.likeness(embedding, other) > highest for other in known)


# ----------------------------------------------------------------------------
# Ours.


def ours(given: Setting, folder: Path) -> int:
    """Accepted pairs."""
    plan, model = given.plan, given.model
    maker = CandidateMaker(
        renderer_of(given.generator, TRUNCATION),
        embedder_of(model, plan.round_size),
        None,
        seed=SEED,
        chunk=plan.round_size,
        latent_size=given.generator.z_dim,
    )
    layout, parts, counts = FolderLayout(folder), Parts(folder), Counts()
    selection = Selection(
        plan, given.thresholds, Gallery.of(given.real), given.sampler, maker, Encoder(), parts, layout
    )
    outcome = selection.run()
    layout.finish(list(outcome.people))
    write_manifest(folder, counts.seen(Finished(outcome, parts, plan).records()), layout)
    return counts.verdicts[KEPT]


def plain(given: Setting, folder: Path, likeness: Likeness = cosine) -> int:
    """Accepted pairs."""
    loop = PlainLoop(given, folder, likeness)
    pairs = loop.run()
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in loop.lines))
    return pairs


@dataclass
class Side:
    """One contestant: does its work in a new folder, and remembers how many pairs came of it."""

    make: Callable[[Setting, Path], int]
    given: Setting
    pairs: int = 0

    def __call__(self) -> None:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            self.pairs = self.make(self.given, Path(folder))


CONTESTANTS: dict[str, Callable[[Setting, Path], int]] = {
    "ours": ours,
    "plain": plain,
    "plain, unit": partial(plain, likeness=dot),
}


def figures(each: dict[tuple[str, int], float]) -> dict[str, Any]:
    """Ratios from the seconds of an accepted pair, by contestant and number of known people."""
    rate = {f"{name}, {known} known": 1 / seconds for (name, known), seconds in each.items()}
    return {
        "accepted_pairs_ratio": each["plain", MANY] / each["ours", MANY],
        f"accepted_pairs_ratio_{FEW}_known": each["plain", FEW] / each["ours", FEW],
        "accepted_pairs_ratio_unit": each["plain, unit", MANY] / each["ours", MANY],
        f"cost_growth_{FEW}_to_{MANY}": each["ours", MANY] / each["ours", FEW],
        "plain_cost_growth": each["plain", MANY] / each["plain", FEW],
        "plain_cost_growth_unit": each["plain, unit", MANY] / each["plain, unit", FEW],
        "pairs_per_second": rate,
    }


def seconds_each(given: Setting, rounds: int) -> dict[tuple[str, int], float]:
    """Seconds of an accepted pair: contestants take turns, medians of rounds."""
    sides = {
        (name, known): Side(make, given.knowing(known)) for name, make in CONTESTANTS.items() for known in (FEW, MANY)
    }
    clocks = {f"{name}, {known}": measure.timed(side) for (name, known), side in sides.items()}
    times = measure.take_turns(clocks, rounds)
    return {
        (name, known): measure.median(times[f"{name}, {known}"]) / side.pairs for (name, known), side in sides.items()
    }


@click.command(cls=Command)
@option("--ids", default=8, help="Identities of each contestant.")
@option("--samples", default=32, help="Pairs of each identity.")
@option("--rounds", default=3, help="Rounds to take the median of.")
@option("--threads", default=2, help="Threads of torch.")
@option("--json", "json_path", metavar="FILE", help="Where to write the figures.")
def main(ids: int, samples: int, rounds: int, threads: int, json_path: str | None) -> None:
    """Measure generation against a plain loop, and what 10,000 known people cost beside 100."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    given = setting(ids, samples)
    sides = {
        (name, known): Side(make, given.knowing(known)) for name, make in CONTESTANTS.items() for known in (FEW, MANY)
    }
    clocks = {f"{name}, {known}": measure.timed(side) for (name, known), side in sides.items()}
    times = measure.take_turns(clocks, rounds)
    each = {
        (name, known): measure.median(times[f"{name}, {known}"]) / side.pairs for (name, known), side in sides.items()
    }
    found = figures(each)
    rows = [(name, f"{rate:.1f} accepted pairs a second") for name, rate in found["pairs_per_second"].items()]
    rows += [
        ("ratio", f"{found['accepted_pairs_ratio']:.1f} with {MANY:,} known real people, "
                  f"{found[f'accepted_pairs_ratio_{FEW}_known']:.1f} with {FEW}"),
        ("ratio, unit", f"{found['accepted_pairs_ratio_unit']:.1f} with {MANY:,}, where the loop normalises once"),
        ("growth", f"{found[f'cost_growth_{FEW}_to_{MANY}']:.2f} from {FEW} to {MANY:,} known real people; plain "
                   f"{found['plain_cost_growth']:.2f}, unit {found['plain_cost_growth_unit']:.2f}"),
    ]  # fmt: skip
    results = {**found, "known": MANY, "pairs": ids * samples, "resolution": RESOLUTION, "machine": measure.machine()}
    measure.report(f"generation at {RESOLUTION}x{RESOLUTION}, {threads} threads", rows, results, json_path)


if __name__ == "__main__":
    main()
