"""Raw captures: which picture shows whom, and which VIS picture belongs to which NIR picture.

A layout is a function from the names in two trees to captures. What names tell is taken from the descriptions that
the datasets' makers published; names that say something else end the run with what was found (docs/preparing.md).
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dnnlib.errors import UserError
from dnnlib.files import StrPath, require_file
from torch_utils.image_tree import ImageTree

NO_PARTNER = "no partner"
MAX_NAME_BYTES = 240
MAX_CSV_BYTES = 256 << 20


class Capture(NamedTuple):
    """One pair of raw pictures: person, sample (no underscore in it), and the pictures' names in the two trees."""

    identity: str
    sample: str
    vis: str
    nir: str

    @property
    def file_name(self) -> str:
        return f"{self.identity}_{self.sample}.png"


@dataclass(frozen=True)
class Captures:
    """Pairs in order, and pictures without a partner by spectrum. may_be_registered: both see the same moment."""

    pairs: list[Capture]
    alone: dict[str, list[str]]
    may_be_registered: bool = True


def find_captures(vis: ImageTree, nir: ImageTree, layout: str, pairs: StrPath | None = None) -> Captures:
    """All pairs of two trees, by a layout of LAYOUTS or by a CSV file.

    Raises UserError where there is no pair, a name does not fit the layout, or two pairs would be one file.
    """
    if pairs is not None:
        return _short_enough(read_pairs(pairs, vis, nir), "--pairs")
    for option, tree in (("--vis", vis), ("--nir", nir)):
        if not tree.names:
            raise UserError(f"{option}: {tree.path}: no {tree.kinds.words} pictures in it")
    found = LAYOUTS[layout](vis, nir)
    if not found.pairs:
        raise UserError(
            f"--nir: {nir.path}: none of its {len(nir.names)} pictures has the name of one of the {len(vis.names)} in "
            f"--vis {vis.path} (the first are {nir.names[0]} and {vis.names[0]}); --layout or --pairs says what belongs"
            " together"
        )
    seen: dict[str, Capture] = {}
    for capture in found.pairs:
        other = seen.setdefault(capture.file_name.lower(), capture)
        if other is not capture:
            raise UserError(
                f"--vis: {vis.path}: {other.vis} and {capture.vis} are both sample {capture.sample} of identity "
                f"{capture.identity}; --pairs can name them apart"
            )
    return _short_enough(found, "--vis")


def _short_enough(found: Captures, option: str) -> Captures:
    """Raises UserError for a pair whose file would have a name longer than file systems take."""
    for capture in found.pairs:
        if len(capture.file_name.encode()) > MAX_NAME_BYTES:
            start = f"{option}: {capture.vis[:80]}: the name {capture.file_name[:40]}... of its file would be too long"
            raise UserError(f"{start}; {MAX_NAME_BYTES} bytes are possible, --pairs can give a shorter one")
    return found


def _matched(keys: dict[str, dict[tuple[str, str], str]]) -> Captures:
    """Pairs of the pictures with one key (identity, sample) in both spectra."""
    both = keys["vis"].keys() & keys["nir"].keys()
    alone = {s: sorted(name for key, name in own.items() if key not in both) for s, own in keys.items()}
    return Captures([Capture(*key, keys["vis"][key], keys["nir"][key]) for key in sorted(both)], alone)


def _plain(text: str) -> str:
    """Text as part of a file's name: letters, digits and -. alone, so that it leaves no folder and hides nothing."""
    return re.sub(r"[^\w.-]+", "-", text).strip(".-")


# ----------------------------------------------------------------------------
# generic

WORDS = {"vis": {"vis", "visible", "rgb"}, "nir": {"nir", "ir", "infrared"}}


