"""MXNet's RecordIO files (.rec with .idx) and the labelled pictures in them, as InsightFace's training sets have them.

A record is a chain of parts: uint32 magic; uint32 whose upper 3 bits say which part it is (0 the whole record, 1 the
first, 2 a middle one, 3 the last) and whose lower 29 bits are its length; the bytes; zeros up to a multiple of 4.
Where a payload holds the magic at a multiple of 4 bytes it is split there and the magic left out, so that the
magic at such a place always begins a part. All numbers are little endian. A picture's record begins with a header
(`ImageHeader`), and .idx is text with a line `key<TAB>offset` a record. docs/formats.md has it byte by byte.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from dnnlib.errors import UserError
from dnnlib.files import StrPath
from dnnlib.progress import progress
from torch_utils.image_tree import MAX_FILE_BYTES, decode_image
from torch_utils.spectra import SPECTRA

MAGIC = 0xCED7230A
WHOLE, FIRST, MIDDLE, LAST = range(4)
MAX_LENGTH = (1 << 29) - 1
MAX_EXACT = 1 << 24  # labels are float32, and whole numbers beyond this are not exact
# id2 of a picture's header; anything else, as the 0 of public files, leaves the spectrum open.
SPECTRUM_IDS = {name: number for number, name in enumerate(SPECTRA, 1)}

_PART = struct.Struct("<II")
_MAGIC_BYTES = struct.pack("<I", MAGIC)
_HEADER = struct.Struct("<IfQQ")


# ----------------------------------------------------------------------------
# Records.


def encode_record(payload: bytes) -> bytes:
    """The bytes of one record. Raises ValueError for a payload of 512 MiB or more."""
    if len(payload) > MAX_LENGTH:
        raise ValueError(f"a record of {len(payload)} bytes; at most {MAX_LENGTH}")
    parts = list(_split(payload))
    kinds = [WHOLE] if len(parts) == 1 else [FIRST, *[MIDDLE] * (len(parts) - 2), LAST]
    return b"".join(
        _PART.pack(MAGIC, kind << 29 | len(part)) + part + bytes(-len(part) % 4)
        for kind, part in zip(kinds, parts, strict=True)
    )


def _split(payload: bytes) -> Iterator[bytes]:
    """The payload between the magics that lie at multiples of 4 bytes."""
    begin = search = 0
    while (place := payload.find(_MAGIC_BYTES, search)) >= 0:
        if place % 4:
            search = place + 1
            continue
        yield payload[begin:place]
        begin = search = place + 4
    yield payload[begin:]


class RecordFile:
    """Records of one file by position: `keys[i]` is record i's key. Safe to hand to worker processes.

    The .idx beside the file tells keys and offsets; without one the file is read through for them, and the keys are
    the records' numbers. Raises UserError, starting with `option`, where either is not what it should be.
    """

    def __init__(self, path: StrPath, option: str = "--data") -> None:
        self.path = Path(path)
        self._handle: tuple[int, BinaryIO] | None = None
        self._where = f"{option}: {self.path}"
        if not self.path.is_file():
            raise UserError(f"{self._where}: no such file")
        self._size = self.path.stat().st_size
        index = self.path.with_suffix(".idx")
        if index.is_file():
            self.keys, self._offsets = _read_index(index, self._size, option)
        else:
            self._offsets = list(self._scan())
            self.keys = list(range(len(self._offsets)))

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, position: int) -> bytes:
        """The payload of one record."""
        return self._read_parts(self._offsets[position])[0]

    def start(self, position: int, count: int) -> bytes:
        """The first `count` bytes of a record's payload, or all of a shorter one, without reading the rest."""
        kind, length = self._part(self._offsets[position], (WHOLE, FIRST))
        if kind == FIRST:  # the magic could lie among the first bytes
            return self.read(position)[:count]
        return self._bytes(min(length, count))

    def _scan(self) -> Iterator[int]:
        offset = 0
        while offset < self._size:
            yield offset
            offset = self._end_of_record(offset)

    def _end_of_record(self, offset: int) -> int:
        kind, length = self._part(offset, (WHOLE, FIRST))
        offset += _PART.size + length + -length % 4
        while kind not in (WHOLE, LAST):
            kind, length = self._part(offset, (MIDDLE, LAST))
            offset += _PART.size + length + -length % 4
        return offset

    def _read_parts(self, offset: int) -> tuple[bytes, int]:
        """Payload of the record at `offset`, and where the next one begins."""
        kind, length = self._part(offset, (WHOLE, FIRST))
        parts, total = [self._bytes(length)], length
        offset += _PART.size + length + -length % 4
        while kind not in (WHOLE, LAST):
            kind, length = self._part(offset, (MIDDLE, LAST))
            total += 4 + length
            self._check(total <= MAX_FILE_BYTES, offset, "a record of more bytes than a picture can have")
            parts.append(self._bytes(length))
            offset += _PART.size + length + -length % 4
        return _MAGIC_BYTES.join(parts), offset

    def _part(self, offset: int, expected: tuple[int, int]) -> tuple[int, int]:
        """Kind and length of the part at `offset`, within the file; the handle stands at its bytes."""
        self._check(0 <= offset <= self._size - _PART.size, offset, "cut short")
        self._open().seek(offset)
        magic, word = _PART.unpack(self._bytes(_PART.size))
        kind, length = word >> 29, word & MAX_LENGTH
        self._check(magic == MAGIC, offset, "no record begins here")
        self._check(kind in expected, offset, "parts of records in an order that cannot be")
        self._check(length <= MAX_FILE_BYTES, offset, f"{length >> 20} MiB is more than a picture can be")
        self._check(offset + _PART.size + length <= self._size, offset, "cut short")
        return kind, length

    def _bytes(self, count: int) -> bytes:
        try:
            data = self._open().read(count)
        except OSError as error:
            raise UserError(f"{self._where}: cannot be read ({error.strerror})") from error
        if len(data) != count:
            raise UserError(f"{self._where}: has become shorter than it was when it was opened")
        return data

    def _check(self, sound: bool, offset: int, fault: str) -> None:
        if not sound:
            raise UserError(f"{self._where}: byte {offset}: {fault}; fetch or copy the .rec and its .idx again")

    def _open(self) -> BinaryIO:
        """A handle of this process's own: a shared file position would mix up workers' reads."""
        if self._handle is None or self._handle[0] != os.getpid():
            try:
                self._handle = (os.getpid(), open(self.path, "rb"))  # noqa: SIM115
            except OSError as error:
                raise UserError(f"{self._where}: cannot be read ({error.strerror})") from error
        return self._handle[1]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_handle": None}


