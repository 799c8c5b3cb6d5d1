"""Pictures for recognition training: which there are, whose they are, and their batches.

'vis'      RGB pictures
'nir'      grey pictures, repeated to three channels
'vis+nir'  both, with the labels shared: a person is one class in both spectra

A second, real set can be mixed in; its people are classes of their own. Sets that fit into memory are decoded once,
larger ones by worker processes as training goes. Which pictures a step shows is decided by whoever asks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from arcface.alignment import Template, frame_between, template_of
from arcface.choices import SPECTRA_CHOICES
from arcface.preprocess import preprocess
from dnnlib.errors import UserError
from dnnlib.files import StrPath
from dnnlib.progress import progress
from torch_utils.description import read_description
from torch_utils.images import to_uint8
from torch_utils.picture_source import PictureSource, StoredPictures, open_pictures
from torch_utils.readers import Loader, loader_options
from torch_utils.spectra import SPECTRA

MEMORY_BYTES = 1 << 30  # of decoded pictures, in each process; larger sets are streamed
DIGESTED = 16  # pictures whose pixels count in the digest: all of a large set would take too long
READ_AT_ONCE = 64  # pictures, where all are decoded before the training


# ----------------------------------------------------------------------------
# Sets of pictures.


@dataclass(frozen=True)
class PictureSet:
    """Pictures of some people at one place, in one or both spectra.

    sources: one for each spectrum. identities: the people, in the order of their first picture. option: the one that
    named the place, for messages. alignment: None: not known.
    """

    path: str
    option: str
    sources: tuple[PictureSource, ...]
    identities: tuple[str, ...]
    alignment: Template | None = None

    @property
    def spectra(self) -> list[str]:
        return [source.spectrum for source in self.sources]

    def rows(self, source: PictureSource) -> list[int]:
        """The pictures of a source that are of these people."""
        mine = set(self.identities)
        return [index for index, identity in enumerate(source.identities) if identity in mine]

    def split(self, holdout: int) -> tuple[PictureSet, PictureSet | None]:
        """(training, held out): the last `holdout` people are kept out; None where that is nobody.

        Raises UserError where that leaves fewer than two people on a side that is used.
        """
        count = len(self.identities)
        if holdout < 0 or holdout == 1 or (holdout and count - holdout < 2):
            raise UserError(f"--holdout: {holdout} of {count} identities; 0, or 2 to {max(2, count - 2)}, is possible")
        if count < 2:
            raise UserError(f"{self.option}: {self.path}: {count} identities to work on; at least 2 are needed")
        learned, unseen = self.identities[: count - holdout], self.identities[count - holdout :]
        held_out = replace(self, identities=unseen) if unseen else None
        if held_out is not None:
            held_out.check_testable()
        return replace(self, identities=learned), held_out

    def check_testable(self) -> None:
        """Raises UserError where nobody has two pictures in a spectrum: there would be no mated score to test on."""
        for source in self.sources:
            names = [source.identities[row] for row in self.rows(source)]
            if len(names) == len(set(names)):
                raise UserError(
                    f"--holdout: none of {len(self.identities)} people has two {source.spectrum} pictures to compare"
                )


def open_set(path: StrPath, spectra: str, option: str = "--data") -> PictureSet:
    """The pictures of `spectra` (a key of SPECTRA_CHOICES) at a place; no picture is read.

    Raises UserError where there are none of a spectrum, or where both would be the same pictures.
    """
    sources = tuple(open_pictures(path, spectrum, option) for spectrum in SPECTRA_CHOICES[spectra])
    if len(sources) > 1 and _is_one_place(sources):
        raise UserError(f"{option}: {path}: its pictures do not tell their spectrum; --spectra vis or nir would say it")
    people = dict.fromkeys(identity for source in sources for identity in source.identities)
    alignment = template_of(read_description(path, option), f"{option}: {path}")
    return PictureSet(str(path), option, sources, tuple(people), alignment)


def available_spectra(path: StrPath, wanted: str, option: str) -> str:
    """Of the wanted spectra those that are at a place: a key of SPECTRA_CHOICES.

    Raises UserError where there is none of them.
    """
    found, refusal = [], None
    for spectrum in SPECTRA_CHOICES[wanted]:
        try:
            found.append(open_pictures(path, spectrum, option))
        except UserError as error:
            refusal = refusal or error
    if not found and refusal is not None:
        raise refusal
    return "vis" if len(found) > 1 and _is_one_place(found) else "+".join(source.spectrum for source in found)


def _is_one_place(sources: Sequence[StoredPictures]) -> bool:
    """Whether two spectra's sources read the same files: what tells no spectrum is of whatever it is asked."""
    first, second = sources
    return first.names == second.names and first.read(0) == second.read(0)


