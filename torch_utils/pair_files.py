"""Lists of picture pairs for verification: reading LFW's pairs.txt and plain lists, drawing pairs, writing them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from dnnlib.errors import UserError
from dnnlib.files import StrPath, atomic_write_bytes
from torch_utils.image_tree import DATASET_PICTURES
from torch_utils.spectra import SPECTRA
from torch_utils.streams import stream

FOLDS = 10
MAX_BYTES = 256 << 20
SPECTRUM_PAIRS = (("vis", "vis"), ("nir", "nir"), ("vis", "nir"))


class Pair(NamedTuple):
    """Names of two pictures, with '/' between folders, and whether they show one person. line: where it was read."""

    first: str
    second: str
    same: bool
    line: int = 0


class PairList(NamedTuple):
    """Pairs in the order of the file. folds: the fold of each pair where the file says its folds, else None."""

    pairs: list[Pair]
    folds: list[int] | None


# ----------------------------------------------------------------------------
# Reading.


def read_pairs(path: StrPath, names: frozenset[str] | set[str], option: str = "--pairs") -> PairList:
    """The pairs of a file.

    Either LFW's pairs.txt (a first line `folds pairs` or `pairs`; in each fold so many lines `name n m` of one person
    and then so many `name n other m`; a picture is name/name_0001.jpg), or lines `first second 1|0` with tabs, commas
    or spaces between, 1 for one person; a first line of titles is passed over.

    names: of the pictures there are. Raises UserError that names line and file for a picture that is not there, a line
    that is none of these, a name that leads out of the folder, and a count that the lines do not have.
    """
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise UserError(f"{option}: {path}: too large for a list of pairs")
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{option}: {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{option}: {path}: not a text file") from error
    lines = [(number, _words(line)) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise UserError(f"{option}: {path}: holds no pairs")
    head = lines[0][1]
    lfw = len(head) <= 2 and all(word.isdecimal() for word in head)
    found = _read_lfw(lines, names, f"{option}: {path}") if lfw else _read_plain(lines, f"{option}: {path}")
    if not found.pairs:
        raise UserError(f"{option}: {path}: holds no pairs")
    for pair in found.pairs:
        for name in (pair.first, pair.second):
            where = f"{option}: {path}: line {pair.line}: {ascii(name)[1:-1]}"
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise UserError(f"{where}: leads out of the folder; names below it would be right")
            if name not in names:
                raise UserError(f"{where}: no such picture")
    return found


def _words(line: str) -> list[str]:
    for separator in ("\t", ","):
        if separator in line:
            return [word.strip() for word in line.split(separator)]
    return line.split()


def _read_plain(lines: list[tuple[int, list[str]]], where: str) -> PairList:
    pairs = []
    for place, (number, words) in enumerate(lines):
        if len(words) != 3 or words[2] not in ("0", "1"):
            if place == 0 and len(words) == 3 and len(lines) > 1:
                continue  # titles
            raise UserError(f"{where}: line {number}: two pictures and 1 (one person) or 0 would be right")
        pairs.append(Pair(_clean(words[0]), _clean(words[1]), words[2] == "1", number))
    return PairList(pairs, None)


def _clean(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _read_lfw(lines: list[tuple[int, list[str]]], names: frozenset[str] | set[str], where: str) -> PairList:
    head = [int(word[:9]) for word in lines[0][1]]
    folds, each = (head[0], head[1]) if len(head) == 2 else (1, head[0])
    if len(lines) - 1 != 2 * folds * each:
        raise UserError(
            f"{where}: {len(lines) - 1} pairs, but its first line says {folds} folds of {each} of one person and "
            f"{each} of two"
        )
    pairs = []
    for number, words in lines[1:]:
        if len(words) not in (3, 4) or not all(word.isdecimal() and len(word) < 9 for word in (words[1], words[-1])):
            raise UserError(f"{where}: line {number}: `name n m` or `name n other m` would be right")
        first, second = (words[0], words[1]), (words[-2] if len(words) == 4 else words[0], words[-1])
        pairs.append(Pair(_lfw_name(first, names), _lfw_name(second, names), len(words) == 3, number))
    return PairList(pairs, [index // (2 * each) for index in range(len(pairs))] if len(head) == 2 else None)


def _lfw_name(picture: tuple[str, str], names: frozenset[str] | set[str]) -> str:
    person, number = picture
    stem = f"{person}/{person}_{int(number):04d}"
    return next((stem + suffix for suffix in DATASET_PICTURES.suffixes if stem + suffix in names), f"{stem}.jpg")


# ----------------------------------------------------------------------------
# Drawing and writing.


def draw_pairs(
    names: Sequence[str],
    identities: Sequence[str],
    spectra: tuple[str, str],
    count: int,
    seed: int,
    option: str = "--pairs",
    folds: int = FOLDS,
) -> list[Pair]:
    """Pairs of a paired dataset's pictures, as LFW's View 2 has them: folds of equal size one after the other, nobody
    in two folds, in each fold half of the pairs of one person and then half of two, none twice.

    Two pictures of one person are of two shots, across the spectra, too.

    Args:
        names, identities: of the pairs of the dataset, as in PairedTree.
        spectra: those of the first and the second picture.
        count: pairs, a multiple of twice the folds.

    Raises:
        UserError: another count, or people too few or with too few pictures.
    """
    if count < 1 or count % (2 * folds):
        raise UserError(f"{option}: {count} pairs; a multiple of {2 * folds} is needed, for {folds} folds")
    people: dict[str, list[str]] = {}
    for name, identity in zip(names, identities, strict=True):
        people.setdefault(identity, []).append(name)
    rng = stream(seed, "verification pairs", *(list(SPECTRA).index(spectrum) for spectrum in spectra))
    everybody = list(people.values())
    order = [everybody[index] for index in rng.permutation(len(people))]
    first, second = (SPECTRA[spectrum].folder for spectrum in spectra)
    drawn: list[Pair] = []
    for fold in range(folds):
        members = order[fold::folds]
        for same in (True, False):
            if count // (2 * folds) > _available(members, same, spectra[0] == spectra[1]):
                raise UserError(
                    f"{option}: {count} pairs are more than {len(people)} people in {folds} folds have; draw fewer, or "
                    "take more people or pictures"
                )
            for a, b in _distinct(members, same, spectra[0] == spectra[1], count // (2 * folds), rng):
                drawn.append(Pair(f"{first}/{a}", f"{second}/{b}", same))
    return drawn


def draw_lists(names: Sequence[str], identities: Sequence[str], count: int, seed: int) -> dict[str, list[Pair]]:
    """A list within each spectrum and one across them, by the name of its file; see `draw_pairs`."""
    return {pairs_file(spectra): draw_pairs(names, identities, spectra, count, seed) for spectra in SPECTRUM_PAIRS}


def _available(members: list[list[str]], same: bool, unordered: bool) -> int:
    """How many different pairs the people of a fold have."""
    sizes = [len(pictures) for pictures in members]
    ordered = sum(n * (n - 1) for n in sizes) if same else sum(sizes) ** 2 - sum(n * n for n in sizes)
    return ordered // 2 if unordered else ordered


def _distinct(
    members: list[list[str]], same: bool, unordered: bool, count: int, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """Different pairs, people drawn evenly: draws until there are enough."""
    fitting = [pictures for pictures in members if len(pictures) > 1] if same else members
    found: dict[tuple[str, str], None] = {}
    while len(found) < count:
        if same:
            pictures = fitting[rng.integers(len(fitting))]
            a, b = (pictures[index] for index in rng.choice(len(pictures), 2, replace=False))
        else:
            a, b = (
                fitting[index][rng.integers(len(fitting[index]))]
                for index in rng.choice(len(fitting), 2, replace=False)
            )
        if not unordered or (b, a) not in found:
            found[a, b] = None
    return list(found)


def check_list(path: StrPath, pairs: Sequence[Pair]) -> None:
    """Raises UserError where the file exists with other pairs."""
    if Path(path).exists() and (not Path(path).is_file() or Path(path).read_bytes() != _encoded(pairs)):
        raise UserError(f"--pairs: {path}: holds other pairs; remove it first")


def write_pairs(path: StrPath, pairs: Sequence[Pair]) -> None:
    """Writes pairs as `read_pairs` takes them; folds of equal size need no saying. Raises UserError where the file
    exists with other pairs."""
    check_list(path, pairs)
    if not Path(path).exists():
        atomic_write_bytes(path, _encoded(pairs))


def _encoded(pairs: Sequence[Pair]) -> bytes:
    return "".join(f"{pair.first}\t{pair.second}\t{int(pair.same)}\n" for pair in pairs).encode()


def pairs_file(spectra: tuple[str, str]) -> str:
    """Name of a dataset's list of pairs, such as pairs-vis-nir.txt."""
    return f"pairs-{'-'.join(spectra)}.txt"