def _read_index(path: Path, size: int, option: str) -> tuple[list[int], list[int]]:
    """Keys and offsets of an .idx file that belongs to a .rec of `size` bytes."""
    most = size // _PART.size + 1  # records that the .rec can have
    if path.stat().st_size > 48 * most:
        raise UserError(f"{option}: {path}: has more lines than its .rec has records; it is another file's")
    keys, offsets = [], []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            key, offset = (int(word) for word in line.split(b"\t"))
        except ValueError as error:
            raise UserError(f"{option}: {path}: line {number} is no key and offset with a tab between") from error
        keys.append(key)
        offsets.append(offset)
    if len(keys) > most or len(set(keys)) != len(keys):
        raise UserError(f"{option}: {path}: has a key twice, or more lines than its .rec has records")
    return keys, offsets


# ----------------------------------------------------------------------------
# Pictures in records.


class ImageHeader(NamedTuple):
    """What a picture's record begins with: uint32 flag, float32 label, uint64 id, uint64 id2; with a flag over 0 that
    many float32 labels follow, and the header's own label says nothing."""

    labels: tuple[float, ...]
    id: int
    id2: int
    size: int  # bytes of it, behind which the picture lies


def encode_image_record(labels: float | tuple[float, ...], number: int, id2: int, picture: bytes = b"") -> bytes:
    """The payload of a picture's record: one label as a number, or several, then the encoded picture."""
    if isinstance(labels, tuple):
        return _HEADER.pack(len(labels), 0.0, number, id2) + struct.pack(f"<{len(labels)}f", *labels) + picture
    return _HEADER.pack(0, labels, number, id2) + picture