# ----------------------------------------------------------------------------
# All pictures of a training.


class TrainingPictures(Dataset):
    """The pictures of one or two sets as one numbered list, with labels from 0 on.

    People of the second set are other people, whatever they are called. Item i is (uint8 [3, S, S], label); a list of
    items is read at once. alignment: of all pictures; None: not known of one set.

    Raises UserError for sets of two alignments: a network that sees both knows neither.
    """

    def __init__(self, sets: Sequence[PictureSet]) -> None:
        self.sets = sets
        self.alignment = _common_alignment(sets)
        self.sources: list[PictureSource] = []
        owners, rows, labels = [], [], []
        self.classes = 0
        for part in sets:
            label_of = {identity: self.classes + place for place, identity in enumerate(part.identities)}
            self.classes += len(label_of)
            for source in part.sources:
                mine = part.rows(source)
                owners += [len(self.sources)] * len(mine)
                rows += mine
                labels += [label_of[source.identities[row]] for row in mine]
                self.sources.append(source)
        self.owners, self.rows = np.array(owners, dtype=np.int32), np.array(rows, dtype=np.int64)
        self.labels = np.array(labels, dtype=np.int64)  # [N]

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """A picture's name for messages: 'VIS/012_4.png'."""
        source = self.sources[self.owners[index]]
        return f"{SPECTRA[source.spectrum].folder}/{source.names[self.rows[index]]}"

    def _set_of(self, index: int) -> PictureSet:
        return next(part for part in self.sets if self.sources[self.owners[index]] in part.sources)

    def decode(self, index: int) -> np.ndarray:
        """uint8 [H, H, C], as stored. Raises UserError where it cannot be read or is no square."""
        picture = self.sources[self.owners[index]].decode(int(self.rows[index]))
        height, width = picture.shape[:2]
        if height != width:
            where = f"{self._set_of(index).option}: {self._set_of(index).path}: {self.name(index)}"
            raise UserError(f"{where} is {width}x{height}; a square, as aligned faces are, is needed")
        return picture

    def record(self) -> dict[str, Any]:
        """For config.json and the model's header: where the pictures lie, how many they are, and a digest."""
        first, *others = (
            {
                "path": part.path,
                "spectra": part.spectra,
                "identities": len(part.identities),
                "pictures": sum(len(part.rows(source)) for source in part.sources),
            }
            for part in self.sets
        )
        return {**first, **({"real": others[0]} if others else {}), "digest": self.digest()}

    def digest(self) -> str:
        """16 hex digits that tell whether a run goes on with the same pictures, wherever they lie: names, labels, the
        pixels of a few, and what dataset.json or the archive's size says of the content."""
        sha = hashlib.sha256(json.dumps([part.spectra for part in self.sets]).encode())
        for part in self.sets:
            sha.update(_content_of(Path(part.path), part.option).encode())
        for index, label in enumerate(self.labels.tolist()):
            sha.update(f"{self.name(index)}\x1f{label}\n".encode())
        for index in np.linspace(0, len(self) - 1, min(DIGESTED, len(self))).astype(int).tolist():
            sha.update(self.decode(index).tobytes())
        return sha.hexdigest()[:16]


def _content_of(path: Path, option: str) -> str:
    if path.is_file():
        return str(path.stat().st_size)
    return str(read_description(path, option).get("content_digest", ""))


def _common_alignment(sets: Sequence[PictureSet]) -> Template | None:
    first, *others = sets
    for other in others:
        if frame_between(other.alignment, first.alignment) is not None:
            known = [part.alignment.name for part in (other, first) if part.alignment is not None]
            raise UserError(
                f"{other.option}: {other.path} is aligned as {known[0]}, {first.option} as {known[1]}; prepare both "
                "with one dataset_tool.py prepare --align"
            )
    return first.alignment if all(part.alignment is not None for part in sets) else None


# ----------------------------------------------------------------------------
# Batches.


