"""The files with image networks that the world measures with: where they come from, and where they are kept
(`python -m metrics.detectors` fetches them). No file is part of this project, and each has a licence of its own."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from dnnlib.cache import cache_folder
from dnnlib.files import sha256_file


class PublicFile(NamedTuple):
    """sha256: of the content, or its first digits, as publishers put them into names. most: bytes, with room to spare.
    serves: the metrics that look with it, in words."""

    file: str
    url: str
    sha256: str
    most: int
    serves: str
    licence: str


FILES = {
    "inception": PublicFile(
        "pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "6726825d",
        128 << 20,
        "fid, kid, is",
        "Apache-2.0 (pytorch-fid; the graph is of TensorFlow's authors)",
    ),
    "vgg16": PublicFile(
        "vgg16-397923af.pth",
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "397923af",
        640 << 20,
        "pr, ppl",
        "BSD-3-Clause (torchvision; the weights are converted from the authors', CC BY 4.0)",
    ),
    "lpips": PublicFile(
        "lpips-v0.1-vgg.pth",
        "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/vgg.pth",
        "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
        1 << 20,
        "ppl, beside vgg16",
        "BSD-2-Clause (lpips)",
    ),
}


def kept_at(name: str) -> Path:
    """Where a fetched file lies, or would."""
    return cache_folder("detectors", FILES[name].file)


def kept(name: str) -> Path | None:
    """A fetched file, unread."""
    return kept_at(name) if kept_at(name).is_file() else None


def way_to(*names: str) -> str:
    """What to do about missing files, for messages."""
    own = " and ".join(FILES[name].file for name in names)
    fetch = " and ".join(f"`python -m metrics.detectors fetch {name}`" for name in names)
    return f"--detector FILE with {own}, or {fetch}, brings it"


def is_sound(path: Path, name: str) -> bool:
    return sha256_file(path).startswith(FILES[name].sha256)
