"""Where the pictures of a dataset lie: `--format`.

    folder      OUT/VIS/{identity}/{sample}.png, OUT/NIR/...
    original    OUT/id_{identity}/VIS/sample_{sample}_VIS.png, ArcBiFaceGAN's tree
    webdataset  OUT/pairs-000000.tar, ...: tars of 100 people each, with members as dataset_tool.py pack has them
    rec         OUT/pairs.rec and pairs.idx, RecordIO for InsightFace and MXNet

A tree gets a complete person's pictures at once. For the packed formats no tree of millions of files is made: the
person waits in one tar in OUT/.parts/waiting, and when all are there the waiting ones are put together in the order of
their numbers. Meanwhile a shard, or the whole .rec, is there twice (`spare`). All can be repeated: a file that exists
is whole, and what went into it waits no longer.
"""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from dnnlib.errors import UserError
from dnnlib.files import StrPath, atomic_path, atomic_write_bytes
from generation.candidates import Encoded
from torch_utils.recordio import MAX_EXACT, LabelledPicture, RecordFile, decode_image_header, write_pictures
from torch_utils.spectra import SPECTRA
from torch_utils.tar_shards import Member, add_member, add_sample, tar_members

PACKED = "pairs"  # what packed files are called
SHARD_PEOPLE = 100  # in a tar
WAITING = "waiting"
WRITERS = 8  # threads

Places = dict[str, str]  # spectrum -> where the picture lies below OUT; of packed ones file/member or file/key


class Layout(Protocol):
    """A format."""

    @property
    def spare(self) -> float:
        """Disk that the finished pictures take while they are put together, as a multiple of their own."""

    def add(self, identity: int, samples: Sequence[Encoded]) -> None:
        """The pairs of a complete person. In any process and any order; a killed run may add a person again."""

    def finish(self, identities: Sequence[int]) -> None:
        """All people who are in the dataset have been added, `identities` in order. In one process; may be repeated."""

    def places(self, identity: int, sample: int) -> Places:
        """Where a pair lies in the finished dataset."""

    def read(self, identity: int, sample: int, spectrum: str) -> bytes:
        """A picture's file of the finished dataset."""


# ----------------------------------------------------------------------------
# Trees.


class FolderLayout:
    """VIS/{identity}/{sample}.png, NIR/..."""

    spare = 1.0

    def __init__(self, outdir: StrPath, suffix: str = "png") -> None:
        self.root, self.suffix = Path(outdir), suffix

    def places(self, identity: int, sample: int) -> Places:
        return {name: f"{one.folder}/{identity}/{sample}.{self.suffix}" for name, one in SPECTRA.items()}

    def add(self, identity: int, samples: Sequence[Encoded]) -> None:
        files = [
            (self.root / place, pair[spectrum])
            for sample, pair in enumerate(samples)
            for spectrum, place in self.places(identity, sample).items()
        ]
        with ThreadPoolExecutor(WRITERS) as pool:  # a disk takes its time for each, but takes many at once
            list(pool.map(atomic_write_bytes, *zip(*files, strict=True)))

    def finish(self, identities: Sequence[int]) -> None:
        pass

    def read(self, identity: int, sample: int, spectrum: str) -> bytes:
        return (self.root / self.places(identity, sample)[spectrum]).read_bytes()


class OriginalLayout(FolderLayout):
    """id_{identity}/VIS/sample_{sample}_VIS.png, id_{identity}/NIR/..."""

    def places(self, identity: int, sample: int) -> Places:
        folders = {name: one.folder for name, one in SPECTRA.items()}
        return {
            name: f"id_{identity}/{folder}/sample_{sample}_{folder}.{self.suffix}" for name, folder in folders.items()
        }


# ----------------------------------------------------------------------------
# Packed.


class Waiting:
    """Complete people in OUT/.parts/waiting, a tar each: whole or absent."""

    def __init__(self, parts: Path, suffix: str) -> None:
        self.folder, self.suffix = parts / WAITING, suffix

    def put(self, identity: int, samples: Sequence[Encoded]) -> None:
        with atomic_path(self._path(identity)) as temporary, tarfile.open(temporary, "w") as archive:
            for sample, pair in enumerate(samples):
                for spectrum, data in pair.items():
                    add_member(archive, f"{sample}.{spectrum}.{self.suffix}", data)

    def get(self, identity: int) -> Iterator[Encoded]:
        """A person's pairs in order, one at a time. Raises UserError where they are gone."""
        path = self._path(identity)
        where = f"--outdir: {path}"
        try:
            with open(path, "rb") as file:
                members = list(tar_members(file, path.stat().st_size, where))
                pair: Encoded = {}
                for member in members:
                    file.seek(member.offset)
                    pair[member.name.split(".")[1]] = file.read(member.size)
                    if len(pair) == len(SPECTRA):
                        yield pair
                        pair = {}
        except OSError as error:
            raise UserError(f"{where}: cannot be read ({error.strerror}); start with --overwrite") from error

    def forget(self, identities: Sequence[int]) -> None:
        for identity in identities:
            self._path(identity).unlink(missing_ok=True)

    def _path(self, identity: int) -> Path:
        return self.folder / f"{identity // 1000:03d}" / f"{identity:06d}.tar"


