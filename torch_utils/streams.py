"""Named streams of random numbers: the same (seed, purpose, indices) give the same numbers everywhere.

No stream depends on how many numbers another one drew, on the batch size, or on the number of
processes; that is what makes datasets repeatable byte for byte.
"""

import hashlib

import numpy as np


def _key(seed: int, purpose: str, indices: tuple[int, ...]) -> bytes:
    words = [str(int(seed)), purpose, *(str(int(index)) for index in indices)]
    return hashlib.sha256("\x1f".join(words).encode()).digest()


def stream(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """A generator of its own for (seed, purpose, indices), keyed by their SHA-256. Philox 4x64."""
    key = np.frombuffer(_key(seed, purpose, indices)[:16], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def derived_seed(seed: int, purpose: str, *indices: int) -> int:
    """A 63-bit seed of its own, for generators that take one number (torch.manual_seed)."""
    return int.from_bytes(_key(seed, purpose, indices)[:8], "little") >> 1
