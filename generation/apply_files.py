"""filter.py apply on disk: a dataset's pictures are embedded, and those that the filter keeps become a new dataset.

    OUT/VIS/{identity}/{sample}.png, OUT/NIR/...   hard links to the source's files where that can be, else copies
    OUT/manifest.jsonl                             a line a pair of the source, kept or refused, with its files there
    OUT/settings.json, dataset.json, summary.json  as generate_dataset.py writes them; summary.json is the last
    OUT/.parts/                                    embeddings of a run that is under way

Nothing in the source is written to. A hard link is a second name of one file: whoever writes INTO it, changes both.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from arcface.alignment import template_of
from arcface.detection import Detection, FaceDetector
from arcface.embed import embed_source
from arcface.weights import RecognitionModel
from dnnlib.errors import UserError, option_named
from dnnlib.files import atomic_path, atomic_write_bytes, atomic_write_json, make_folder, sha256_bytes
from dnnlib.progress import progress
from generation import writers
from generation.apply import Detect, Filter, Filtered, Look, in_order
from generation.apply_inputs import ApplyInputs
from generation.candidates import Embeddings, Faces, Pictures
from generation.networks import faces_from
from generation.parts import PARTS
from generation.privacy_diversity import unit_rows
from generation.records import Record
from generation.rules import KEPT, Rule, Rules
from generation.summary import Counts, Scores, blame, every_nth, summarise
from generation.thresholds import Thresholds
from metrics.identity import mated_nonmated
from torch_utils.description import DESCRIPTION, describe
from torch_utils.image_tree import PairedTree
from torch_utils.search import Gallery
from torch_utils.spectra import SPECTRA

MADE_BY = "filter.py apply"
CHUNK = 1024  # pictures that are embedded between two saves
DETECTED_AT_ONCE = 64


@dataclass
class Source:
    """The pairs that are filtered, in the filter's order: people are consecutive."""

    pairs: PairedTree
    names: list[str]  # N
    sizes: list[int]  # of each person

    @classmethod
    def of(cls, pairs: PairedTree) -> Source:
        people = in_order(pairs.identities, pairs.samples)
        return cls(pairs, [pairs.names[index] for person in people for index in person], [len(p) for p in people])

    def listing(self) -> str:
        """SHA-256 over the names and sizes of all files: a source that has changed is another one."""
        trees = list(self.pairs.trees.values())
        lines = [f"{tree.place(name)} {tree.size(name)}" for name in self.names for tree in trees]
        return sha256_bytes("\n".join(lines).encode())


class PairPictures:
    """Some pictures of one spectrum of a tree of pairs, for arcface.embed."""

    def __init__(self, pairs: PairedTree, spectrum: str, names: Sequence[str]) -> None:
        self.tree, self.mode, self.names = pairs.trees[spectrum], SPECTRA[spectrum].mode, list(names)

    def decode(self, index: int) -> np.ndarray:
        return self.tree.decode(self.names[index], self.mode)

    def __len__(self) -> int:
        return len(self.names)


# ----------------------------------------------------------------------------
# What the filter sees.


