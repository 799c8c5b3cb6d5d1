"""Labelled pictures of one spectrum, wherever they lie: what recognition training, embedding and packing read.

`open_pictures` looks at a path and returns a source. A source is cheap to make (it reads names and labels, no pixels),
can be handed to worker processes, and decodes one picture at a time.
"""

from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from dnnlib.errors import UserError
from dnnlib.files import StrPath
from torch_utils.image_tree import ImageTree, split_name
from torch_utils.original_tree import PLACE, RenamedTree, open_pairs
from torch_utils.recordio import RecordPictures
from torch_utils.spectra import SPECTRA
from torch_utils.tar_shards import TarPictures


class Pictures(Protocol):
    """Pictures that can be handed to worker processes. names[i] is picture i's name for messages and records."""

    names: list[str]

    def decode(self, index: int) -> np.ndarray:
        """Picture `index` as uint8 [H, W, C], C 3 or 1. Raises UserError where it cannot be read."""
        ...

    def __len__(self) -> int: ...


class PictureSource(Pictures, Protocol):
    """Pictures of one spectrum, with as many channels as it has; identities[i] is picture i's person."""

    identities: list[str]
    spectrum: str


class StoredPictures(PictureSource, Protocol):
    """Pictures that lie on disk, encoded."""

    def read(self, index: int) -> bytes:
        """The encoded bytes of picture `index`. Raises UserError where they cannot be read."""
        ...


class TreePictures:
    """Pictures of an ImageTree.

    Args:
        by_folder: True: a person is a folder, whatever the files are called, as in most public sets; False: our
            datasets' names, 012_4.png or 012/4.png (`split_name`).

    Raises:
        UserError: a name that tells no person.
    """

    def __init__(self, tree: ImageTree, spectrum: str, by_folder: bool, option: str = "--data") -> None:
        self.tree = tree
        self.spectrum = spectrum
        self.names = tree.names
        try:
            self.identities = [_folder_of(name) if by_folder else split_name(name)[0] for name in tree.names]
        except UserError as error:
            raise UserError(f"{option}: {tree.label}/{error}") from error

    def read(self, index: int) -> bytes:
        return self.tree.read(self.names[index])

    def decode(self, index: int) -> np.ndarray:
        return self.tree.decode(self.names[index], SPECTRA[self.spectrum].mode)

    def __len__(self) -> int:
        return len(self.names)


def _folder_of(name: str) -> str:
    folder = PurePosixPath(name).parent.as_posix()
    if folder == ".":
        raise UserError(f"{name}: lies in no person's folder; VIS/ and NIR/, or a folder a person, would be right")
    return folder


def open_pictures(path: StrPath, spectrum: str, option: str = "--data") -> StoredPictures:
    """The pictures of one spectrum at `path`: a dataset with VIS/ and NIR/, or as ArcBiFaceGAN writes it; a tree (or
    zip) with a folder a person, a .rec, a .tar, or a folder of .tar shards, whose pictures are taken to be of
    `spectrum` where they do not tell.

    Raises UserError, starting with `option`, where there are none or a name tells no person.
    """
    place = Path(path)
    if place.suffix.lower() == ".rec":
        return RecordPictures(place, spectrum, option)
    if _holds_shards(place):
        return TarPictures(place, spectrum, option)
    return _open_tree(place, spectrum, option)


def open_spectra(path: StrPath, needed: str, option: str = "--data") -> dict[str, StoredPictures]:
    """The pictures of the spectrum `needed` at `path`, in any form that `open_pictures` reads or as ArcBiFaceGAN's
    tree; where they lie there as pairs, those of the others too, in the same order. A folder with one .rec is that.

    Raises UserError, starting with `option`, where there are none.
    """
    root = Path(path)
    if root.is_dir() or root.suffix.lower() == ".zip":
        names = ImageTree(root, option=option).names
        ours = all(any(name.startswith(f"{one.folder}/") for name in names) for one in SPECTRA.values())
        if ours or any(PLACE.fullmatch(name) for name in names):
            trees = open_pairs(root, option).trees
            return {name: TreePictures(tree, name, by_folder=False, option=option) for name, tree in trees.items()}
        packed = sorted(root.glob("*.rec")) if root.is_dir() else []
        root = packed[0] if len(packed) == 1 else root  # a dataset that was written as one, with what lies beside it
    main = open_pictures(root, needed, option)
    return {needed: main, **_others(root, needed, main, option)}


def _others(root: Path, needed: str, main: StoredPictures, option: str) -> dict[str, StoredPictures]:
    """The other spectra of a packed file of pairs: the same names with other pictures."""
    found: dict[str, StoredPictures] = {}
    for name in (name for name in SPECTRA if name != needed):
        try:
            other = open_pictures(root, name, option)
        except UserError:  # it holds none of them
            continue
        if other.names == main.names and other.read(0) != main.read(0):
            found[name] = other
    return found


def _holds_shards(place: Path) -> bool:
    if place.is_file():
        return place.name.lower().endswith((".tar", ".tar.gz", ".tgz"))  # a compressed one is refused with a reason
    paired = any((place / spectrum.folder).is_dir() for spectrum in SPECTRA.values())
    return place.is_dir() and not paired and any(place.glob("*.tar"))


def _open_tree(path: Path, spectrum: str, option: str) -> TreePictures:
    whole = ImageTree(path, option=option)
    folders = {name.split("/", 1)[0] for name in whole.names}
    paired = any(other.folder in folders for other in SPECTRA.values())
    named = [name for name in folders if not paired and name.upper() in {other.folder for other in SPECTRA.values()}]
    if named:  # else they would be taken for two people
        raise UserError(f"{option}: {path}: {named[0]}/ in it; {named[0].upper()}/, in capitals, would be right")
    folder = SPECTRA[spectrum].folder
    if not paired and any(PLACE.fullmatch(name) for name in whole.names):
        return TreePictures(RenamedTree(path, folder, option), spectrum, by_folder=False, option=option)
    if paired and folder not in folders:
        raise UserError(f"{option}: {path}: no pictures in {folder}/")
    tree = ImageTree(path, prefix=folder, option=option) if paired else whole
    if not tree.names:
        raise UserError(f"{option}: {path}: no PNG or JPEG pictures in it")
    return TreePictures(tree, spectrum, by_folder=not paired, option=option)
