"""Trees of pairs as ArcBiFaceGAN writes them: id_0/VIS/sample_0_VIS.png and id_0/NIR/sample_0_NIR.png are a pair.

Such a picture has the name that it would have with us, 0/0.png, the same in both spectra; `place` tells where it lies.
"""

import re
from pathlib import Path

from dnnlib.errors import UserError
from dnnlib.files import StrPath
from torch_utils.image_tree import ImageTree, PairedTree
from torch_utils.spectra import SPECTRA

PLACE = re.compile(r"id_(?P<identity>[^/]+)/(?P<folder>[^/]+)/sample_(?P<sample>[^/]+)_(?P=folder)(?P<suffix>\.[^./]+)")


class RenamedTree(ImageTree):
    """The pictures of one spectrum below ArcBiFaceGAN's folders."""

    def __init__(self, path: StrPath, folder: str, option: str = "--data") -> None:
        super().__init__(path, option=option)
        found = [match for name in self.names if (match := PLACE.fullmatch(name)) and match["folder"] == folder]
        self._places = {f"{match['identity']}/{match['sample']}{match['suffix']}": match[0] for match in found}
        self.names = sorted(self._places)

    def place(self, name: str) -> str:
        return self._places[name]


class OriginalTree(PairedTree):
    """A PairedTree of ArcBiFaceGAN's folders."""

    def _open_trees(self, option: str) -> dict[str, ImageTree]:
        return {name: RenamedTree(self.root, spectrum.folder, option) for name, spectrum in SPECTRA.items()}


def open_pairs(path: StrPath, option: str = "--data") -> PairedTree:
    """The pairs in a folder or zip, in our layout (VIS/, NIR/) or in ArcBiFaceGAN's (id_0/VIS/, id_0/NIR/).

    Raises UserError, starting with `option`, for what is neither.
    """
    root = Path(path)
    ours = any((root / spectrum.folder).is_dir() for spectrum in SPECTRA.values())
    if not ours and any(PLACE.fullmatch(name) for name in ImageTree(root, option=option).names):
        return OriginalTree(root, option)
    if not ours and root.is_dir():
        raise UserError(f"{option}: {root}: neither VIS/ and NIR/ in it, nor folders like id_0/VIS and id_0/NIR")
    return PairedTree(root, option)
