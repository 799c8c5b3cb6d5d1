"""Stand-ins for the networks: a renderer whose pictures spell out an embedding, and the embedder that reads it back.

The embedding of a candidate is its identity feature's direction plus `spread` times its latent, so pictures of one
person vary, and everything that the filter decides on can be known without a network.
"""

from __future__ import annotations

import numpy as np

from generation import pipeline, writers
from generation.candidates import CandidateMaker, Faces
from generation.encoding import Encoder
from generation.identity_sampling import RandomIdentities
from generation.parts import Parts
from generation.records import Plan
from generation.selection import Selection
from generation.storage import Storage
from generation.thresholds import Thresholds
from torch_utils.search import Gallery

SIZE = 24  # of a feature and a latent
SIDE = 8  # of a picture
HALF_RANGE = 2.0  # values in [-2, 2] go into 16 bits


class FakeRenderer:
    """Counts its calls and checks that every chunk is full."""

    def __init__(self, chunk: int, spread: float = 0.12) -> None:
        self.chunk, self.spread, self.calls = chunk, spread, 0

    def __call__(self, latents, features):
        assert latents.shape == (self.chunk, SIZE) and features.shape == (self.chunk, SIZE)
        self.calls += 1
        directions = features / np.linalg.norm(features, axis=1, keepdims=True)
        values = np.clip((directions + self.spread * latents) / HALF_RANGE, -1, 1)
        words = np.round((values + 1) / 2 * 65535).astype(np.uint16)  # [N, SIZE]
        flat = np.zeros((len(words), 3 * SIDE * SIDE), dtype=np.uint8)
        flat[:, 0 : 2 * SIZE : 2], flat[:, 1 : 2 * SIZE : 2] = words >> 8, words & 255
        vis = flat.reshape(-1, 3, SIDE, SIDE)
        return {"vis": vis, "nir": 255 - vis[:, :1]}


def fake_embed(images):
    """uint8 [N, 3, SIDE, SIDE] -> float32 [N, SIZE]"""
    flat = images.reshape(len(images), -1).astype(np.int64)
    words = flat[:, 0 : 2 * SIZE : 2] * 256 + flat[:, 1 : 2 * SIZE : 2]
    return ((words / 65535 * 2 - 1) * HALF_RANGE).astype(np.float32)


def fake_detect(images):
    """One picture in five has no face, one in five looks aside; which one, the first value decides."""
    kind = images.reshape(len(images), -1)[:, 1].astype(np.int64) % 5
    points = np.zeros((len(images), 5, 2))
    points[:, 0, 0], points[:, 1, 0], points[:, 2, 0] = -1, 1, np.where(kind == 1, 0.9, 0.0)
    return Faces(found=kind != 0, probability=np.full(len(images), 0.99), points=points)


# At these, with the default plan below, every rule refuses somebody and some people run out of tries.
THRESHOLDS = Thresholds("fake", mated_mean=0.7, mated_sd=0.1, unique=0.5, same=0.65, repeat=0.78)


def real_features(count: int = 30, seed: int = 5):
    rows = np.random.default_rng(seed).normal(size=(count, SIZE))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make_selection(
    outdir,
    *,
    seed=0,
    spread=0.15,
    real=None,
    thresholds=THRESHOLDS,
    watch=None,
    detect=True,
    maker_class=CandidateMaker,
    encoder=None,
    layout="folder",
    **plan,
):
    options = {"ids": 8, "samples_per_id": 5, "tries": 20, "round_size": 8, "max_slots": 200, **plan}
    maker = maker_class(
        FakeRenderer(options["round_size"], spread),
        fake_embed,
        fake_detect if detect else None,
        seed=seed,
        chunk=options["round_size"],
        latent_size=SIZE,
    )
    real = real_features() if real is None else real
    sampler, wanted = RandomIdentities(seed, 4.0, SIZE), Plan(**options)
    places = Storage(layout).build(outdir, wanted)
    gallery = Gallery.of(real)
    selection = Selection(wanted, thresholds, gallery, sampler, maker, encoder or Encoder(), Parts(outdir), places)
    if watch:
        selection.watch = watch
    return selection


# ----------------------------------------------------------------------------
# A whole run into a folder.

SOURCES = {
    "generator": {"name": "g", "sha256": "0" * 64},
    "recognition_model": {"name": "r", "fingerprint": "fake"},
    "real_features": {"name": "f", "sha256": "1" * 64, "count": 30, "people": 30},
    "detector": "fake",
}


def settings_of(selection):
    return pipeline.settings_of(
        selection.plan,
        selection.thresholds,
        SOURCES,
        seed=0,
        truncation=0.7,
        noise_mode="const",
        identities="random",
        feature_norm=4.0,
        privacy_check=True,
        storage=Storage(),
    )


def generate(outdir, **options):
    """One whole run into `outdir`; returns its summary."""
    return finish(make_selection(outdir, **options), outdir)


def finish(selection, outdir):
    """Runs it in this one process; returns its summary."""
    settings = settings_of(selection)
    writers.begin(outdir, settings, writers.inspect(outdir, settings))
    made = pipeline.generate(selection, outdir, settings, show=False)
    assert made is not None
    return made[0]
