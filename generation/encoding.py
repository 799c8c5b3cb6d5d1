"""Pictures -> bytes of PNG or JPEG files, in this process or beside it, and what is read back from them.

A JPEG shows not quite the picture that was drawn. The filter must judge what will be in the dataset, so with JPEG every
candidate is encoded and decoded again before it is embedded, and an accepted one is stored as those same bytes
(`Encoder.stored`). A PNG gives its pixels back, so only what is accepted is encoded, while the networks go on
(`Encoder.begin`). Bytes depend on pixels, format and quality alone, never on the number of processes.
"""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dnnlib.workers import Pool
from generation.candidates import Candidates, Encoded, Pictures
from generation.choices import DEFAULT_QUALITY, FULL_COLOUR_FROM
from torch_utils import stop_signals
from torch_utils.image_tree import decode_image, encode_png
from torch_utils.spectra import SPECTRA

MOST_WORKERS = 8  # by default: a GPU's worth of 256x256 pairs


@dataclass(frozen=True)
class Encoding:
    """A file format. quality: of JPEG, 1 to 100."""

    format: str = "png"
    quality: int = DEFAULT_QUALITY

    @property
    def lossless(self) -> bool:
        return self.format == "png"

    def record(self) -> dict[str, str | int]:
        """What settings.json says."""
        return {"image_format": self.format, **({} if self.lossless else {"quality": self.quality})}

    def encode(self, pixels: NDArray[np.uint8]) -> bytes:
        """uint8 [C, H, W], C 3 or 1 -> a file's bytes."""
        rows = pixels.transpose(1, 2, 0)  # [H, W, C]
        if self.lossless:
            return encode_png(rows)
        buffer = io.BytesIO()
        subsampling = "4:4:4" if self.quality >= FULL_COLOUR_FROM else "4:2:0"
        image = Image.fromarray(np.ascontiguousarray(rows[..., 0] if rows.shape[2] == 1 else rows))
        image.save(buffer, format="JPEG", quality=self.quality, subsampling=subsampling)
        return buffer.getvalue()


def decode(data: bytes, spectrum: str) -> NDArray[np.uint8]:
    """A file's bytes -> uint8 [C, H, W], as every reader of the dataset gets it."""
    return decode_image(data, SPECTRA[spectrum].mode, spectrum).transpose(2, 0, 1)


def encode_pair(encoding: Encoding, pair: Pictures) -> Encoded:
    """pair: spectrum -> uint8 [C, H, W]."""
    return {spectrum: encoding.encode(pixels) for spectrum, pixels in pair.items()}


def _there_and_back(encoding: Encoding, pair: Pictures) -> tuple[Encoded, Pictures]:
    encoded = encode_pair(encoding, pair)
    return encoded, {spectrum: decode(data, spectrum) for spectrum, data in encoded.items()}


# ----------------------------------------------------------------------------
# Many.


class Encoder:
    """Encodes pairs, with processes of its own or without. To be used in a `with`.

    workers: processes. They are copies of this one where the system can (a tenth of a second; Python anew elsewhere)
    and only encode and decode, as the readers of training do beside torch and CUDA: make one before the work begins.
    """

    def __init__(self, encoding: Encoding | None = None, workers: int = 0) -> None:
        self.encoding = encoding or Encoding()
        self.pairs, self.bytes = 0, 0  # so far
        self._pool = Pool(workers, _leave_signals_to_the_parent if workers else None, fork=True)
        for wait in [self._pool.submit(abs, 0) for _ in range(workers)]:
            wait()

    @property
    def beside(self) -> bool:
        """Whether other processes encode, while this one goes on."""
        return self._pool.workers > 0

    def begin(self, pair: Pictures) -> Callable[[], Encoded]:
        """Has a pair (spectrum -> uint8 [C, H, W]) encoded; what comes back waits for the bytes."""
        wait = self._pool.submit(partial(encode_pair, self.encoding), pair)
        return lambda: self._counted(wait())

    def stored(self, pictures: Pictures) -> tuple[Pictures, list[Encoded] | None]:
        """What N candidates look like once they are stored, each [N, C, H, W], and the bytes of each with JPEG."""
        if self.encoding.lossless:
            return pictures, None
        pairs = [_pair(pictures, row) for row in range(len(next(iter(pictures.values()))))]
        job = partial(_there_and_back, self.encoding)
        results = [wait() for wait in [self._pool.submit(job, pair) for pair in pairs]]
        back = {spectrum: np.stack([decoded[spectrum] for _, decoded in results]) for spectrum in pictures}
        return back, [self._counted(encoded) for encoded, _ in results]

    @property
    def pair_bytes(self) -> float:
        """Mean size of a pair's files so far."""
        return self.bytes / max(1, self.pairs)

    def _counted(self, encoded: Encoded) -> Encoded:
        self.pairs += 1
        self.bytes += sum(map(len, encoded.values()))
        return encoded

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *details: object) -> None:
        self._pool.__exit__(*details)


def begin_encoding(encoder: Encoder, made: Candidates, rows: Sequence[int]) -> list[Callable[[], Encoded]]:
    """Has some candidates encoded, if they are not yet; what comes back waits for the files of each."""
    if made.encoded is not None:
        return [partial(made.encoded.__getitem__, row) for row in rows]
    return [encoder.begin(_pair(made.pictures, row)) for row in rows]


def _pair(pictures: Pictures, row: int) -> Pictures:
    """One candidate's pictures, each [C, H, W]."""
    return {spectrum: images[row] for spectrum, images in pictures.items()}


def _leave_signals_to_the_parent() -> None:
    """Ctrl-C reaches all of a terminal's processes; these end when the one that they work for does."""
    stop_signals.ignore()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def default_workers(device_type: str, processes: int = 1) -> int:
    """None on a CPU, whose every core draws already; beside a GPU, this process's share of the machine's processors.

    processes: those of the run on this machine.
    """
    if device_type == "cpu":
        return 0
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_WORKERS, available // processes - 1))
