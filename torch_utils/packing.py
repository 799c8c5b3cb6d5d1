"""A dataset in one file: zip, RecordIO or WebDataset shards (docs/formats.md).

Everything is read and decoded once before anything is written; what is written is whole or absent, and the same
pictures give the same bytes.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from dnnlib.errors import UserError
from dnnlib.files import StrPath, atomic_path, atomic_write_json, check_place, sha256_bytes
from dnnlib.progress import progress
from torch_utils.description import DESCRIPTION, describe, describe_packed, read_description
from torch_utils.image_tree import content_digest, encode_png, exif_orientation, split_name
from torch_utils.picture_source import StoredPictures, TreePictures, open_pictures
from torch_utils.recordio import LabelledPicture, write_pictures
from torch_utils.spectra import SPECTRA
from torch_utils.tar_shards import add_sample

SUFFIXES = {"zip": ".zip", "rec": ".rec", "webdataset": ".tar", "bin": ".bin"}
OPTIONS = {  # of dataset_tool.py pack, that go with some formats only
    "--spectra": ("zip", "rec", "webdataset"),
    "--shard-size": ("webdataset",),
    **dict.fromkeys(("--pairs", "--resolution", "--align", "--detector"), ("bin",)),
}


@dataclass(frozen=True)
class Packable:
    """Checked pictures on their way into a file.

    sources: by spectrum, with the same pictures in the same order. order: indices, one class after the other.
    labels: the class of each index. identities: the name of each class. resolution: of all pictures, None where they
    differ. hashes: (name in a dataset's tree, SHA-256) of every file.
    """

    data: str
    sources: dict[str, StoredPictures]
    order: list[int]
    labels: list[int]
    identities: list[str]
    resolution: int | None
    hashes: list[tuple[str, str]]

    def record(self, format: str) -> dict[str, Any]:
        """What the file beside a packed one says: above all, whose each class number is, and how faces are aligned."""
        known = read_description(self.data)
        described = describe_packed(format, self.data, known, len(self.order), self.identities, self.sources)
        return {**described, "content_digest": content_digest(self.hashes)}


def check_options(format: str, given: Mapping[str, Any]) -> None:
    """Raises UserError for an option (None: not given) that does not go with the format, and for one that must."""
    for name, value in given.items():
        if value is not None and format not in OPTIONS[name]:
            raise UserError(f"{name}: does not go with --format {format}; leave it out")
    if format == "bin" and given["--pairs"] is None:
        raise UserError("--pairs: needed with --format bin; LFW's pairs.txt, or lines of two pictures and 1 or 0")
    if given["--detector"] is not None and given["--align"] is None:
        raise UserError("--detector: goes with --align")


def check_target(dest: StrPath, format: str, overwrite: bool) -> None:
    """Raises UserError where `dest` has another format's suffix, or something would be replaced without leave."""
    path = Path(dest)
    if path.suffix.lower() != SUFFIXES[format]:
        raise UserError(f"--dest: {dest}: a name that ends in {SUFFIXES[format]} would be right for --format {format}")
    check_place(path, "--dest")
    there = [file for file in (path, path.with_suffix(".idx"), *written_shards(path)) if file.exists()]
    there = [file for file in there if file.suffix != ".idx" or format == "rec"]
    if there and not overwrite:
        raise UserError(f"--dest: {there[0]}: exists; --overwrite replaces it")


def record_path(dest: StrPath) -> Path:
    """The file beside a packed one that says what is in it, such as people.rec.json."""
    return Path(f"{dest}.json")


def open_packable(data: StrPath, spectra: Sequence[str], show_progress: bool = True) -> Packable:
    """Finds and decodes all pictures. Raises UserError, starting with --data, that names the first fault."""
    sources = {spectrum: open_pictures(data, spectrum) for spectrum in spectra}
    first = next(iter(sources.values()))
    for spectrum, source in sources.items():
        if alone := sorted(set(source.names) ^ set(first.names)):
            where = " and ".join(SPECTRA[name].folder for name in sources)
            raise UserError(f"--data: {data}: {len(alone)} pictures are not in both {where}, the first is {alone[0]}")
        if len(set(source.names)) != len(source.names) or source.names != first.names:
            raise UserError(f"--data: {data}: {spectrum} pictures have one name twice; names of their own are needed")
    if len(sources) > 1 and len({source.read(0) for source in sources.values()}) == 1:
        raise UserError(f"--spectra: {data} does not tell the pictures' spectrum; vis or nir would")
    identities = list(dict.fromkeys(first.identities))
    number = {identity: label for label, identity in enumerate(identities)}
    labels = [number[identity] for identity in first.identities]
    sizes, hashes = set(), []
    for index in progress(range(len(first)), desc="check", unit="picture", show=show_progress):
        for spectrum, source in sources.items():
            try:
                sizes.add(source.decode(index).shape[:2])
                hashes.append((_tree_name(source, spectrum, index), sha256_bytes(source.read(index))))
            except UserError as error:
                raise UserError(f"--data: {error}") from error
    side = next(iter(sizes))
    return Packable(
        data=str(data),
        sources=sources,
        order=sorted(range(len(first)), key=labels.__getitem__),
        labels=labels,
        identities=identities,
        resolution=side[0] if len(sizes) == 1 and side[0] == side[1] else None,
        hashes=hashes,
    )


def _tree_name(source: StoredPictures, spectrum: str, index: int) -> str:
    """Name of a picture in a tree: as it was in its own, or in a dataset's folders."""
    if isinstance(source, TreePictures):
        return source.tree.place(source.names[index])
    return f"{SPECTRA[spectrum].folder}/{source.names[index]}"


def _encoded(source: StoredPictures, index: int) -> tuple[bytes, str]:
    """A picture as it will be stored, and its suffix: its own bytes where every reader takes them for what they are
    (colours as the spectrum has them, not to be turned), else a PNG."""
    data = source.read(index)
    with Image.open(io.BytesIO(data)) as image:
        format, mode = image.format, image.mode
    if mode == SPECTRA[source.spectrum].mode and exif_orientation(data) in (None, 1):
        return data, "png" if format == "PNG" else "jpg"
    return encode_png(source.decode(index)), "png"


# ----------------------------------------------------------------------------
# Zip.


def write_zip(target: StrPath, files: Iterator[tuple[str, bytes]]) -> None:
    """A zip of stored files with one date, so that the same files give the same bytes."""
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, data)


