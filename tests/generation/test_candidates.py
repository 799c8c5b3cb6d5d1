"""Candidates: full chunks, streams of their own, and networks that misbehave."""

from __future__ import annotations

import numpy as np
import pytest

from arcface.detection import Detection
from generation.candidates import CandidateMaker
from generation.networks import faces_from
from tests.generation import fakes
from torch_utils.streams import stream


def maker(chunk=8, **changes):
    parts = {"renderer": fakes.FakeRenderer(chunk), "embedder": fakes.fake_embed, "detector": fakes.fake_detect}
    return CandidateMaker(**{**parts, **changes}, seed=3, chunk=chunk, latent_size=fakes.SIZE)


def features(count):
    return np.random.default_rng(0).normal(size=(count, fakes.SIZE)).astype(np.float32)


def test_latents_come_from_the_stream_of_slot_and_attempt():
    rows = maker().latents([5, 6], [0, 9])
    np.testing.assert_array_equal(rows[1], stream(3, "latent", 6, 9).standard_normal(fakes.SIZE).astype(np.float32))


def test_a_part_of_a_chunk_equals_the_whole():
    whole = maker().make(features(8), range(8), [0] * 8, detect=True)
    part = maker().make(features(8)[:3], range(3), [0] * 3, detect=True)
    for name in ("vis", "nir"):
        assert part.pictures[name].shape[0] == 3
        np.testing.assert_array_equal(part.pictures[name], whole.pictures[name][:3])
    np.testing.assert_array_equal(part.embeddings["vis"], whole.embeddings["vis"][:3])
    np.testing.assert_array_equal(part.faces.points, whole.faces.points[:3])
    np.testing.assert_allclose(np.linalg.norm(whole.embeddings["vis"], axis=1), 1, rtol=1e-6)
    raw = fakes.fake_embed(whole.pictures["vis"]).astype(np.float64)
    np.testing.assert_allclose(whole.embeddings["vis"] * whole.norms["vis"][:, None], raw, atol=1e-5)


def test_detection_only_where_asked_and_where_there_is_a_detector():
    assert maker().make(features(2), range(2), [0, 0]).faces is None
    assert maker(detector=None).make(features(2), range(2), [0, 0], detect=True).faces is None


def test_more_than_a_chunk_is_refused():
    with pytest.raises(ValueError, match="9 candidates and 9 features for a chunk of 8"):
        maker().make(features(9), range(9), [0] * 9)


def test_broken_networks_are_named():
    with pytest.raises(RuntimeError, match="slot 4: an embedding is zero or not finite"):
        maker(embedder=lambda images: np.full((8, 4), np.nan)).make(features(1), [4], [0])
    with pytest.raises(RuntimeError, match="the renderer gave float64"):
        maker(renderer=lambda z, c: {"vis": np.zeros((8, 3, 4, 4))}).make(features(1), [4], [0])


def test_detections_become_arrays():
    points = np.arange(10).reshape(5, 2)
    seen = [Detection(None, 0.98, points, 1), Detection(reason="no face"), Detection(None, 0.99, points, 2)]
    faces = faces_from(seen)
    assert faces.found.tolist() == [True, False, False] and faces.probability.tolist() == [0.98, 0, 0.99]
    np.testing.assert_array_equal(faces.points[0], points)
    assert np.isnan(faces.points[1]).all()
