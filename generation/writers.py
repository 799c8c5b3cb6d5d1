"""The output folder: who may write into it, what is finished in it, and the dataset itself.

    OUT/VIS/{identity}/{sample}.png, OUT/NIR/...   the pairs
    OUT/manifest.jsonl                             a line a judged candidate, by slot and attempt
    OUT/settings.json                              everything the dataset depends on; first file of a run
    OUT/dataset.json                               what every dataset says of itself, its alignment above all
    OUT/report.html, OUT/summary.json              the last files: with summary.json the run is finished
    OUT/.parts/                                    finished blocks and people of a run that is under way

Every file is written whole or not at all, and a person's part is written after the person's pictures, so whatever
moment a run is killed at, what is there is right. A second run with the same settings goes on from the parts.
"""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.errors import UserError
from dnnlib.files import StrPath, atomic_write_bytes, atomic_write_json, make_folder, read_json
from generation.candidates import Embeddings, Pictures
from generation.privacy_diversity import KEPT
from generation.records import Block, Person, Record
from torch_utils.description import DESCRIPTION, describe
from torch_utils.image_tree import encode_png
from torch_utils.spectra import SPECTRA

MADE_BY = "generate_dataset.py"
SETTINGS, MANIFEST, SUMMARY, REPORT, PARTS = "settings.json", "manifest.jsonl", "summary.json", "report.html", ".parts"
FOLDERS = [spectrum.folder for spectrum in SPECTRA.values()]
OURS = (*FOLDERS, SETTINGS, MANIFEST, DESCRIPTION, SUMMARY, REPORT, PARTS)
DECIMALS = 6  # of similarities in the manifest: beyond what float32 embeddings hold


class State(Enum):
    """What an output folder is for the run that wants it."""

    NEW = "new"
    CONTINUE = "continue"
    FINISHED = "finished"


# ----------------------------------------------------------------------------
# Whose folder it is.