def pack_zip(pack: Packable, dest: StrPath, show_progress: bool = True) -> None:
    """The dataset's own files, with dataset.json."""
    if not all(isinstance(source, TreePictures) for source in pack.sources.values()):
        raise UserError(f"--data: {pack.data}: --format zip packs folders and zips of pictures")

    def files() -> Iterator[tuple[str, bytes]]:
        yield DESCRIPTION, (json.dumps(_description(pack), indent=2) + "\n").encode()
        for index in progress(pack.order, desc="pack", unit="picture", show=show_progress):
            for spectrum, source in pack.sources.items():
                yield _tree_name(source, spectrum, index), source.read(index)

    write_zip(dest, files())


def _description(pack: Packable) -> dict[str, Any]:
    """dataset.json: the dataset's own where it has one, with what is in the zip."""
    return {
        **read_description(pack.data),
        **describe(pack.resolution, len(pack.identities), len(pack.order), pack.sources),
        "content_digest": content_digest(pack.hashes),
    }


# ----------------------------------------------------------------------------
# RecordIO.


def pack_rec(pack: Packable, dest: StrPath, show_progress: bool = True) -> None:
    """.rec, .idx and .json: the pictures of a pair one after the other, a class for both spectra."""
    pictures_of = Counter(pack.labels)
    counts = [pictures_of[label] * len(pack.sources) for label in range(len(pack.identities))]

    def pictures() -> Iterator[LabelledPicture]:
        for index in progress(pack.order, desc="pack", unit="picture", show=show_progress):
            for place, (spectrum, source) in enumerate(pack.sources.items()):
                yield LabelledPicture(pack.labels[index], spectrum, _encoded(source, index)[0], same_moment=place > 0)

    path = Path(dest)
    with atomic_path(path) as records, atomic_path(path.with_suffix(".idx")) as index:
        try:
            write_pictures(records, index, pictures(), counts)
        except ValueError as error:
            raise UserError(f"--data: {pack.data}: {error}") from error
    atomic_write_json(record_path(path), pack.record("rec"))


# ----------------------------------------------------------------------------
# WebDataset.


def written_shards(dest: Path) -> list[Path]:
    """Shards that carry the name of `dest`, such as name-000000.tar beside name.tar."""
    pattern = re.compile(re.escape(dest.stem) + r"-\d{6}\.tar")
    beside = dest.parent.iterdir() if dest.suffix.lower() == ".tar" and dest.parent.is_dir() else iter(())
    return sorted(file for file in beside if pattern.fullmatch(file.name))


def pack_shards(pack: Packable, dest: StrPath, shard_size: int | None, show_progress: bool = True) -> list[Path]:
    """One tar, or with `shard_size` name-000000.tar and so on with that many samples each; and .json. Returns the tars.

    All become visible at the end; shards of an earlier packing that are not replaced are removed.
    """
    path = Path(dest)
    keys = _keys(pack)
    size = shard_size or len(keys)
    bar = iter(progress(pack.order, desc="pack", unit="sample", show=show_progress))
    written: list[Path] = []
    before = written_shards(path)
    with contextlib.ExitStack() as stack:
        for number, begin in enumerate(range(0, len(keys), size)):
            written.append(path.with_name(f"{path.stem}-{number:06d}.tar") if shard_size else path)
            temporary = stack.enter_context(atomic_path(written[-1]))
            with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive:
                for key, index in zip(keys[begin : begin + size], bar, strict=False):
                    _add_sample(archive, pack, key, index)
    for file in before:
        if file not in written:
            file.unlink()
    atomic_write_json(record_path(path), pack.record("webdataset"))
    return written


def _add_sample(archive: tarfile.TarFile, pack: Packable, key: tuple[str, str, str], index: int) -> None:
    name, identity, sample = key
    encoded = {spectrum: _encoded(source, index) for spectrum, source in pack.sources.items()}
    pictures = {f"{spectrum}.{suffix}": data for spectrum, (data, suffix) in encoded.items()}
    add_sample(archive, name, pictures, pack.labels[index], identity, sample)


def _keys(pack: Packable) -> list[tuple[str, str, str]]:
    """(key, identity, sample) of each picture, in the order of packing; dots would end a key, slashes make folders."""
    first = next(iter(pack.sources.values()))
    found: dict[str, tuple[str, str, str]] = {}
    for index in pack.order:
        identity, name = first.identities[index], first.names[index]
        try:
            sample = split_name(name)[1] if not _by_folder(first) else PurePosixPath(name).stem
        except UserError:
            sample = PurePosixPath(name).stem
        key = re.sub(r"[./\\]", "-", f"{identity}_{sample}")
        if key in found:
            raise UserError(f"--data: {pack.data}: two pictures would be {key} in a shard, one is {name}; rename it")
        found[key] = (key, identity, sample)
    return list(found.values())


def _by_folder(source: StoredPictures) -> bool:
    return isinstance(source, TreePictures) and not source.tree.prefix