def decode_image_header(start: bytes) -> ImageHeader:
    """The header that a payload begins with; of many labels only those that lie within `start`.

    Raises ValueError where there is no header or no label.
    """
    if len(start) < _HEADER.size:
        raise ValueError("shorter than a picture's header")
    flag, label, number, id2 = _HEADER.unpack_from(start)
    if not flag:
        return ImageHeader((label,), number, id2, _HEADER.size)
    there = min(flag, (len(start) - _HEADER.size) // 4)
    if not there:
        raise ValueError("its header announces labels that are not there")
    return ImageHeader(struct.unpack_from(f"<{there}f", start, _HEADER.size), number, id2, _HEADER.size + 4 * flag)


class RecordPictures:
    """Pictures of one spectrum in a .rec, with the class number as the identity (a PictureSource).

    A picture's name is its key or, where the record tells its spectrum, the id, which the pictures of one moment share.
    Records without a picture, such as InsightFace's header and identity records, are passed over. Where no record
    tells its spectrum, as in public files, all are taken to be of the one that is asked for.

    Raises:
        UserError: a damaged file, a record that is none of a picture, a label that is no class number.
    """

    def __init__(self, path: StrPath, spectrum: str, option: str = "--data") -> None:
        self.file = RecordFile(path, option)
        self.spectrum = spectrum
        self.names: list[str] = []
        self.identities: list[str] = []
        self._positions: list[int] = []
        known: dict[float, str] = {}  # one text a class, not one a picture
        many = len(self.file) > 200_000  # a minute for some millions
        for position, key in enumerate(progress(self.file.keys, desc="index", unit="record", show=many)):
            where = f"{option}: {path}: record {key}"
            try:
                header = self._header(position)
            except ValueError as error:
                raise UserError(f"{where}: {error}; not a file of pictures") from error
            if header is None:
                continue
            if header.id2 in SPECTRUM_IDS.values() and header.id2 != SPECTRUM_IDS[spectrum]:
                continue
            label = header.labels[0]
            if label not in known:
                if not math.isfinite(label) or label < 0 or label != int(label):
                    raise UserError(f"{where}: label {label} is no class number; 0, 1, 2, ... would be right")
                known[label] = str(int(label))
            self._positions.append(position)
            self.names.append(str(header.id if header.id2 in SPECTRUM_IDS.values() else key))
            self.identities.append(known[label])
        if not self.names:
            raise UserError(f"{option}: {path}: no {SPECTRA[spectrum].folder} pictures in it")

    def _header(self, position: int) -> ImageHeader | None:
        """A record's header, None where no picture follows. Raises ValueError where there is none, or not all of it."""
        start = self.file.start(position, _HEADER.size + 8)
        header = decode_image_header(start)
        if len(start) <= header.size:
            start = self.file.start(position, header.size + 1)
        if len(start) < header.size:
            raise ValueError("its header announces labels that are not there")
        return header if len(start) > header.size else None

    def read(self, index: int) -> bytes:
        """The encoded picture."""
        payload = self.file.read(self._positions[index])
        return payload[decode_image_header(payload).size :]

    def decode(self, index: int) -> np.ndarray:
        """uint8 [H, W, C], C as the spectrum has it. Raises UserError where it cannot be read."""
        where = f"{self.file.path}: record {self.file.keys[self._positions[index]]}"
        return decode_image(self.read(index), SPECTRA[self.spectrum].mode, where)

    def __len__(self) -> int:
        return len(self.names)


class LabelledPicture(NamedTuple):
    """One encoded picture on its way into a .rec."""

    label: int  # class number
    spectrum: str
    data: bytes
    same_moment: bool = False  # as the picture before it, in another spectrum


def write_pictures(record_path: Path, index_path: Path, pictures: Iterable[LabelledPicture], counts: list[int]) -> None:
    """Writes .rec and .idx as InsightFace's training sets have them.

    Record 0 has the labels (number of pictures + 1, that + number of classes): the keys of the identity records.
    Pictures have the keys from 1 on, in order, and each class's identity record the first key and the one after the
    last of its pictures. The id of pictures of one moment is the key of the first of them.

    Args:
        pictures: the classes one after the other, from class 0 on.
        counts: how many pictures each class has.

    Raises:
        ValueError: pictures that are not as `counts` says, or more than float32 labels can number.
    """
    total, classes = sum(counts), len(counts)
    if total + classes + 1 > MAX_EXACT:
        raise ValueError(f"{total} pictures of {classes} people; a .rec numbers at most {MAX_EXACT}")
    with open(record_path, "wb") as records, open(index_path, "w", encoding="ascii", newline="\n") as index:

        def put(key: int, payload: bytes) -> None:
            index.write(f"{key}\t{records.tell()}\n")
            records.write(encode_record(payload))

        put(0, encode_image_record((float(total + 1), float(total + 1 + classes)), 0, 0))
        expected = [label for label, count in enumerate(counts) for _ in range(count)]
        moment = 0
        for key, (picture, label) in enumerate(zip(pictures, expected, strict=True), 1):
            if picture.label != label:
                raise ValueError(f"picture {key} is of class {picture.label} where one of class {label} is due")
            moment = moment if picture.same_moment else key
            put(key, encode_image_record(float(label), moment, SPECTRUM_IDS[picture.spectrum], picture.data))
        begin = 1
        for label, count in enumerate(counts):
            put(total + 1 + label, encode_image_record((float(begin), float(begin + count)), total + 1 + label, 0))
            begin += count