def inspect(outdir: StrPath, settings: dict[str, Any], overwrite: bool = False) -> State:
    """Look at the folder and touch nothing. Raises UserError where the run may not write into it."""
    root = Path(outdir)
    where = f"--outdir: {root}"
    if not root.exists():
        above = next(parent for parent in root.absolute().parents if parent.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise UserError(f"{where}: {above} is not a folder that can be written into")
        return State.NEW
    if not root.is_dir():
        raise UserError(f"{where}: is a file; name a folder")
    present = [path.name for path in root.iterdir() if not _is_left_over(path)]
    if not present:
        return State.NEW
    known = read_json(root / SETTINGS, "--outdir") if SETTINGS in present else None
    if not isinstance(known, dict) or known.get("made_by") != settings["made_by"]:
        raise UserError(f"{where}: holds files that {settings['made_by']} did not make; name a new or empty folder")
    if overwrite:
        return State.NEW
    different = sorted(key for key in {*known, *settings} if known.get(key) != settings.get(key))
    if different:
        first = different[0]
        raise UserError(
            f"{where}: holds another run ({', '.join(different)} differ; {first} was {json.dumps(known.get(first))}); "
            "name another folder, or give --overwrite to delete that run"
        )
    return State.FINISHED if SUMMARY in present else State.CONTINUE


def begin(outdir: StrPath, settings: dict[str, Any], state: State) -> None:
    """Make the folder this run's own: a NEW one is emptied of an older run's files and gets its settings.json."""
    root = Path(outdir)
    if state is State.NEW and root.exists():
        for name in OURS[::-1]:  # the parts and the summary first, the settings after them
            if (root / name).is_dir():
                shutil.rmtree(root / name)
            else:
                (root / name).unlink(missing_ok=True)
    if state is State.NEW:
        make_folder(root, "--outdir")
        atomic_write_json(root / SETTINGS, settings)
    for path in [path for path in root.rglob("*") if _is_left_over(path)]:
        path.unlink()


def _is_left_over(path: Path) -> bool:
    """A temporary file of a write that was killed (dnnlib.files)."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


# ----------------------------------------------------------------------------
# Finished work of a run that is under way.


class FolderStore:
    """generation.selection.Store on disk: parts in OUT/.parts, pictures in their final places."""

    def __init__(self, outdir: StrPath) -> None:
        self.root = Path(outdir)
        self.parts = self.root / PARTS
        self.started = time.monotonic()
        clock = self.parts / "seconds.json"
        self.earlier = float(read_json(clock)["seconds"]) if clock.exists() else 0.0

    @property
    def seconds(self) -> float:
        """Seconds of work, those of earlier, interrupted runs included."""
        return self.earlier + time.monotonic() - self.started

    def load_block(self, index: int) -> Block | None:
        arrays = self._load(f"block-{index:06d}")
        if arrays is None:
            return None
        pictures = {name: arrays[f"pictures_{name}"] for name in SPECTRA}
        verdicts = [str(verdict) for verdict in arrays["verdicts"]]
        return Block(_embeddings(arrays), verdicts, arrays["max_sim_real"], arrays["passed"], pictures)

    def save_block(self, index: int, block: Block) -> None:
        self._save(
            f"block-{index:06d}",
            verdicts=np.array(block.verdicts),
            max_sim_real=block.max_sim_real,
            passed=block.passed,
            **{f"embeddings_{name}": rows for name, rows in block.embeddings.items()},
            **{f"pictures_{name}": images for name, images in block.pictures.items()},
        )

    def load_person(self, slot: int) -> Person | None:
        arrays = self._load(f"person-{slot:06d}")
        if arrays is None:
            return None
        values = json.loads(str(arrays["person"]))
        records = [Record(**record) for record in values.pop("records")]
        return Person(**values, records=records, embeddings=_embeddings(arrays))

    def save_person(self, person: Person, pictures: list[Pictures]) -> None:
        for sample, pair in enumerate(pictures):
            for spectrum, path in picture_paths(person.identity, sample).items():
                atomic_write_bytes(self.root / path, encode_png(pair[spectrum].transpose(1, 2, 0)))
        values = {
            "slot": person.slot,
            "identity": person.identity,
            "complete": person.complete,
            "records": [asdict(record) for record in person.records],
        }
        embeddings = {f"embeddings_{name}": rows for name, rows in person.embeddings.items()}
        self._save(f"person-{person.slot:06d}", person=np.array(json.dumps(values)), **embeddings)

    def discard(self) -> None:
        """Delete the parts: the run is finished."""
        shutil.rmtree(self.parts, ignore_errors=True)

    def _load(self, name: str) -> dict[str, np.ndarray] | None:
        path = self.parts / f"{name}.npz"
        if not path.exists():
            return None
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            return dict(arrays)

    def _save(self, name: str, **arrays: np.ndarray) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        atomic_write_bytes(self.parts / f"{name}.npz", buffer.getvalue())
        atomic_write_json(self.parts / "seconds.json", {"seconds": self.seconds})


def _embeddings(arrays: dict[str, np.ndarray]) -> Embeddings:
    return {name: arrays[f"embeddings_{name}"] for name in SPECTRA if f"embeddings_{name}" in arrays}


# ----------------------------------------------------------------------------
# The dataset.


def picture_paths(identity: int, sample: int) -> dict[str, str]:
    """Spectrum -> path relative to the output folder."""
    return {name: f"{spectrum.folder}/{identity}/{sample}.png" for name, spectrum in SPECTRA.items()}


def manifest_line(record: Record) -> dict[str, Any]:
    """A record as it stands in manifest.jsonl: files for a kept pair only, null for what was not compared."""
    line: dict[str, Any] = {key: getattr(record, key) for key in ("identity", "sample", "slot", "seed")}
    if record.verdict == KEPT:
        assert record.identity is not None and record.sample is not None, "a kept pair has its place"
        line |= picture_paths(record.identity, record.sample)
    for key in ("sim_reference", "max_sim_real", "max_sim_other", "max_sim_same"):
        value = getattr(record, key)
        line[key] = None if value is None or not math.isfinite(value) else round(float(value), DECIMALS)
    return {**line, "verdict": record.verdict}


def write_manifest(outdir: StrPath, records: Iterable[Record]) -> None:
    """OUT/manifest.jsonl, atomically."""
    lines = "".join(json.dumps(manifest_line(record)) + "\n" for record in records)
    atomic_write_bytes(Path(outdir) / MANIFEST, lines.encode())


def write_description(outdir: StrPath, settings: dict[str, Any], records: Iterable[Record]) -> None:
    """OUT/dataset.json, atomically; the alignment is that of the generator's pictures, as far as it is known."""
    kept = [record for record in records if record.verdict == KEPT]
    description: dict[str, Any] = {
        **describe(settings["generator"].get("resolution"), len({record.identity for record in kept}), len(kept)),
        "resize": "generated",
        **{key: settings[key] for key in ("alignment", "alignment_points") if key in settings},
    }
    atomic_write_json(Path(outdir) / DESCRIPTION, description)
