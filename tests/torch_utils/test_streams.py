"""Named streams: what a name gives is fixed, or no dataset and no run could be made again (docs/determinism.md)."""

import hashlib

import numpy as np

from torch_utils.streams import derived_seed, stream


def test_a_stream_is_philox_keyed_by_the_sha256_of_its_name() -> None:
    digest = hashlib.sha256(b"5\x1flatent\x1f3\x1f1").digest()
    key = int.from_bytes(digest[:16], "little")
    expected = np.random.Generator(np.random.Philox(key=key))
    assert np.array_equal(stream(5, "latent", 3, 1).standard_normal(8), expected.standard_normal(8))
    assert derived_seed(5, "latent", 3, 1) == int.from_bytes(digest[:8], "little") // 2


def test_the_numbers_are_these() -> None:
    """Another NumPy may draw others from the same stream: then what was made before cannot be made again."""
    rng = stream(0, "latent", 3, 1)
    assert rng.integers(0, 2**32, 4).tolist() == [3168755124, 1090993659, 3163219061, 3946960554]
    assert rng.standard_normal(2).tolist() == [1.2104247570480198, 0.8547104936641535]


def test_names_that_differ_anywhere_are_other_streams() -> None:
    streams = [stream(0, "a", *indices) for indices in ((1, 11), (11, 1), (111,), ())]
    streams += [stream(0, "b", 1, 11), stream(1, "a", 1, 11)]
    assert len({tuple(rng.integers(0, 2**32, 4)) for rng in streams}) == len(streams)
