"""filter.py audit on disk: datasets are opened and looked at; findings become audit.json, audit.csv, audit.html, and a
section of the dataset's datasheet.md where there is one.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arcface.alignment import template_of
from arcface.embed import default_workers, embed_source
from arcface.weights import RecognitionModel
from dnnlib.errors import UserError, option_named
from dnnlib.files import atomic_write_bytes, atomic_write_json
from generation import writers
from generation.audit import DUPLICATE, Findings, Nearest, Seen, diversity, rows_of_people
from generation.datasheet import AUDIT_BEGIN, AUDIT_END, DATASHEET
from generation.privacy_diversity import unit_rows
from torch_utils.description import read_description
from torch_utils.feature_file import FeatureSet
from torch_utils.picture_source import StoredPictures, open_spectra
from torch_utils.spectra import SPECTRA
from torch_utils.thumbnails import thumbnails

JSON, TABLE, PAGE = "audit.json", "audit.csv", "audit.html"
DECIMALS = 6


@dataclass
class Dataset:
    """One of the datasets of an audit. pictures: those of `spectrum`, and of others where they lie beside them."""

    path: Path
    option: str
    spectrum: str
    pictures: dict[str, StoredPictures]

    @classmethod
    def open(cls, path: str, option: str, spectrum: str) -> Dataset:
        """Raises UserError, starting with `option`, where there are no pictures."""
        return cls(Path(path), option, spectrum, open_spectra(path, spectrum, option))

    @property
    def main(self) -> StoredPictures:
        return self.pictures[self.spectrum]

    def record(self) -> dict[str, Any]:
        """What the findings say of it."""
        return {
            "path": str(self.path.resolve()),
            "pictures": len(self.main),
            "people": len(set(self.main.identities)),
            "content_digest": read_description(self.path, self.option).get("content_digest"),
        }

    def look(self, model: RecognitionModel, workers: int | None, rows: np.ndarray | None = None) -> Seen:
        """Embed and shrink all pictures. rows: their features (`rows_of`), so that nothing is embedded."""
        main = self.main
        if rows is None:
            alignment = template_of(read_description(self.path, self.option))
            with option_named(self.option, self.path):
                rows = embed_source(model, main, workers=workers, show_progress=True, alignment=alignment)
        try:
            unit = unit_rows(rows)
        except ValueError as error:
            raise UserError(f"--rec-model: {error}: it sees nothing in a picture of {self.path}") from error
        with option_named(self.option, self.path):
            small = thumbnails(main, default_workers() if workers is None else workers, show=True)
        return Seen(list(main.names), list(main.identities), unit, small)

    def rows_of(self, features: FeatureSet) -> np.ndarray:
        """The features of all pictures, in order. Raises UserError where one has none."""
        places = {name: row for row, name in enumerate(features.names)}
        missing = [name for name in self.main.names if name not in places]
        if missing or features.spectrum != self.spectrum:
            what = f"{missing[0]} has none ({len(missing)} such)" if missing else f"of {features.spectrum}"
            raise UserError(f"--real-features: {what}; a feature for every picture in {self.path} is needed, mode all")
        return features.features[[places[name] for name in self.main.names]]


# ----------------------------------------------------------------------------
# Findings as data.


def as_dict(found: Findings, synthetic: Seen, real: Seen, inputs: dict[str, Any]) -> dict[str, Any]:
    """The object of audit.json. Figures that need more people or pictures than there are, are null."""
    test, people = found.membership, rows_of_people(synthetic.identities)
    closest = int(np.argmax(found.real.score))
    area = None if test.area is None else test.area._asdict()
    return {
        "made_by": "filter.py audit",
        "format": 1,
        "inputs": inputs,
        "samples": len(synthetic.names),
        "people": len(people),
        "leakage": {name: leak._asdict() for name, leak in found.leaks.items()},
        "highest_real_similarity": float(found.real.score[closest]),
        "highest_real_similarity_sample": synthetic.names[closest],
        "membership": {
            "made": area is not None,
            "note": test.note,
            **(area or {"auc": None, "low": None, "high": None}),
            "confidence": 0.95,
            "members": len(test.members),
            "outsiders": len(test.outsiders),
            "pictures_of_each": test.pictures,
        },
        "duplicates": {
            "likeness": DUPLICATE,
            "of_real_pictures": int((found.pixels.score > DUPLICATE).sum()),
            "of_own_pictures": int((found.own_pixels.score > DUPLICATE).sum()),
            "highest_to_real": float(found.pixels.score.max()),
            "highest_to_own": _number(found.own_pixels.score.max()),
            "highest_between_real": _number(found.real_pixels),
        },
        "synthetic": found.synthetic_set.figures(),
        "real": found.real_set.figures(),
        "identities": [_person(name, rows, found.real, synthetic, real) for name, rows in people.items()],
    }


def _person(name: str, rows: np.ndarray, nearest: Nearest, synthetic: Seen, real: Seen) -> dict[str, Any]:
    best = rows[int(np.argmax(nearest.score[rows]))]
    spread = diversity(synthetic, rows)
    return {
        "identity": name,
        "samples": len(rows),
        "nearest_person": real.identities[nearest.row[best]],
        "nearest_picture": real.names[nearest.row[best]],
        "score": _number(nearest.score[best]),
        "diversity_cosine": None if spread is None else _number(spread.cosine),
        "diversity_pixels": None if spread is None else _number(spread.pixels),
    }


def _number(value: float) -> float | None:
    return round(float(value), DECIMALS) if math.isfinite(value) else None


def as_table(found: Findings, synthetic: Seen, real: Seen) -> str:
    """audit.csv: a line a sample."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    limits = {f"over_{name}": leak.threshold for name, leak in found.leaks.items()}
    head = ["identity", "picture", "nearest_person", "nearest_picture", "score", *limits]
    writer.writerow([*head, "pixels_nearest_picture", "pixels", "pixels_own_picture", "pixels_own"])
    for row, name in enumerate(synthetic.names):
        near, pixels, own = found.real.row[row], found.pixels.row[row], found.own_pixels.row[row]
        score = found.real.score[row]
        writer.writerow(
            [
                synthetic.identities[row], name, real.identities[near], real.names[near], f"{score:.6f}",
                *(int(score > limit) for limit in limits.values()),
                real.names[pixels], f"{found.pixels.score[row]:.6f}",
                synthetic.names[own] if own >= 0 else "",
                f"{found.own_pixels.score[row]:.6f}" if own >= 0 else "",
            ]
        )  # fmt: skip
    return buffer.getvalue()


