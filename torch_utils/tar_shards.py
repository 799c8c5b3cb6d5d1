"""WebDataset shards: tar files whose members belong together where their names agree up to the first dot.

Written are `{identity}_{sample}` with `.vis.png`, `.nir.png`, `.cls` (the class number) and `.json`; read is also what
others write: a plain `.png` or `.jpg`, which tells no spectrum, with `.cls` or with an identity in `.json`. Nothing is
ever unpacked: an index of offsets is made at opening, so names and links in a tar reach nothing.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from dnnlib.errors import UserError
from dnnlib.files import StrPath
from torch_utils.image_tree import DATASET_PICTURES, MAX_FILE_BYTES, check_name, decode_image
from torch_utils.spectra import SPECTRA

BLOCK = tarfile.BLOCKSIZE
MAX_TEXT = 1 << 20  # bytes of a .cls, a .json or a header's extension
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class Member(NamedTuple):
    """One regular file in a tar."""

    name: str
    offset: int
    size: int


# ----------------------------------------------------------------------------
# Tar.


def tar_members(file: BinaryIO, size: int, where: str) -> Iterator[Member]:
    """The regular files of an uncompressed tar of `size` bytes, in order; each header is read, no content.

    Raises UserError, starting with `where`: not a tar, compressed, cut short, links and devices.
    """
    offset, overrides = 0, dict[str, str]()
    while True:
        block = _at(file, offset, BLOCK)
        if offset == 0 and block[:2] == b"\x1f\x8b":
            raise UserError(f"{where}: compressed with gzip, which has no random access; unpack it with gunzip")
        if len(block) < BLOCK:
            raise UserError(f"{where}: cut short, or not a tar: no end mark; fetch or copy it again")
        if not any(block):
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            length = int(overrides.get("size", info.size))
        except (tarfile.HeaderError, ValueError) as error:
            raise UserError(
                f"{where}: byte {offset} is no header of a tar ({error}); fetch or copy it again"
            ) from error
        name = overrides.get("path", info.name)
        data = offset + BLOCK
        if not info.isreg() and not info.isdir() and info.type not in (*_EXTENSIONS, *_LONG_NAMES):
            raise UserError(f"{where}: {ascii(name)[1:-1]} is a link or a device; only files have a place here")
        if info.isdir():
            length = 0
        if length < 0 or data + length > size:
            raise UserError(f"{where}: {ascii(name)[1:-1]} reaches beyond the file's end; fetch or copy it again")
        if info.type in _EXTENSIONS or info.type in _LONG_NAMES:
            overrides.update(_extension(file, info.type, data, length, where))
        else:
            if info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse") for key in overrides):
                raise UserError(f"{where}: {ascii(name)[1:-1]} is a sparse file; pack it again without --sparse")
            if info.isreg():
                yield Member(name, data, length)
            overrides = {}
        offset = data + length + -length % BLOCK


def _extension(file: BinaryIO, kind: bytes, offset: int, length: int, where: str) -> dict[str, str]:
    """What an extension says of the next member: path and size (pax: records `length key=value` and a newline)."""
    if length > MAX_TEXT:
        raise UserError(f"{where}: byte {offset}: a header of {length >> 20} MiB; refused")
    data = _at(file, offset, length)
    if kind == tarfile.XGLTYPE or kind == tarfile.GNUTYPE_LONGLINK:
        return {}  # of all members, such as a comment, and of links
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    found: dict[str, str] = {}
    begin = 0
    while begin < len(data):
        space = data.find(b" ", begin, begin + 8)
        digits = data[begin : max(space, begin)]
        end = begin + int(digits) if digits.isdigit() else 0
        key, equals, value = data[space + 1 : max(end - 1, 0)].partition(b"=")
        if not begin < end <= len(data) or not equals:
            raise UserError(f"{where}: byte {offset}: a header that cannot be read; fetch or copy it again")
        found[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        begin = end
    return found


def _at(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)


# ----------------------------------------------------------------------------
# Pictures in shards.


def shard_paths(path: StrPath) -> list[Path]:
    """The tar itself, or those of a folder in the order of their names."""
    place = Path(path)
    return sorted(place.glob("*.tar")) if place.is_dir() else [place]


class TarPictures:
    """Pictures of one spectrum in a tar or a folder of tars (a PictureSource). Safe to hand to worker processes.

    Raises:
        UserError: what `tar_members` raises, a picture without its class, no picture at all.
    """

    def __init__(self, path: StrPath, spectrum: str, option: str = "--data") -> None:
        self.spectrum = spectrum
        self.shards = shard_paths(path)
        self.names: list[str] = []
        self.identities: list[str] = []
        self._places: list[tuple[int, int, int]] = []  # shard, offset, size
        self._handle: tuple[int, int, BinaryIO] | None = None  # process, shard, file
        for shard, file_path in enumerate(self.shards):
            try:
                with open(file_path, "rb") as file:
                    self._index(shard, file, f"{option}: {file_path}")
            except OSError as error:
                raise UserError(f"{option}: {file_path}: cannot be read ({error.strerror})") from error
        if not self.names:
            raise UserError(f"{option}: {path}: no {SPECTRA[spectrum].folder} pictures in it")

    def _index(self, shard: int, file: BinaryIO, where: str) -> None:
        samples: dict[str, dict[str, Member]] = {}
        for member in tar_members(file, file.seek(0, os.SEEK_END), where):
            folder, slash, name = member.name.rpartition("/")
            key, dot, kind = name.partition(".")
            if dot and key:
                samples.setdefault(folder + slash + key, {})[kind.lower()] = member
        suffixes = DATASET_PICTURES.suffixes
        wanted = [f"{self.spectrum}{suffix}" for suffix in suffixes] + [suffix[1:] for suffix in suffixes]
        for key, members in samples.items():
            picture = next((members[kind] for kind in wanted if kind in members), None)
            if picture is None:
                continue
            if picture.size > MAX_FILE_BYTES:
                raise UserError(f"{where}: {picture.name}: {picture.size >> 20} MiB is more than a picture can be")
            self.names.append(key)
            self.identities.append(_identity(file, members, f"{where}: {key}"))
            for name in (self.names[-1], self.identities[-1]):
                check_name(name, where)
            self._places.append((shard, picture.offset, picture.size))

    def read(self, index: int) -> bytes:
        """The encoded picture."""
        shard, offset, size = self._places[index]
        try:
            if self._handle is None or self._handle[:2] != (os.getpid(), shard):  # no file position is shared
                self._handle = (os.getpid(), shard, open(self.shards[shard], "rb"))  # noqa: SIM115
            return _at(self._handle[2], offset, size)
        except OSError as error:
            raise UserError(f"{self.shards[shard]}: cannot be read ({error.strerror})") from error

    def decode(self, index: int) -> np.ndarray:
        """uint8 [H, W, C], C as the spectrum has it. Raises UserError where it cannot be read."""
        where = f"{self.shards[self._places[index][0]]}: {self.names[index]}"
        return decode_image(self.read(index), SPECTRA[self.spectrum].mode, where)

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_handle": None}


def _identity(file: BinaryIO, members: dict[str, Member], where: str) -> str:
    """The class number in .cls, or "identity" in .json."""
    for kind in ("cls", "json"):
        if kind not in members:
            continue
        if members[kind].size > MAX_TEXT:
            raise UserError(f"{where}.{kind}: {members[kind].size} bytes; refused")
        text = _at(file, *members[kind][1:])
        try:
            value = int(text) if kind == "cls" else json.loads(text)["identity"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise UserError(f"{where}.{kind}: holds no {'class number' if kind == 'cls' else 'identity'}") from error
        return str(value)
    raise UserError(f"{where}: has neither .cls with a class number nor .json with an identity")


# ----------------------------------------------------------------------------
# Writing.


def add_member(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Adds a file with no time and no owner, so that the same content gives the same bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    archive.addfile(info, io.BytesIO(data))


def add_sample(
    archive: tarfile.TarFile, key: str, pictures: Mapping[str, bytes], label: int, identity: str, sample: str
) -> None:
    """Adds what belongs together: pictures by what follows the key's dot, such as vis.png; class number; names."""
    for ending, data in pictures.items():
        add_member(archive, f"{key}.{ending}", data)
    add_member(archive, f"{key}.cls", str(label).encode())
    add_member(archive, f"{key}.json", json.dumps({"identity": identity, "sample": sample}).encode())
