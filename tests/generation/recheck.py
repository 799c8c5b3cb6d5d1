"""A finished dataset, checked again by brute force: python -m tests.generation.recheck --data OUT --rec-model F ...

The pictures are read from the dataset, whatever its format, and embedded again; then every pair that a rule speaks of
is compared in float64 by plain products and loops. Nothing of generation/ is used: only what reads files and the
recognition model. Prints the worst case of each rule and leaves with 0, or with 1 where any rule is broken, a count
differs, or the manifest says another similarity. The rules about faces and quality need the detector and the raw
features, and are not checked here.
"""

from __future__ import annotations

import json
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from arcface.alignment import template_of
from arcface.embed import embed
from arcface.weights import RecognitionModel, load_recognition
from dnnlib.cli import Command, option
from torch_utils.description import read_description
from torch_utils.feature_file import load_features
from torch_utils.image_tree import decode_image
from torch_utils.picture_source import open_pictures
from torch_utils.recordio import RecordFile, decode_image_header

Rows = NDArray[np.float64]
TOLERANCE = 2e-6  # of a cosine: batches are others than in the run, and rounding with them


class Findings:
    """Worst cases and broken promises, in words."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.broken: list[str] = []

    def at_most(self, rule: str, value: float, limit: float, tolerance: float, whose: str) -> None:
        self._compare(rule, value, limit - value, tolerance, f"at most {limit:.6f}", whose)

    def at_least(self, rule: str, value: float, limit: float, tolerance: float, whose: str) -> None:
        self._compare(rule, value, value - limit, tolerance, f"at least {limit:.6f}", whose)

    def equal(self, what: str, found: Any, wanted: Any) -> None:
        if found != wanted:
            self.broken.append(f"{what}: {found}, but {wanted} were to be there")

    def _compare(self, rule: str, value: float, margin: float, tolerance: float, words: str, whose: str) -> None:
        line = f"{rule:<8} worst {value:.6f}, {words}, margin {margin:+.6f} ({whose})"
        self.lines.append(line)
        if not margin >= -tolerance:
            self.broken.append(line)


# ----------------------------------------------------------------------------
# Reading.


def read_place(root: Path, place: str) -> bytes:
    """The file that a manifest's line names: a path, shard/member or rec/key."""
    name, _, rest = place.partition("/")
    if name.endswith(".tar"):
        member = opened_tar(root / name).extractfile(rest)
        assert member is not None, place
        return member.read()
    if name.endswith(".rec"):
        records = opened_records(root / name)
        payload = records.read(records.keys.index(int(rest)))
        return payload[decode_image_header(payload).size :]
    return (root / place).read_bytes()


@lru_cache(maxsize=4)
def opened_tar(path: Path) -> tarfile.TarFile:
    return tarfile.open(path)


@lru_cache(maxsize=4)
def opened_records(path: Path) -> RecordFile:
    return RecordFile(path)


def pictures(root: Path, places: Sequence[str], mode: str) -> Iterator[NDArray[np.uint8]]:
    """[H, W, C] each."""
    for place in places:
        yield decode_image(read_place(root, place), mode, place)


def unit(rows: NDArray[Any]) -> Rows:
    wide = np.asarray(rows, dtype=np.float64)
    return wide / np.sqrt((wide * wide).sum(axis=1, keepdims=True))


def real_rows(files: Sequence[str], first_only: bool) -> tuple[Rows, list[str]]:
    """Unit rows of all real features and their names."""
    rows: list[NDArray[Any]] = []
    names: list[str] = []
    for file in files:
        found = load_features(file)
        seen: set[str] = set()
        for feature, name, person in zip(found.features, found.names, found.identities, strict=True):
            if not first_only or person not in seen:
                rows.append(feature)
                names.append(name)
            seen.add(person)
    return (unit(np.stack(rows)) if rows else np.empty((0, 1))), names


# ----------------------------------------------------------------------------
# Rules.


def check(root: Path, model: RecognitionModel, real_files: Sequence[str], tolerance: float = TOLERANCE) -> Findings:
    """All rules that embeddings decide, and all counts."""
    settings = json.loads((root / "settings.json").read_text())
    lines = [json.loads(line) for line in (root / "manifest.jsonl").read_text().splitlines()]
    kept = [line for line in lines if line["verdict"] == "kept"]
    kept.sort(key=lambda line: (line["identity"], line["sample"]))
    found = Findings()
    check_counts(root, settings, lines, kept, found)
    alignment = template_of(read_description(root))
    modes = {"vis": "RGB", "nir": "L"}
    features = {
        name: unit(embed(model, pictures(root, [line[name] for line in kept], modes[name]), alignment=alignment))
        for name in settings.get("checked_spectra", ["vis"])
    }
    real, names = real_rows(real_files, settings.get("real_features_compared") == "first of each person")
    rules = settings.get("rules", ["private", "unique", "same", "repeat"])
    for name, rows in features.items():
        if "private" in rules and settings["privacy_check"]:
            check_private(rows, real, names, kept, settings, tolerance, found, name)
        if "same" in rules:
            check_same(rows, kept, settings, tolerance, found, name)
    if "unique" in rules:
        check_unique(features["vis"], kept, settings, tolerance, found)
    if "repeat" in rules:
        check_repeat(features["vis"], kept, settings, tolerance, found)
    return found


