"""Trees of PNG and JPEG pictures, in a folder or in one zip, and trees of VIS/NIR pairs.

Pictures come from others and are taken to be hostile: sizes are read before pixels, zip members are never
unpacked to disk, and what cannot be read is refused in one line that names it.
"""

import contextlib
import io
import lzma
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from dnnlib.errors import UserError
from dnnlib.files import StrPath, sha256_bytes
from torch_utils.description import read_description
from torch_utils.spectra import SPECTRA


class PictureKinds(NamedTuple):
    """File formats that are read: Pillow's names, the suffixes that a tree lists, and what messages say."""

    formats: tuple[str, ...]
    suffixes: tuple[str, ...]
    words: str


DATASET_PICTURES = PictureKinds(("PNG", "JPEG"), (".png", ".jpg", ".jpeg"), "PNG or JPEG")
CAPTURES = PictureKinds(  # what cameras write, and `dataset_tool.py prepare` reads
    ("PNG", "JPEG", "BMP", "TIFF"), (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"), "PNG, JPEG, BMP or TIFF"
)
END_MARKS = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}
BROKEN_PICTURE = (  # what Pillow raises for headers and data that lie
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, AttributeError, EOFError,
    MemoryError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
MAX_FILE_BYTES = 256 << 20
MAX_PIXELS = 16384 * 16384 // 4


# ----------------------------------------------------------------------------
# One picture.


@contextlib.contextmanager
def _opened(data: bytes, kinds: PictureKinds) -> Iterator[Image.Image]:
    """Pillow's picture, header read. Its warnings would stand between the lines of a progress bar: errors tell."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data), formats=kinds.formats) as image:
            yield image


def decode_image(data: bytes, mode: str, name: str, kinds: PictureKinds = DATASET_PICTURES) -> np.ndarray:
    """Bytes of a picture -> uint8 [H, W, C], C = 3 for mode 'RGB', 1 for mode 'L'.

    EXIF rotation is applied, 16-bit grey is scaled to 8 bits, palettes and CMYK are converted, an alpha channel
    is dropped where it is opaque; of a phone's MPO the main picture is read, other files of several are refused.
    Raises UserError that starts with `name` for all that cannot be read rightly.
    """
    try:
        with _opened(data, kinds) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(f"{name}: {image.width}x{image.height} pixels are more than a face picture needs")
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise UserError(f"{name}: holds several pictures (animated, or pages); save the right one alone")
            image.load()
            picture = ImageOps.exif_transpose(image)
    except UnidentifiedImageError as error:
        raise UserError(f"{name}: not a {kinds.words} picture") from error
    except BROKEN_PICTURE as error:
        raise UserError(f"{name}: broken picture ({error})") from error
    mark = END_MARKS.get("JPEG" if image.format == "MPO" else str(image.format))
    if mark is not None and data.rfind(mark) < 0:  # Pillow reads on where the last bytes are missing
        raise UserError(f"{name}: broken picture (it is cut short)")
    pixels = np.asarray(_to_mode(picture, mode, name), dtype=np.uint8)
    return pixels.reshape(pixels.shape[0], pixels.shape[1], -1)  # [H, W, C]


def exif_orientation(data: bytes, kinds: PictureKinds = DATASET_PICTURES) -> int | None:
    """How a picture says that it is to be turned, 1 (not at all) to 8; None where it says nothing valid."""
    try:
        with _opened(data, kinds) as image:
            found = image.getexif().get(ExifTags.Base.Orientation)
    except (UnidentifiedImageError, *BROKEN_PICTURE):
        return None
    return found if found in range(1, 9) else None


def _to_mode(picture: Image.Image, mode: str, name: str) -> Image.Image:
    if picture.mode.startswith("I"):  # 16-bit grey; Pillow would clip it, not scale it
        values = np.asarray(picture).astype(np.int64)
        picture = Image.fromarray(((values.clip(0, 65535) * 255 + 32767) // 65535).astype(np.uint8))
    if picture.mode == "F":
        raise UserError(f"{name}: floating-point pixels; save it with 8 bits a channel")
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if np.asarray(picture)[..., 3].min() < 255:
            raise UserError(f"{name}: has transparent pixels; save it without an alpha channel")
    if picture.mode == "P":
        picture = picture.convert("RGB")
    return picture if picture.mode == mode else picture.convert(mode)


def encode_png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W, 3] or [H, W, 1] or [H, W] -> PNG bytes, the same for the same pixels (and Pillow's zlib)."""
    array = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array, dtype=np.uint8)).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


# ----------------------------------------------------------------------------
# Names.


def check_name(name: str, where: str) -> None:
    """Raises UserError for a name that is not UTF-8: neither digests nor archives could hold it."""
    if any("\ud800" <= sign <= "\udfff" for sign in name):  # what Python makes of bytes that are none
        raise UserError(f"{where}: {ascii(name)[1:-1]}: the name is not in UTF-8; rename it")