def _undecorated(name: str) -> tuple[str, set[str]]:
    """Name without suffix and without words that tell the spectrum ('1/VIS/a_VIS.png' -> '1/a'), and those words."""
    parts, words = [], set()
    for part in PurePosixPath(name).with_suffix("").parts:
        pieces = re.split(r"([_. -])", part)  # words at even places, what stands between them at odd ones
        kept = ""
        for separator, word in zip(["", *pieces[1::2]], pieces[::2], strict=True):
            if word.lower() in WORDS["vis"] | WORDS["nir"]:
                words.add(word.lower())
            else:
                kept += separator + word if kept else word
        parts += [kept] if kept else []
    return "/".join(parts), words


def generic(vis: ImageTree, nir: ImageTree) -> Captures:
    """Same names in both trees, suffix and words such as VIS, RGB, NIR apart; a folder is a person.

    Without folders the person stands before the last underscore. The trees may be one: the words then tell the spectra.
    """
    keys: dict[str, dict[tuple[str, str], str]] = {}
    for spectrum, other, tree in (("vis", "nir", vis), ("nir", "vis", nir)):
        own: dict[tuple[str, str], str] = {}
        for name in tree.names:
            stem, words = _undecorated(name)
            if vis.path == nir.path and words & WORDS[other] and not words & WORDS[spectrum]:
                continue
            folder, _, file = stem.rpartition("/")
            identity, sample = (folder, file) if folder else stem.rpartition("_")[::2]
            key = _plain(identity), _plain(sample).replace("_", "-")
            where = f"--{spectrum}: {tree.path}: {name}"
            if not all(key):
                raise UserError(f"{where}: no identity in it; name it like 012/4.png or 012_4.png, or use --pairs")
            if key in own:
                raise UserError(f"{where}: is sample {key[1]} of identity {key[0]}, and so is {own[key]}; use --pairs")
            own[key] = name
        keys[spectrum] = own
    return _matched(keys)


# ----------------------------------------------------------------------------
# Public datasets.


def tufts(vis: ImageTree, nir: ImageTree) -> Captures:
    """Tufts Face Database (Panetta et al., IEEE TPAMI): a folder a participant, in it TD_RGB_E_1.jpg, TD_NIR_E_1.jpg.

    The letter is the set (A: around, E: expression), the number the camera or expression. We take it that the same
    participant, letter and number in RGB and NIR are one moment; where the cameras stand apart, use --register.
    """
    keys: dict[str, dict[tuple[str, str], str]] = {}
    for spectrum, word, tree in (("vis", "RGB", vis), ("nir", "NIR", nir)):
        own: dict[tuple[str, str], str] = {}
        for name in tree.names:
            path = PurePosixPath(name)
            file = re.fullmatch(r"TD_(RGB|NIR)_([A-Z])_?(\d+)", path.stem)
            if file is None or not path.parent.name:
                raise _misfit(spectrum, tree, name, "tufts", f"PARTICIPANT/TD_{word}_E_1.jpg")
            key = _plain(path.parent.name), file[2] + file[3]
            if file[1] == word and own.setdefault(key, name) != name:
                raise UserError(f"--{spectrum}: {tree.path}: {own[key]} and {name} are one picture by --layout tufts")
        keys[spectrum] = own
    return _matched(keys)


def casia_nir_vis_2(vis: ImageTree, nir: ImageTree) -> Captures:
    """CASIA NIR-VIS 2.0 (Li et al. 2013): folders s1 to s4, in them NIR and VIS (or VIS_128x128), then 00001/001.jpg.

    VIS and NIR pictures of a person are not taken together and differ in number: the first of one is paired with the
    first of the other, in the order of their paths, and the rest has no partner. So they are never registered.
    """
    people: dict[str, dict[str, list[str]]] = {}
    for spectrum, tree in (("vis", vis), ("nir", nir)):
        own: dict[str, list[str]] = defaultdict(list)
        versions: set[str] = set()
        for name in tree.names:
            parts = PurePosixPath(name).with_suffix("").parts
            if len(parts) < 2 or not re.fullmatch(r"\d{5}", parts[-2]) or not re.fullmatch(r"\d{3}", parts[-1]):
                raise _misfit(spectrum, tree, name, "casia-nir-vis-2", "s1/VIS/00001/001.jpg")
            version = parts[-3] if len(parts) > 2 else ""
            if version.upper().startswith(("VIS", "NIR")):
                if not version.upper().startswith(spectrum.upper()):
                    continue
                versions.add(version)
            own[parts[-2]].append(name)
        if len(versions) > 1:
            raise UserError(f"--{spectrum}: {tree.path}: holds {' and '.join(sorted(versions))}; name one of them")
        people[spectrum] = own
    pairs: list[Capture] = []
    alone: dict[str, list[str]] = {spectrum: [] for spectrum in people}
    for identity in sorted(people["vis"].keys() | people["nir"].keys()):
        own_vis, own_nir = people["vis"].get(identity, []), people["nir"].get(identity, [])
        both = min(len(own_vis), len(own_nir))
        pairs += [Capture(identity, f"{i:03d}", own_vis[i], own_nir[i]) for i in range(both)]
        alone["vis"] += own_vis[both:]
        alone["nir"] += own_nir[both:]
    return Captures(pairs, alone, may_be_registered=False)