# ----------------------------------------------------------------------------
# Files.


def check_places(data: Dataset, others: list[Dataset], outdir: Path, overwrite: bool) -> None:
    """Raises UserError where datasets are the same one, or the findings would lie among pictures or over others."""
    places = [data.path.resolve(), *(other.path.resolve() for other in others)]
    for number, other in enumerate(others, 1):
        if places[number] in places[:number]:
            raise UserError(f"{other.option}: {other.path}: is the same as another dataset of this audit; name its own")
    where, ours = f"--outdir: {outdir}", outdir.resolve()
    for place in places:
        folders = [spectrum.folder for spectrum in SPECTRA.values()]
        beside = place == places[0] and ours.parent == place and ours.name not in folders
        if (ours == place or place in ours.parents) and not beside:
            raise UserError(f"{where}: lies among the pictures of {place}; {data.path / 'audit'} would be right")
    if outdir.exists() and not outdir.is_dir():
        raise UserError(f"{where}: is a file; name a folder")
    if (outdir / JSON).exists() and not overwrite:
        raise UserError(f"{where}: holds an audit already; name another folder or give --overwrite")


@writers.outdir_named()
def write(outdir: Path, findings: dict[str, Any], table: str, page: str, datasheet: str, data: Path) -> list[Path]:
    """Everything, each file whole or not at all; audit.json is the last. Returns what was written."""
    written = [outdir / TABLE, outdir / PAGE, outdir / JSON]
    atomic_write_bytes(outdir / TABLE, table.encode())
    atomic_write_bytes(outdir / PAGE, page.encode())
    sheet = (data if data.is_dir() else data.parent) / DATASHEET  # a packed dataset lies beside its own
    if sheet.is_file():
        head, begin, rest = sheet.read_bytes().partition(
            AUDIT_BEGIN.encode()
        )  # others may have written what is no text
        _, end, tail = rest.partition(AUDIT_END.encode())
        if begin and end:
            atomic_write_bytes(sheet, b"\n".join([head + begin, datasheet.encode(), end + tail]))
            written.append(sheet)
    atomic_write_json(outdir / JSON, findings)
    return written
