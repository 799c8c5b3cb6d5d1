"""What metrics look at: pairs of pictures of one side, real or drawn, as streams that each process sees its share of.

A side tells where its pictures come from only by how many there are and by which streams it has:

    pairs    picture i of all, whatever the batch and the process
    path     two neighbouring points of the latent space each, for the perceptual path length
    groups   several pictures of one person (or at one condition) each, for what they differ by
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from numpy.typing import NDArray

PAIRS, PATH, GROUPS = "pairs", "path", "groups"
GROUP = 8  # most pictures in a group
EPSILON = 1e-4  # how far the two points of a path lie apart, of the way between two latents (Karras et al. 2019)

# spectrum -> uint8 [N, C, H, W], C 3 or 1. A batch of `pairs` holds some pictures, of `groups` one whole group, of
# `path` points and their neighbours, [2 N, C, H, W], one behind the other, as float32 from 0 to 255: a neighbour lies
# less than a grey level away.
Pictures = Mapping[str, torch.Tensor]
Rows = dict[str, NDArray]  # name -> [N, ...], a row a picture, or a group, or a point of a path


class Stream(NamedTuple):
    """batches: of the first `number` pictures (of path: points), this process's share. items: how many rows those
    give, in all processes."""

    batches: Callable[[int], Iterable[Pictures]]
    items: Callable[[int], int] = int


@dataclass(frozen=True)
class Side:
    """Real pictures or drawn ones.

    spectra: which there are. number: of pairs; None: as many as are asked for, drawn by a network. streams: by name;
    process r of P sees items r, r + P, ... of each, in order. labels: of the first `number` pairs, in order, without
    reading a picture: 'conditions' float32 [N, D], the features that a network was given; 'identities' [N], where
    files have names. digest: of the pictures' content, where there is one.
    """

    spectra: tuple[str, ...]
    number: int | None
    streams: Mapping[str, Stream]
    labels: Callable[[int], Rows]
    digest: str | None = None
