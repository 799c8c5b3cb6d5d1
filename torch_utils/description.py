"""What is recorded beside pictures: dataset.json, as data. Whoever knows what a key means takes it from there."""

from __future__ import annotations

import json
import lzma
import math
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dnnlib.errors import UserError
from dnnlib.files import StrPath
from torch_utils.spectra import SPECTRA

DESCRIPTION = "dataset.json"
MOST_BYTES = 4 << 20  # a larger file of this name is another program's: ours has a few thousand


def describe(resolution: int | None, identities: int, images: int, spectra: Iterable[str] = SPECTRA) -> dict[str, Any]:
    """What every dataset.json says: pixels a side (None: of several sizes), people, pictures a spectrum, and how the
    spectra lie."""
    folders = {name: {"folder": SPECTRA[name].folder, "channels": SPECTRA[name].channels} for name in spectra}
    return {"resolution": resolution, "spectra": folders, "identities": identities, "images": images}


def describe_packed(
    format: str,
    source: str,
    dataset: Mapping[str, Any],
    images: int,
    identities: Sequence[str],
    spectra: Iterable[str] = SPECTRA,
) -> dict[str, Any]:
    """What the file beside a packed dataset says: above all whose each class number is, and how faces are aligned.

    source: what was packed, in words. dataset: its dataset.json. images: pictures a spectrum.
    """
    aligned = {key: dataset[key] for key in ("alignment", "alignment_points") if key in dataset}
    described = {"format": format, "source": source, **aligned, "spectra": list(spectra), "images": images}
    return {**described, "identities": list(identities)}


def read_description(place: StrPath, option: str = "--data") -> dict[str, Any]:
    """DATA/dataset.json, the same in DATA.zip, or what lies beside a packed file (people.rec.json; of shards, in their
    folder). {} where there is none, or where it cannot be ours: no object, or too large.

    Raises UserError, starting with `option`, for a file that cannot be read or is no JSON.
    """
    path = Path(place)
    beside = path.with_name(f"{path.name}.json")
    if path.suffix.lower() == ".zip" and path.is_file():
        where, read = path / DESCRIPTION, _in_zip
    elif path.is_file():
        where, read = beside, _on_disk
    else:
        shards = sorted(path.glob("*.tar.json"))
        where, read = shards[0] if len(shards) == 1 else path / DESCRIPTION, _on_disk
    try:
        data = read(where)
        found = json.loads(data, parse_float=_finite, parse_constant=_finite) if len(data) <= MOST_BYTES else {}
    except (FileNotFoundError, KeyError, NotADirectoryError):
        return {}
    except (ValueError, RecursionError) as error:
        raise UserError(f"{option}: {where}: not JSON ({error})") from error
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{option}: {where}: cannot be read ({error})") from error
    return found if isinstance(found, dict) else {}


def _finite(text: str) -> float:
    """Numbers that JSON has not would be found only where they are written again."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:20]} is no number")
    return value


def _on_disk(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # a pipe or a device would never end
        raise OSError("not a regular file")
    with open(path, "rb") as file:
        return file.read(MOST_BYTES + 1)


def _in_zip(path: Path) -> bytes:
    with zipfile.ZipFile(path.parent) as archive, archive.open(path.name) as file:
        return file.read(MOST_BYTES + 1)