def check_counts(
    root: Path, settings: dict[str, Any], lines: list[dict[str, Any]], kept: list[dict[str, Any]], found: Findings
) -> None:
    summary = json.loads((root / "summary.json").read_text())
    samples: dict[int, list[int]] = {}
    for line in kept:
        samples.setdefault(line["identity"], []).append(line["sample"])
    for identity, numbers in samples.items():
        found.equal(f"samples of person {identity}", numbers, list(range(settings["samples_per_id"])))
    found.equal("identities", len(samples), summary["identities_kept"])
    found.equal("pairs", len(kept), summary["pairs_kept"])
    found.equal("candidates", len(lines), summary["candidates"])
    found.equal("candidates judged twice", len(lines) - len({(line["slot"], line["seed"]) for line in lines}), 0)
    refused = Counter(line["verdict"] for line in lines if line["verdict"] != "kept")
    found.equal("refused", dict(refused), {rule: count for rule, count in summary["refused"].items() if count})
    records = list(root.glob("*.rec"))
    for name in ("vis", "nir"):
        found.equal(f"places of {name} pictures", len({line[name] for line in kept}), len(kept))
        found.equal(f"{name} pictures", len(open_pictures(records[0] if records else root, name)), len(kept))


def cosine_to(row: Rows, others: Rows, settings: dict[str, Any]) -> Rows:
    """Of one with many, as the rules about strangers take it."""
    scores = (others * row).sum(axis=1)
    return np.abs(scores) if settings["absolute"] else scores


def check_private(
    rows: Rows,
    real: Rows,
    names: list[str],
    kept: list[dict[str, Any]],
    settings: dict[str, Any],
    tolerance: float,
    found: Findings,
    spectrum: str,
) -> None:
    worst, whose = -np.inf, ""
    for row, line in zip(rows, kept, strict=True):
        scores = cosine_to(row, real, settings)
        nearest = int(scores.argmax())
        if scores[nearest] > worst:
            worst, whose = float(scores[nearest]), f"{line[spectrum]} and real {names[nearest]}"
        if spectrum == "vis" and not abs(scores[nearest] - line["max_sim_real"]) <= tolerance + 1e-6:
            found.broken.append(f"manifest: {line['vis']}: max_sim_real {line['max_sim_real']}, not {scores[nearest]}")
    found.at_most("private", worst, settings["thresholds"]["unique"], tolerance, whose)


def check_unique(
    rows: Rows, kept: list[dict[str, Any]], settings: dict[str, Any], tolerance: float, found: Findings
) -> None:
    references = [number for number, line in enumerate(kept) if line["sample"] == 0]
    worst, whose = -np.inf, "nobody else"
    for row, line in zip(rows, kept, strict=True):
        for other in references:
            if kept[other]["identity"] != line["identity"]:
                score = float(cosine_to(row, rows[other : other + 1], settings)[0])
                if score > worst:
                    worst, whose = score, f"{line['vis']} and {kept[other]['vis']}"
    found.at_most("unique", worst, settings["thresholds"]["unique"], tolerance, whose)


def check_same(
    rows: Rows, kept: list[dict[str, Any]], settings: dict[str, Any], tolerance: float, found: Findings, spectrum: str
) -> None:
    first = {line["identity"]: row for row, line in zip(rows, kept, strict=True) if line["sample"] == 0}
    worst, whose = np.inf, ""
    for row, line in zip(rows, kept, strict=True):
        score = float((row * first[line["identity"]]).sum())
        if score < worst:
            worst, whose = score, line[spectrum]
    found.at_least("same", worst, settings["thresholds"]["same"], tolerance, whose)


def check_repeat(
    rows: Rows, kept: list[dict[str, Any]], settings: dict[str, Any], tolerance: float, found: Findings
) -> None:
    members: dict[int, list[int]] = {}
    for number, line in enumerate(kept):
        members.setdefault(line["identity"], []).append(number)
    worst, whose = -np.inf, "no two samples"
    for numbers in members.values():
        for place, number in enumerate(numbers):
            for other in numbers[:place]:
                score = float((rows[number] * rows[other]).sum())
                if score > worst:
                    worst, whose = score, f"{kept[number]['vis']} and {kept[other]['vis']}"
    found.at_most("repeat", worst, settings["thresholds"]["repeat"], tolerance, whose)


@click.command(cls=Command)
@option("--data", required=True, metavar="DIR", help="A finished dataset of generate_dataset.py.")
@option("--rec-model", required=True, metavar="FILE", help="The recognition model that its filter saw with.")
@option("--rec-arch", metavar="NAME", help="Its architecture, where the weights' shapes leave it open.")
@option("--real-features", multiple=True, metavar="FILE", help="The features that it was compared with.")
@option("--tolerance", default=TOLERANCE, help="How far a cosine may be off.")
@option("--device", default="cpu", help="Device.")
def main(
    data: str, rec_model: str, rec_arch: str | None, real_features: tuple[str, ...], tolerance: float, device: str
) -> None:
    """Check a finished dataset again, by brute force."""
    found = check(Path(data), load_recognition(rec_model, device, rec_arch), real_features, tolerance)
    for line in found.lines:
        click.echo(line)
    for line in found.broken:
        click.echo(f"BROKEN   {line}")
    click.echo("No rule is broken." if not found.broken else f"{len(found.broken)} things are not as promised.")
    sys.exit(1 if found.broken else 0)


if __name__ == "__main__":
    main()
