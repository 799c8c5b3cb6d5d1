"""Verification benchmarks as people have them: InsightFace's .bin, and folders of pictures with a list of pairs."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arcface.alignment import Template, template_of
from dnnlib.errors import UserError
from dnnlib.files import StrPath, atomic_write_bytes, require_file
from torch_utils.description import read_description
from torch_utils.image_tree import MAX_FILE_BYTES, ImageTree, decode_image
from torch_utils.inert_pickle import Record, read
from torch_utils.pair_files import read_pairs
from torch_utils.picture_source import Pictures
from torch_utils.spectra import SPECTRA

MAX_BIN_BYTES = 8 << 30
PAIR_LISTS = ("*pairs*.txt", "*pairs*.csv")


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Pairs of pictures. spectra: such as 'vis-nir', as far as the folders' names tell it, else 'vis-vis'.

    first, second: int64 [P], which pictures; same: bool [P]; folds: int64 [P], or None for contiguous tenths.
    alignment: of the pictures; None: not known, as a .bin has no place for it.
    """

    name: str
    spectra: str
    pictures: Pictures
    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    folds: np.ndarray | None = None
    alignment: Template | None = None


def find_benchmarks(folder: StrPath, option: str = "--benchmarks") -> list[Benchmark]:
    """All benchmarks of a folder (its .bin files and lists of pairs), or the one that `folder` itself is.

    Raises UserError where there is none or one cannot be read.
    """
    place = Path(folder)
    if place.is_file():
        require_file(place, f"{option}: {place}", "a .bin file or a list such as pairs.txt would be right")
        return [open_benchmark(place, option)]
    files = sorted({file for pattern in ("*.bin", *PAIR_LISTS) for file in place.glob(pattern) if file.is_file()})
    if not files:
        raise UserError(f"{option}: {folder}: no benchmark there; .bin files or lists such as pairs.txt would be right")
    return [open_benchmark(file, option) for file in files]


def open_benchmark(path: StrPath, option: str = "--benchmarks") -> Benchmark:
    """A .bin file, or a list of pairs whose names are below its own folder. Raises UserError."""
    if Path(path).suffix.lower() == ".bin":
        return read_bin(path, option)
    return read_list(path, Path(path).parent, option)


def check_pictures(benchmarks: Sequence[Benchmark], option: str = "--benchmarks") -> None:
    """Decodes every picture: a training's last hour is late for a broken one. Raises UserError, also where one is not
    square, as aligned faces are."""
    for benchmark in benchmarks:
        for index, name in enumerate(benchmark.pictures.names):
            height, width = benchmark.pictures.decode(index).shape[:2]
            if height != width:
                raise UserError(
                    f"{option}: {benchmark.name}: picture {name} is {width}x{height}; a square, as aligned faces are, "
                    "is needed"
                )


def _checked(benchmark: Benchmark, where: str) -> Benchmark:
    if benchmark.same.all() or not benchmark.same.any():
        kind = "two people" if len(benchmark.same) and not benchmark.same.any() else "one person"
        raise UserError(f"{where}: all {len(benchmark.same)} pairs are of {kind}; both kinds are needed")
    return benchmark


# ----------------------------------------------------------------------------
# A folder and a list of pairs.


class TreeFiles:
    """Some pictures of a tree. The folder VIS/ or NIR/ tells the spectrum; others are VIS."""

    def __init__(self, tree: ImageTree, names: list[str]) -> None:
        self.tree, self.names = tree, names

    def read(self, index: int) -> bytes:
        return self.tree.read(self.names[index])

    def decode(self, index: int) -> np.ndarray:
        name = self.names[index]
        return self.tree.decode(name, SPECTRA[spectrum_of(name)].mode)

    def __len__(self) -> int:
        return len(self.names)


def spectrum_of(name: str) -> str:
    """The spectrum that a folder in a picture's name tells; 'vis' where none does."""
    folders = name.split("/")[:-1]
    return next((spectrum.name for spectrum in SPECTRA.values() if spectrum.folder in folders), "vis")


def read_list(path: StrPath, root: StrPath, option: str = "--benchmarks", root_option: str | None = None) -> Benchmark:
    """The benchmark of a list of pairs over the pictures below `root` (a folder or zip)."""
    tree = ImageTree(root, option=root_option or option)
    found = read_pairs(path, frozenset(tree.names), option)
    names = list(dict.fromkeys(name for pair in found.pairs for name in (pair.first, pair.second)))
    place = {name: index for index, name in enumerate(names)}
    kinds = list(dict.fromkeys(f"{spectrum_of(p.first)}-{spectrum_of(p.second)}" for p in found.pairs))
    return _checked(
        Benchmark(
            name=Path(path).stem,
            spectra=kinds[0] if len(kinds) == 1 else "mixed",
            pictures=TreeFiles(tree, names),
            first=np.array([place[pair.first] for pair in found.pairs]),
            second=np.array([place[pair.second] for pair in found.pairs]),
            same=np.array([pair.same for pair in found.pairs]),
            folds=None if found.folds is None else np.array(found.folds),
            alignment=template_of(read_description(root, root_option or option), f"{root_option or option}: {root}"),
        ),
        f"{option}: {path}",
    )


# ----------------------------------------------------------------------------
# .bin: a pickle of (list of encoded pictures, two a pair; list of truths).