def split_name(name: str) -> tuple[str, str]:
    """Picture name -> (identity, sample): '012_4.png' and '012/4.png' both give ('012', '4').

    An underscore in the file's name decides, else the folder is the identity. Raises UserError where neither is there.
    """
    path = PurePosixPath(name)
    identity, underscore, sample = path.stem.rpartition("_")
    if not underscore:
        identity, sample = path.parent.name, path.stem
    if not identity or not sample:
        raise UserError(f"{name}: no identity before the underscore; name it like 012_4.png or 012/4.png")
    return identity, sample


def content_digest(hashes: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over the sorted (name, SHA-256 of the file) of a tree: changes with any name or any byte."""
    return sha256_bytes("\n".join(f"{name} {digest}" for name, digest in sorted(hashes)).encode())


# ----------------------------------------------------------------------------
# A tree of pictures.


class ImageTree:
    """The pictures below a folder, or below `prefix` in a zip: `.names` sorted, '/' between folders.

    Raises UserError, starting with `option`, where there is no such folder or zip. Safe to hand to worker processes.
    """

    def __init__(
        self, path: StrPath, prefix: str = "", option: str = "--data", kinds: PictureKinds = DATASET_PICTURES
    ) -> None:
        self.path = Path(path)
        self.kinds = kinds
        self.prefix = f"{prefix.strip('/')}/" if prefix else ""
        self._zip: tuple[int, zipfile.ZipFile] | None = None
        self._option = option
        if self.is_zip:
            self.names = self._zip_names()
        elif self.path.is_dir():
            self.names = self._folder_names()
        else:
            raise UserError(f"{option}: {self.path}: no such folder or zip")
        for name in self.names:
            check_name(name, f"{option}: {self.label}")

    @property
    def is_zip(self) -> bool:
        return self.path.suffix.lower() == ".zip" and self.path.is_file()

    @property
    def label(self) -> str:
        """What messages call the tree."""
        return f"{self.path}/{self.prefix}".rstrip("/")

    def place(self, name: str) -> str:
        """Where the picture lies below `path`, '/' between folders."""
        return self.prefix + name

    def read(self, name: str) -> bytes:
        """The bytes of one picture file, its CRC compared in a zip.

        Raises UserError where it cannot be read or is larger than any picture.
        """
        place = self.place(name)
        where = f"{self.path}/{place}"
        try:
            if self.is_zip:
                info = self._open_zip().getinfo(place)
                self._check_size(info.file_size, where)
                return self._open_zip().read(info)
            path = self.path / place
            if not path.is_file():  # a pipe or a device would never end
                raise UserError(f"{where}: not a regular file")
            self._check_size(path.stat().st_size, where)
            return path.read_bytes()
        except (OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
            raise UserError(f"{where}: cannot be read ({error})") from error

    def size(self, name: str) -> int:
        """How many bytes `read(name)` would give. Raises UserError where the file is gone."""
        place = self.place(name)
        try:
            return self._open_zip().getinfo(place).file_size if self.is_zip else (self.path / place).stat().st_size
        except (OSError, KeyError) as error:
            raise UserError(f"{self.path}/{place}: cannot be read ({error})") from error

    def decode(self, name: str, mode: str) -> np.ndarray:
        """One picture as uint8 [H, W, C]; see decode_image."""
        return self.decode_bytes(self.read(name), name, mode)

    def decode_bytes(self, data: bytes, name: str, mode: str) -> np.ndarray:
        """`decode` of what `read(name)` gave."""
        return decode_image(data, mode, f"{self.path}/{self.place(name)}", self.kinds)

    def _folder_names(self) -> list[str]:
        root = self.path / self.prefix
        found = []
        for folder, _, files in os.walk(root):
            inner = Path(folder).relative_to(root)
            found += [(inner / file).as_posix() for file in files if file.lower().endswith(self.kinds.suffixes)]
        return sorted(name for name in found if not PurePosixPath(name).name.startswith("."))

    def _zip_names(self) -> list[str]:
        names = [name[len(self.prefix) :] for name in self._open_zip().namelist() if name.startswith(self.prefix)]
        return sorted(name for name in names if name.lower().endswith(self.kinds.suffixes))

    def _open_zip(self) -> zipfile.ZipFile:
        """A handle of this process's own: a shared file position would mix up workers' reads."""
        if self._zip is None or self._zip[0] != os.getpid():
            try:
                self._zip = (os.getpid(), zipfile.ZipFile(self.path))
            except (OSError, RuntimeError, ValueError, struct.error, zipfile.BadZipFile) as error:
                raise UserError(f"{self._option}: {self.path}: not a readable zip ({error})") from error
        return self._zip[1]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_zip": None}

    @staticmethod
    def _check_size(size: int, where: str) -> None:
        if size > MAX_FILE_BYTES:
            raise UserError(f"{where}: {size >> 20} MiB is more than a picture can be")


# ----------------------------------------------------------------------------
# A tree of pairs.


def _has_pairs(folder: Path) -> bool:
    return all((folder / spectrum.folder).is_dir() for spectrum in SPECTRA.values())


def no_pairs(root: Path, folder: str) -> str:
    """Why `root`, in which `folder` is not, is no dataset of pairs, and which one may be meant."""
    if not root.is_dir():
        return "is no folder or zip; VIS/ and NIR/ are needed" if root.exists() else "no such folder or zip"
    near = [root.parent, *sorted(path for path in root.iterdir() if path.is_dir())]
    meant = next((place for place in near if _has_pairs(place)), None)
    advice = f"; {meant} may be meant" if meant else ""
    return f"no folder {folder}/ in it (VIS/ and NIR/ are needed, in capitals){advice}"


def refuse_among_pictures(folder: StrPath, option: str) -> None:
    """Raises UserError for a place to write to that lies in a dataset's VIS/ or NIR/: pictures there would be its."""
    place = Path(folder).resolve()
    names = [spectrum.folder for spectrum in SPECTRA.values()]
    for above in (place, *place.parents):
        if above.name in names and _has_pairs(above.parent):
            raise UserError(f"{option}: {folder}: lies among the pictures of {above.parent}; name a folder outside")


class PairedTree:
    """`DATA/VIS` and `DATA/NIR` (or one zip of the same tree) with the same names in both.

    `.names` sorted; `.identities[i]` and `.samples[i]` are those of `.names[i]`. Raises UserError, starting with
    `option`, for an empty tree, a picture without its partner, an unusable name, and one sample given twice.
    """

    def __init__(self, root: StrPath, option: str = "--data") -> None:
        self.root = Path(root)
        self.option = option
        self.trees = self._open_trees(option)
        self._check_partners(option)
        self.names = self.trees["vis"].names
        self.identities, self.samples = self._split_names(option)

    def read(self, spectrum: str, name: str) -> bytes:
        """The bytes of one picture of a pair."""
        return self.trees[spectrum].read(name)

    def decode(self, spectrum: str, name: str) -> np.ndarray:
        """One picture of a pair, uint8 [H, W, 3] for 'vis', [H, W, 1] for 'nir'."""
        return self.trees[spectrum].decode(name, SPECTRA[spectrum].mode)

    def description(self) -> dict[str, Any]:
        """What dataset.json beside VIS/ and NIR/ says; see `read_description`."""
        return read_description(self.root, self.option)

    def content_digest(self) -> str:
        """SHA-256 of all names and bytes, as in dataset.json; reads every file."""
        return content_digest(
            (f"{SPECTRA[spectrum].folder}/{name}", sha256_bytes(tree.read(name)))
            for spectrum, tree in self.trees.items()
            for name in tree.names
        )

    def __len__(self) -> int:
        return len(self.names)

    def _open_trees(self, option: str) -> dict[str, ImageTree]:
        inside_zip = self.root.suffix.lower() == ".zip" and self.root.is_file()
        for spectrum in SPECTRA.values():
            if not inside_zip and not (self.root / spectrum.folder).is_dir():
                raise UserError(f"{option}: {self.root}: {no_pairs(self.root, spectrum.folder)}")
        return {name: ImageTree(self.root, prefix=one.folder, option=option) for name, one in SPECTRA.items()}

    def _check_partners(self, option: str) -> None:
        names = {spectrum: set(tree.names) for spectrum, tree in self.trees.items()}
        if not any(names.values()):
            inner = next((name for name in ImageTree(self.root, option=option).names if "/VIS/" in name), "")
            advice = f", but in {inner.partition('VIS/')[0]}; they must lie at the top" if inner else ""
            raise UserError(f"{option}: {self.root}: no PNG or JPEG pictures in VIS/ and NIR/{advice}")
        for own, other in (("vis", "nir"), ("nir", "vis")):
            if alone := sorted(names[own] - names[other]):
                raise UserError(
                    f"{option}: {self.root}: {len(alone)} {SPECTRA[own].folder} images have no {SPECTRA[other].folder} "
                    f"partner, the first is {alone[0]}"
                )

    def _split_names(self, option: str) -> tuple[list[str], list[str]]:
        seen: dict[tuple[str, str], str] = {}
        for name in self.names:
            try:
                key = split_name(name)
            except UserError as error:
                raise UserError(f"{option}: {self.root}/VIS/{error}") from error
            if key in seen:
                raise UserError(
                    f"{option}: {self.root}/VIS: {seen[key]} and {name} are both sample {key[1]} of identity {key[0]}"
                )
            seen[key] = name
        return [identity for identity, _ in seen], [sample for _, sample in seen]