class ShardLayout:
    """pairs-000000.tar, ...: SHARD_PEOPLE people each, in the order of their numbers."""

    spare = 1.0  # and a shard

    def __init__(self, outdir: StrPath, parts: Path, suffix: str = "png") -> None:
        self.root, self.suffix = Path(outdir), suffix
        self.waiting = Waiting(parts, suffix)
        self._indexed: tuple[str, dict[str, Member]] = ("", {})  # members of the shard that was read last

    def add(self, identity: int, samples: Sequence[Encoded]) -> None:
        self.waiting.put(identity, samples)

    def finish(self, identities: Sequence[int]) -> None:
        labels = {identity: label for label, identity in enumerate(identities)}
        for number, group in itertools.groupby(identities, lambda identity: identity // SHARD_PEOPLE):
            people = list(group)
            path = self.root / _shard(number)
            if not path.exists():
                with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive:
                    for identity in people:
                        self._write(archive, identity, labels[identity])
            self.waiting.forget(people)

    def _write(self, archive: tarfile.TarFile, identity: int, label: int) -> None:
        for sample, pair in enumerate(self.waiting.get(identity)):
            files = {f"{spectrum}.{self.suffix}": data for spectrum, data in pair.items()}
            add_sample(archive, f"{identity}_{sample}", files, label, str(identity), str(sample))

    def places(self, identity: int, sample: int) -> Places:
        shard = _shard(identity // SHARD_PEOPLE)
        return {name: f"{shard}/{identity}_{sample}.{name}.{self.suffix}" for name in SPECTRA}

    def read(self, identity: int, sample: int, spectrum: str) -> bytes:
        shard, _, name = self.places(identity, sample)[spectrum].partition("/")
        with open(self.root / shard, "rb") as file:
            if self._indexed[0] != shard:  # people are read one after the other
                members = tar_members(file, (self.root / shard).stat().st_size, f"--outdir: {self.root / shard}")
                self._indexed = (shard, {member.name: member for member in members})
            member = self._indexed[1][name]
            file.seek(member.offset)
            return file.read(member.size)


def _shard(number: int) -> str:
    return f"{PACKED}-{number:06d}.tar"


class RecordLayout:
    """pairs.rec and pairs.idx: a class a person, in the order of their numbers."""

    spare = 2.0

    def __init__(self, outdir: StrPath, parts: Path, samples_per_id: int, suffix: str = "png") -> None:
        self.path, self.samples = Path(outdir) / f"{PACKED}.rec", samples_per_id
        self.waiting = Waiting(parts, suffix)
        self.rows: dict[int, int] = {}  # identity -> class
        self._file: RecordFile | None = None

    def add(self, identity: int, samples: Sequence[Encoded]) -> None:
        self.waiting.put(identity, samples)

    def finish(self, identities: Sequence[int]) -> None:
        self.rows = {identity: label for label, identity in enumerate(identities)}
        if not self.path.exists():
            counts = [self.samples * len(SPECTRA)] * len(identities)
            with atomic_path(self.path) as records, atomic_path(self.path.with_suffix(".idx")) as index:
                write_pictures(records, index, self._pictures(), counts)
        self.waiting.forget(identities)

    def _pictures(self) -> Iterator[LabelledPicture]:
        for identity, label in self.rows.items():
            for pair in self.waiting.get(identity):
                for place, spectrum in enumerate(SPECTRA):
                    yield LabelledPicture(label, spectrum, pair[spectrum], same_moment=place > 0)

    def _key(self, identity: int, sample: int, spectrum: str) -> int:
        return 1 + (self.rows[identity] * self.samples + sample) * len(SPECTRA) + list(SPECTRA).index(spectrum)

    def places(self, identity: int, sample: int) -> Places:
        return {name: f"{self.path.name}/{self._key(identity, sample, name)}" for name in SPECTRA}

    def read(self, identity: int, sample: int, spectrum: str) -> bytes:
        if self._file is None:
            self._file = RecordFile(self.path, "--outdir")
        payload = self._file.read(self._key(identity, sample, spectrum))  # keys are positions
        return payload[decode_image_header(payload).size :]


# ----------------------------------------------------------------------------
# All of them.


def check_layout(format: str, ids: int, samples_per_id: int) -> None:
    """Raises UserError where the format cannot hold so many pictures."""
    records = 1 + ids * (1 + samples_per_id * len(SPECTRA))
    if format == "rec" and records > MAX_EXACT:
        raise UserError(
            f"--format: rec: {records:,} records, and a .rec numbers at most {MAX_EXACT:,}; "
            "webdataset would be right for so many, or several runs with fewer --ids"
        )


def build_layout(format: str, outdir: StrPath, parts: Path, samples_per_id: int, suffix: str = "png") -> Layout:
    """The layout of `--format`. parts: folder of unfinished work. suffix: of pictures' names."""
    if format == "webdataset":
        return ShardLayout(outdir, parts, suffix)
    if format == "rec":
        return RecordLayout(outdir, parts, samples_per_id, suffix)
    return {"folder": FolderLayout, "original": OriginalLayout}[format](outdir, suffix)


def packed_file(format: str) -> str | None:
    """What a packed format's description lies beside (torch_utils.description): pairs.tar or pairs.rec."""
    return {"webdataset": f"{PACKED}.tar", "rec": f"{PACKED}.rec"}.get(format)