class EncodedPictures:
    """Encoded pictures in memory. A .bin has no place for the spectrum: grey ones become three equal channels."""

    def __init__(self, label: str, encoded: list[bytes]) -> None:
        self.label, self.encoded = label, encoded
        self.names = [str(index) for index in range(len(encoded))]

    def decode(self, index: int) -> np.ndarray:
        return decode_image(self.encoded[index], "RGB", f"{self.label}: picture {index}")

    def __len__(self) -> int:
        return len(self.encoded)


_ENCODE = "_codecs.encode"
_ARRAYS = tuple(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core"))
_BUFFERS = tuple(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core"))
_SCALARS = tuple(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core"))
_ALLOWED = {_ENCODE, "numpy.ndarray", "numpy.dtype", *_ARRAYS, *_BUFFERS, *_SCALARS}
_BYTE_TYPES = ("u1", "|u1", "b1", "|b1", "S1", "|S1")


def read_bin(path: StrPath, option: str = "--benchmarks") -> Benchmark:
    """InsightFace's .bin, whichever Python and pickle protocol wrote it; nothing in it runs.

    Raises UserError: not such a file, or one that asks for more than bytes and truths.
    """
    where = f"{option}: {path}"
    try:
        size = Path(path).stat().st_size
        if size > MAX_BIN_BYTES:
            raise UserError(f"{where}: {size >> 30} GiB; a benchmark has less than {MAX_BIN_BYTES >> 30}")
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{where}: {error.strerror or error}") from error
    found = read(io.BytesIO(data), where, _ALLOWED.__contains__, of="a benchmark")
    try:
        pictures, truths = found
        same = _Values(size).truths(truths)
        if not isinstance(pictures, (list, tuple)) or len(pictures) != 2 * len(same) or not same:
            raise ValueError("not two pictures a truth")
        values = _Values(size)
        places: dict[bytes, int] = {}
        order = np.array([places.setdefault(values.encoded(picture), len(places)) for picture in pictures])
    except (ValueError, TypeError, LookupError) as error:
        raise UserError(
            f"{where}: not a list of pictures and a list of truths, two pictures a pair ({error})"
        ) from error
    benchmark = Benchmark(
        Path(path).stem,
        "vis-vis",
        EncodedPictures(str(path), list(places)),
        order[::2],
        order[1::2],
        np.array(same),
    )
    return _checked(benchmark, where)


class _Values:
    """Bytes and truths out of what an inert pickle holds. budget: bytes that all copies together may have, so that a
    small file stays small however often it refers to one text. Raises ValueError, TypeError or LookupError."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._known: dict[int, bytes] = {}  # by the id of what it was made from, which lives as long

    def encoded(self, value: Any) -> bytes:
        if isinstance(value, bytes):
            return value
        if id(value) not in self._known:
            made = self._convert(value)
            self.budget -= len(made)
            if self.budget < 0 or len(made) > MAX_FILE_BYTES:
                raise ValueError("more bytes than the file has")
            self._known[id(value)] = made
        return self._known[id(value)]

    def _convert(self, value: Any) -> bytes:
        if isinstance(value, (str, bytearray)):
            if len(value) > self.budget:
                raise ValueError("more bytes than the file has")
            return value.encode("latin-1") if isinstance(value, str) else bytes(value)
        if not isinstance(value, Record):
            raise TypeError(f"{type(value).__name__} where a picture must be")
        if value.name == _ENCODE:
            text, encoding = value.args
            if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
                raise TypeError("a text in another encoding than latin1")
            return self._convert(text)
        if value.name in _ARRAYS:
            _, _, dtype, _, data = value.state
        elif value.name in _BUFFERS:
            data, dtype = value.args[:2]
        else:
            raise TypeError(f"{value.name} where a picture must be")
        if not isinstance(dtype, Record) or dtype.args[0] not in _BYTE_TYPES or isinstance(data, (list, tuple)):
            raise TypeError("an array that is not of bytes")
        if isinstance(data, Record) and data.name != _ENCODE:
            raise TypeError("an array that is not of bytes")
        return data if isinstance(data, bytes) else self._convert(data)

    def truths(self, values: Any) -> list[bool]:
        if isinstance(values, Record):
            return [bool(value) for value in self.encoded(values)]
        if not isinstance(values, (list, tuple)):
            raise TypeError("no list of truths")
        return [self._truth(value) for value in values]

    def _truth(self, value: Any) -> bool:
        if isinstance(value, Record) and value.name in _SCALARS:
            dtype, data = value.args
            raw = data if isinstance(data, bytes) else self._convert(data)
            if not isinstance(dtype, Record) or not isinstance(dtype.args[0], str):
                raise TypeError("a number of no type")
            return any(raw)
        if not isinstance(value, int) or value not in (0, 1):
            raise TypeError("a truth that is neither true nor false")
        return bool(value)


def write_bin(path: StrPath, pairs: Sequence[tuple[bytes, bytes]], same: Sequence[bool]) -> None:
    """Writes encoded pictures as a .bin of plain bytes and bools, which InsightFace's readers take (protocol 4)."""
    pictures = [picture for pair in pairs for picture in pair]
    atomic_write_bytes(path, pickle.dumps((pictures, [bool(value) for value in same]), protocol=4))
