"""Encoding: what is judged is what is read back, whatever the processes; a lost one is a line."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal

import numpy as np
import pytest
from PIL import Image

from dnnlib.errors import UserError
from generation.candidates import CandidateMaker
from generation.encoding import Encoder, Encoding, decode, default_workers
from tests.generation import fakes


def pictures(count=3, side=16, seed=0):
    """Smooth colours, as JPEG likes them."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, side)
    tint = rng.uniform(40, 215, (count, 4, 1, 1)) + 40 * (ramp[:, None] - ramp[None, :])
    pixels = tint.clip(0, 255).astype(np.uint8)
    return {"vis": pixels[:, :3], "nir": pixels[:, 3:]}


def pair(images, row):
    return {spectrum: pixels[row] for spectrum, pixels in images.items()}


@pytest.mark.parametrize("workers", [0, 2])
def test_png_gives_the_pixels_back_and_is_made_of_what_is_accepted_only(workers):
    images = pictures()
    with Encoder(Encoding("png"), workers) as encoder:
        shown, encoded = encoder.stored(images)
        assert shown is images and encoded is None
        waits = [encoder.begin(pair(images, row)) for row in (0, 2)]
        first, third = (wait() for wait in waits)
        assert encoder.beside is (workers > 0)
    for row, files in ((0, first), (2, third)):
        for spectrum, data in files.items():
            np.testing.assert_array_equal(decode(data, spectrum), images[spectrum][row])


@pytest.mark.parametrize("workers", [0, 2])
def test_jpeg_is_shown_as_its_bytes_decode_and_stored_as_those_bytes(workers):
    images = pictures()
    with Encoder(Encoding("jpg", 70), workers) as encoder:
        shown, encoded = encoder.stored(images)
        assert encoded is not None
    assert not np.array_equal(shown["vis"], images["vis"])
    for spectrum, data in encoded[1].items():
        pixels = np.asarray(Image.open(io.BytesIO(data)))  # read by Pillow alone
        pixels = pixels[None] if spectrum == "nir" else pixels.transpose(2, 0, 1)
        np.testing.assert_array_equal(shown[spectrum][1], pixels)
        assert np.abs(pixels.astype(int) - images[spectrum][1]).mean() < 8


@pytest.mark.parametrize("encoding", [Encoding("png"), Encoding("jpg", 95)])
def test_bytes_do_not_depend_on_workers(encoding):
    images = pictures(5)
    found = []
    for workers in (0, 1, 3):
        with Encoder(encoding, workers) as encoder:
            waits = [encoder.begin(pair(images, row)) for row in range(5)]
            found.append((encoder.stored(images)[1], [wait() for wait in waits]))
    assert found[0] == found[1] == found[2]
    if not encoding.lossless:
        assert found[0][0] == found[0][1]


@pytest.mark.parametrize(("quality", "layout"), [(89, (2, 2)), (90, (1, 1)), (100, (1, 1))])
def test_colour_has_full_resolution_from_quality_90_on(quality, layout):
    data = Encoding("jpg", quality).encode(pictures()["vis"][0])
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG" and image.layer[0][1:3] == layout  # type: ignore[attr-defined]  # sampling of brightness against colour's 1x1
    with Image.open(io.BytesIO(Encoding("jpg", quality).encode(pictures()["nir"][0]))) as image:
        assert image.mode == "L"


def test_the_embedder_and_the_detector_see_pictures_as_stored():
    seen = []

    def embedder(images):
        seen.append(images)
        return images.reshape(len(images), -1)[:, :4].astype(np.float32) + 1

    def detector(images):
        seen.append(images)
        return fakes.fake_detect(images)

    drawn = pictures(4)
    with Encoder(Encoding("jpg", 60)) as encoder:
        maker = CandidateMaker(
            lambda latents, features: drawn, embedder, detector, seed=0, chunk=4, latent_size=2, stored=encoder.stored
        )
        made = maker.make(np.ones((3, 2), np.float32), [0, 1, 2], [0, 0, 0], detect=True)
        shown, encoded = encoder.stored({name: images[:3] for name, images in drawn.items()})
    assert made.encoded == encoded and len(made.pictures["vis"]) == 3
    padded = shown["vis"][[0, 1, 2, 2]]
    for images in seen:
        np.testing.assert_array_equal(images, padded)


def test_a_lost_encoder_process_is_one_line():
    with Encoder(workers=1) as encoder, pytest.raises(UserError, match="--workers: a worker process was ended"):
        [child] = multiprocessing.active_children()
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        encoder.begin(pair(pictures(1), 0))()


def test_default_workers(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(32)), raising=False)
    assert default_workers("cpu") == 0
    assert [default_workers("cuda", processes) for processes in (1, 4, 8, 32)] == [8, 7, 3, 1]