class SizedPictures(Dataset):
    """The pictures at the network's input size: uint8 [3, S, S]. `sized` of a batch is what preprocess makes of it."""

    def __init__(self, pictures: TrainingPictures, size: int) -> None:
        self.pictures, self.size = pictures, size

    def read(self, index: int) -> torch.Tensor:
        """uint8 [C, S, S] of one picture."""
        picture = torch.from_numpy(self.pictures.decode(index).copy()).permute(2, 0, 1)  # [C, H, H]
        if picture.shape[1] != self.size:
            return to_uint8(preprocess(picture[None], self.size))[0, : len(picture)]
        return picture

    def __getitems__(self, indices: Sequence[int]) -> torch.Tensor | UserError:
        """uint8 [B, 3, S, S]. A mistake is returned: a worker's exception would come out with its traceback."""
        try:
            images = torch.empty(len(indices), 3, self.size, self.size, dtype=torch.uint8)
            for place, index in enumerate(indices):
                images[place] = self.read(index)  # one channel fills all three
            return images
        except UserError as error:
            return error

    def __getitem__(self, index: int) -> torch.Tensor | UserError:
        return self.__getitems__([index])


def _as_is(batch: Any) -> Any:
    return batch


def _loader(data: SizedPictures, batches: Iterable[np.ndarray], workers: int) -> Loader:
    return Loader(data, batch_sampler=_Batches(batches), collate_fn=_as_is, **loader_options(workers, prefetch=4))


class _Batches:
    """What a DataLoader takes for a batch sampler."""

    def __init__(self, batches: Iterable[np.ndarray]) -> None:
        self.batches = batches

    def __iter__(self) -> Generator[list[int], None, None]:
        for batch in self.batches:
            yield batch.tolist()


def fits_memory(pictures: TrainingPictures, size: int) -> bool:
    """Whether all pictures, decoded, take no more than MEMORY_BYTES."""
    channels = np.array([SPECTRA[source.spectrum].channels for source in pictures.sources])
    return int(channels[pictures.owners].sum()) * size * size <= MEMORY_BYTES


def read_batches(
    pictures: TrainingPictures,
    size: int,
    batches: Iterable[np.ndarray],
    workers: int = 0,
    in_memory: bool = True,
    show_progress: bool = True,
) -> Generator[torch.Tensor, None, None]:
    """uint8 [B, 3, S, S] for each array of indices [B]; the same whatever `workers` and `in_memory` are.

    in_memory: decode everything once, before this returns. workers: processes that decode; 0: this one does.
    Closing the generator ends the workers. Raises UserError that names a picture that cannot be read.
    """
    data = SizedPictures(pictures, size)
    if in_memory:
        return _kept(pictures, _decode_all(data, workers, show_progress), batches)
    return _streamed(data, batches, workers)


def _streamed(data: SizedPictures, batches: Iterable[np.ndarray], workers: int) -> Generator[torch.Tensor, None, None]:
    for found in _loader(data, batches, workers):
        yield _sound(found)


def _kept(
    pictures: TrainingPictures, kept: list[torch.Tensor], batches: Iterable[np.ndarray]
) -> Generator[torch.Tensor, None, None]:
    """kept: uint8 [n, C, S, S] of each source."""
    starts = np.searchsorted(pictures.owners, np.arange(len(kept)))
    for batch in batches:
        images = torch.empty(len(batch), 3, *kept[0].shape[2:], dtype=torch.uint8)
        for owner, own in enumerate(kept):
            mine = pictures.owners[batch] == owner  # [B]
            images[mine] = own[batch[mine] - starts[owner]].expand(-1, 3, -1, -1)
        yield images


def _decode_all(data: SizedPictures, workers: int, show_progress: bool) -> list[torch.Tensor]:
    """uint8 [n, C, S, S] of each source; channels as its spectrum has them."""
    owners = data.pictures.owners
    kept = []
    bar: tqdm = progress(total=len(owners), desc="read", unit="img", show=show_progress)
    with bar:
        for owner, source in enumerate(data.pictures.sources):
            mine = np.flatnonzero(owners == owner)
            images = torch.empty(len(mine), SPECTRA[source.spectrum].channels, data.size, data.size, dtype=torch.uint8)
            parts = np.split(mine, range(READ_AT_ONCE, len(mine), READ_AT_ONCE))
            for place, found in enumerate(_loader(data, parts, min(workers, len(parts)))):
                part = _sound(found)[:, : images.shape[1]]
                images[place * READ_AT_ONCE :][: len(part)] = part
                bar.update(len(part))
            kept.append(images)
    return kept


def _sound(found: torch.Tensor | UserError) -> torch.Tensor:
    if isinstance(found, UserError):
        raise found
    return found