def embed_pairs(
    model: RecognitionModel, source: Source, parts: Path, spectra: Sequence[str] = ("vis",), workers: int | None = None,
    show: bool = True,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Raw features of all pairs, each [N, D]; finished chunks are kept in `parts` and not made again."""
    alignment = template_of(source.pairs.description())
    found: dict[str, list[np.ndarray]] = {name: [] for name in spectra}
    bar: tqdm[None]
    with progress(desc="embed", total=len(source.names) * len(spectra), unit="picture", show=show) as bar:
        for start in range(0, len(source.names), CHUNK):
            names = source.names[start : start + CHUNK]
            for spectrum in spectra:
                path = parts / f"embeddings-{spectrum}-{start:09d}.npy"
                if not path.exists():
                    pictures = PairPictures(source.pairs, spectrum, names)
                    buffer = io.BytesIO()
                    with option_named("--data", source.pairs.root):
                        np.save(buffer, embed_source(model, pictures, workers=workers, alignment=alignment))
                    atomic_write_bytes(path, buffer.getvalue())
                found[spectrum].append(np.load(path, allow_pickle=False))
                bar.update(len(names))
    return {name: np.concatenate(rows) for name, rows in found.items()}


def detect_in(source: Source, detector: FaceDetector) -> Detect:
    """What the detector sees in the VIS pictures of some rows, a few in memory at a time."""

    def detect(rows: Sequence[int]) -> Faces:
        found: list[Detection] = []
        for start in range(0, len(rows), DETECTED_AT_ONCE):
            part = rows[start : start + DETECTED_AT_ONCE]
            pictures = [source.pairs.decode("vis", source.names[row]).transpose(2, 0, 1) for row in part]
            found += detector.detect(pictures)
        return faces_from(found)

    return detect


def look_at(source: Source) -> Look:
    """The VIS pictures of some rows, which must be of one size."""

    def look(rows: Sequence[int]) -> Pictures:
        pictures = [source.pairs.decode("vis", source.names[row]).transpose(2, 0, 1) for row in rows]
        if len({picture.shape for picture in pictures}) > 1:
            raise UserError(f"--min-sharpness: {source.pairs.root}: its pictures are of several sizes")
        return {"vis": np.stack(pictures)}

    return look


# ----------------------------------------------------------------------------
# What comes out.


def settings_of(source: Source, rules: Rules, inputs: ApplyInputs, min_samples: int) -> dict[str, Any]:
    """settings.json: all that the dataset depends on."""
    root = source.pairs.root
    listing = {"name": root.resolve().name, "pairs": len(source.names), "people": len(source.sizes)}
    return {
        "made_by": MADE_BY,
        "format": 1,
        "source": {**listing, "listing_sha256": source.listing()},
        **inputs.record,
        **rules.as_dict(),
        "min_samples": min_samples,
        "privacy_check": Rule.PRIVATE in rules.active,
        "thresholds": inputs.thresholds.as_dict(),
    }


@dataclass
class Run:
    """One run into `outdir`, which writers.begin has made ours."""

    source: Source
    outdir: Path
    settings: dict[str, Any]
    inputs: ApplyInputs
    rules: Rules
    min_samples: int

    @writers.outdir_named()
    def __call__(self, workers: int | None = None, copy: bool = False, show: bool = True) -> dict[str, Any]:
        """Embed, filter, write; returns the object of summary.json. copy: no hard links. Raises UserError where nobody
        is left."""
        started, source, inputs = time.monotonic(), self.source, self.inputs
        spectra = ("vis", *self.rules.checked)
        raw = embed_pairs(inputs.model, source, self.outdir / PARTS, spectra, workers, show)
        try:
            embeddings = {name: unit_rows(rows) for name, rows in raw.items()}
        except ValueError as error:
            raise UserError(f"--rec-model: {error}: it sees nothing in a picture of {source.pairs.root}") from error
        norms = {name: np.linalg.norm(rows.astype(np.float64), axis=1) for name, rows in raw.items()}
        found = Filter(
            source.sizes,
            embeddings,
            Gallery.of(inputs.real, inputs.model.device),
            inputs.thresholds,
            self.rules,
            self.min_samples,
            norms,
            look_at(source),
            None if inputs.detector is None else detect_in(source, inputs.detector),
        ).run()
        if not found.people:
            counts = Counter(record.verdict for record in found.records)
            raise UserError(f"--data: {source.pairs.root}: nobody is left: {blame(counts, len(found.records))}")
        links = self._write(found, copy, show)
        summary = summary_of(found, embeddings, inputs.thresholds, time.monotonic() - started) | links
        atomic_write_json(self.outdir / writers.SUMMARY, summary)  # the last file: the run is finished
        shutil.rmtree(self.outdir / PARTS, ignore_errors=True)
        return summary

    def _write(self, found: Filtered, copy: bool, show: bool) -> dict[str, int]:
        """The dataset; returns how its pictures came there."""
        source, linked = self.source, 0
        kept = [(row, record) for row, record in enumerate(found.records) if record.verdict == KEPT]
        for row, record in progress(kept, desc="write", unit="pair", show=show):
            for spectrum, path in picture_paths(record, source.names[row]).items():
                linked += _place(source.pairs, spectrum, source.names[row], self.outdir / path, copy)
        _write_manifest(self.outdir, source, found)
        _write_description(self.outdir, source, found, self.settings)
        return {"hard_links": linked, "copies": len(kept) * len(SPECTRA) - linked}


def picture_paths(record: Record, name: str) -> dict[str, str]:
    """Spectrum -> path of a kept pair relative to the output folder; a file keeps its kind."""
    place = f"{record.identity}/{record.sample}{Path(name).suffix}"
    return {spectrum.name: f"{spectrum.folder}/{place}" for spectrum in SPECTRA.values()}


def _place(pairs: PairedTree, spectrum: str, name: str, target: Path, copy: bool) -> bool:
    """Brings one picture to its place, whole or not at all; True where it is a second name of the source's file."""
    tree = pairs.trees[spectrum]
    place = None if tree.is_zip else (tree.path / tree.place(name)).resolve()  # not a link to a link
    if target.exists():
        return place is not None and target.samefile(place)
    if place is not None and not copy:
        make_folder(target.parent, "--outdir")
        try:
            os.link(place, target)
            return True
        except OSError:  # another device, no such links here, too many of them: a copy will do, or say why not
            pass
    atomic_write_bytes(target, tree.read(name))
    return False


def _write_manifest(root: Path, source: Source, found: Filtered) -> None:
    with atomic_path(root / writers.MANIFEST) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        for name, record in zip(source.names, found.records, strict=True):
            line = writers.manifest_line(record, picture_paths(record, name) if record.verdict == KEPT else None)
            line |= {f"source_{spectrum}": tree.place(name) for spectrum, tree in source.pairs.trees.items()}
            line["verdict"] = line.pop("verdict")  # stands last
            file.write(json.dumps(line) + "\n")


def _write_description(root: Path, source: Source, found: Filtered, settings: dict[str, Any]) -> None:
    """dataset.json: what the source's says of the pictures, which are the same, and the new counts."""
    theirs = source.pairs.description()
    resolution = theirs.get("resolution") or source.pairs.decode("vis", source.names[0]).shape[0]
    pairs = sum(record.verdict == KEPT for record in found.records)
    same: dict[str, Any] = {key: theirs[key] for key in ("resize", "alignment", "alignment_points") if key in theirs}
    description: dict[str, Any] = {
        **describe(resolution, len(found.people), pairs),
        **same,
        "source": {"filtered": settings["source"]},
    }
    atomic_write_json(root / DESCRIPTION, description)


# ----------------------------------------------------------------------------
# Figures.


def summary_of(found: Filtered, embeddings: Embeddings, thresholds: Thresholds, seconds: float) -> dict[str, Any]:
    """The object of summary.json, as generation has it."""
    counts = Counts()
    rows = [row for row, record in enumerate(counts.seen(found.records)) if record.verdict == KEPT]
    every = every_nth(len(rows), 1)
    some = [row for row in rows if (found.records[row].identity or 0) % every == 0]
    people = [found.records[row].identity for row in some]
    mated, nonmated = mated_nonmated(embeddings["vis"][some], people)
    scores = Scores(mated, nonmated, counts.real_kept.array(), counts.real_refused.array())
    return summarise(len(found.people), counts, scores, thresholds, seconds)