def _misfit(spectrum: str, tree: ImageTree, name: str, layout: str, right: str) -> UserError:
    return UserError(f"--layout: {layout} expects names like {right}, but --{spectrum} {tree.path} holds {name}")


LAYOUTS: dict[str, Callable[[ImageTree, ImageTree], Captures]] = {
    "generic": generic,
    "tufts": tufts,
    "casia-nir-vis-2": casia_nir_vis_2,
}


# ----------------------------------------------------------------------------
# A list of pairs.


def read_pairs(path: StrPath, vis: ImageTree, nir: ImageTree, option: str = "--pairs") -> Captures:
    """Pairs from a CSV file with a header line: vis, nir, identity and, if wished, sample.

    Names are relative to the trees. Without samples, the pairs of a person are counted. Raises UserError that names
    the line.
    """
    require_file(path, f"{option}: {path}", "a CSV file with the columns vis, nir, identity is needed")
    try:
        if Path(path).stat().st_size > MAX_CSV_BYTES:
            raise UserError(f"{option}: {path}: larger than a list of pairs can be")
        text = Path(path).read_text(encoding="utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{option}: {path}: cannot be read as CSV in UTF-8 ({error})") from error
    header = [cell.strip() for cell in rows[0]] if rows else []
    needed = ["vis", "nir", "identity"]
    if sorted(header) not in (sorted(needed), sorted([*needed, "sample"])):
        raise UserError(f"{option}: {path}: line 1 must be vis,nir,identity or vis,nir,identity,sample")
    known = {"vis": set(vis.names), "nir": set(nir.names)}
    counts: dict[str, int] = defaultdict(int)
    pairs: dict[str, Capture] = {}
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        where = f"{option}: {path}: line {number}"
        if len(row) != len(header):
            raise UserError(f"{where}: {len(row)} columns, but line 1 has {len(header)}")
        cells = {key: cell.strip() for key, cell in zip(header, row, strict=True)}
        cells.setdefault("sample", f"{counts[cells['identity']]:03d}")
        counts[cells["identity"]] += 1
        _check_row(cells, known, where)
        capture = Capture(cells["identity"], cells["sample"], cells["vis"], cells["nir"])
        if pairs.setdefault(capture.file_name.lower(), capture) is not capture:
            raise UserError(f"{where}: sample {capture.sample} of identity {capture.identity} was there before")
    if not pairs:
        raise UserError(f"{option}: {path}: no pair in it")
    return Captures(list(pairs.values()), {"vis": [], "nir": []})


def _check_row(cells: dict[str, str], known: dict[str, set[str]], where: str) -> None:
    for key in ("identity", "sample"):
        if not cells[key] or _plain(cells[key]) != cells[key] or (key == "sample" and "_" in cells[key]):
            raise UserError(f"{where}: {key} {cells[key]!r} must be of letters, digits, - and . (samples have no _)")
    for key in ("vis", "nir"):
        if cells[key] not in known[key]:
            raise UserError(f"{where}: no picture {cells[key]} below --{key}")
