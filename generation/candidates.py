"""Candidates: identity features and latents in, picture pairs with their embeddings and detected faces out.

A candidate is attempt j of slot i. Its latent comes from the stream (seed, 'latent', i, j); attempt 0 is the slot's
reference, the first sample of the person. Candidates are always rendered and embedded in chunks of one size, padded
at the end, and a chunk holds either references of neighbouring slots or attempts of one slot: so the networks see the
same tensors whatever the batch, and a picture's bytes do not depend on what else was asked for.

The networks come in as three callables on numpy arrays; generation.networks makes them from this project's classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from generation.privacy_diversity import Unit, unit_rows
from torch_utils.streams import stream

LATENT_SIZE = 512

Pictures = dict[str, NDArray[np.uint8]]  # spectrum -> [N, C, H, W]
Encoded = dict[str, bytes]  # spectrum -> a file's bytes
Embeddings = dict[str, Unit]  # spectrum -> [N, D], rows of length one; VIS always


class Renderer(Protocol):
    """latents float32 [N, Z], features float32 [N, D] -> pictures of each spectrum."""

    def __call__(self, latents: NDArray[np.float32], features: NDArray[np.float32]) -> Pictures: ...


class Embedder(Protocol):
    """Pictures of one spectrum, uint8 [N, C, H, W], -> raw identity features float [N, D]."""

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Faces:
    """What the detector saw in N pictures."""

    found: NDArray[np.bool_]  # [N] exactly one face
    probability: NDArray[np.float64]  # [N]
    points: NDArray[np.float64]  # [N, 5, 2] pixels, NaN where there is none


Detector = Callable[[NDArray[np.uint8]], Faces]


# N pictures as drawn -> as they will be read from the dataset, and the files' bytes where they are made already.
Stored = Callable[[Pictures], "tuple[Pictures, list[Encoded] | None]"]


def as_drawn(pictures: Pictures) -> tuple[Pictures, list[Encoded] | None]:
    """What is stored as PNG: nothing is lost, and most files are never needed."""
    return pictures, None


@dataclass(frozen=True)
class Candidates:
    """N candidates. `faces` is None where nothing was detected on purpose. encoded: the bytes of their files, None
    where those are made of `pictures` without a loss, and of what is accepted only."""

    pictures: Pictures  # each [N, C, H, W], as stored
    embeddings: Embeddings  # each [N, D]
    faces: Faces | None
    encoded: list[Encoded] | None = None  # N of them
    norms: dict[str, NDArray[np.float64]] = field(default_factory=dict)  # each [N], lengths of the raw features


class CandidateMaker:
    """Makes candidates with given networks; holds no state that changes.

    chunk: candidates that go through the networks at once (--round). detector: None for none. embedded: spectra
    that are embedded. stored: what pictures look like once they are stored (generation.encoding): those are judged.
    """

    def __init__(
        self,
        renderer: Renderer,
        embedder: Embedder,
        detector: Detector | None,
        seed: int,
        chunk: int,
        latent_size: int = LATENT_SIZE,
        embedded: Sequence[str] = ("vis",),
        stored: Stored = as_drawn,
    ) -> None:
        if chunk < 1:
            raise ValueError(f"chunk must be positive, not {chunk}")
        self.renderer, self.embedder, self.detector = renderer, embedder, detector
        self.seed, self.chunk, self.latent_size, self.embedded = seed, chunk, latent_size, embedded
        self.stored = stored

    def latents(self, slots: Sequence[int], attempts: Sequence[int]) -> NDArray[np.float32]:
        """float32 [N, Z], each row from a stream of its own."""
        rows = [
            stream(self.seed, "latent", slot, attempt).standard_normal(self.latent_size)
            for slot, attempt in zip(slots, attempts, strict=True)
        ]
        return np.asarray(rows, dtype=np.float32)

    def make(
        self, features: NDArray[np.float32], slots: Sequence[int], attempts: Sequence[int], detect: bool = False
    ) -> Candidates:
        """One chunk of at most `chunk` candidates. features: [N, D], a row a candidate. detect: look for faces too.

        Raises ValueError for more than a chunk, and RuntimeError where the networks return something that is not a
        picture or not a feature.
        """
        count = len(slots)
        if not 0 < count <= self.chunk or len(features) != count:
            raise ValueError(f"{count} candidates and {len(features)} features for a chunk of {self.chunk}")
        padding = np.minimum(np.arange(self.chunk), count - 1)  # the last one again
        pictures = self.renderer(self.latents(slots, attempts)[padding], features[padding])
        for name, images in pictures.items():
            if images.dtype != np.uint8 or images.ndim != 4 or len(images) != self.chunk:
                raise RuntimeError(f"the renderer gave {images.dtype} {images.shape} as {name} pictures")
        shown, encoded = self.stored({name: images[:count] for name, images in pictures.items()})
        full = {name: images[padding] for name, images in shown.items()} if count < self.chunk else shown
        raw = {name: np.asarray(self.embedder(full[name]))[:count] for name in self.embedded}
        try:
            embeddings = {name: unit_rows(features) for name, features in raw.items()}
        except ValueError as error:
            raise RuntimeError(f"slot {slots[0]}: {error}; the generator or the recognition model is broken") from error
        faces = self.detector(full["vis"]) if detect and self.detector else None
        return Candidates(
            shown,
            embeddings,
            faces and Faces(faces.found[:count], faces.probability[:count], faces.points[:count]),
            encoded,
            {name: np.linalg.norm(features.astype(np.float64), axis=1) for name, features in raw.items()},
        )
