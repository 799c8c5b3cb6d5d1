"""Pictures for recognition training: labelled uint8 pictures of one or both spectra in memory, and their batches.

'vis'      N RGB pictures
'nir'      N grey pictures, repeated to three channels by `preprocess`
'vis+nir'  2 N pictures with the labels shared: a person is one class in both spectra
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from arcface.preprocess import preprocess
from dnnlib.errors import UserError
from dnnlib.progress import progress
from torch_utils.image_tree import PairedTree

SPECTRA_CHOICES: dict[str, tuple[str, ...]] = {"vis": ("vis",), "nir": ("nir",), "vis+nir": ("vis", "nir")}


@dataclass(frozen=True)
class PictureSet:
    """Labelled pictures. Picture i of the set is picture i % N of spectrum i // N, in the order of `images`.

    images: spectrum -> uint8 [N, C, H, W]. labels: long [N], contiguous from 0. names: N names. identities: the
    class names, by label.
    """

    images: dict[str, torch.Tensor]
    labels: torch.Tensor
    names: list[str]
    identities: list[str]

    def __len__(self) -> int:
        return len(self.names) * len(self.images)

    @property
    def resolution(self) -> int:
        """Side of the pictures in pixels."""
        return next(iter(self.images.values())).shape[-1]

    def digest(self) -> str:
        """16 hex digits over names, labels and pixels: tells whether a run goes on with the same pictures."""
        sha = hashlib.sha256(json.dumps([self.names, self.labels.tolist(), list(self.images)]).encode())
        for pictures in self.images.values():
            sha.update(pictures.numpy().tobytes())
        return sha.hexdigest()[:16]

    def batch(self, indices: np.ndarray, input_size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures `indices` as float [B, 3, S, S] in [-1, 1] and their labels [B]."""
        places = torch.as_tensor(indices % len(self.names))
        owners = torch.as_tensor(indices // len(self.names))
        x = torch.empty(len(indices), 3, input_size, input_size)
        for owner, pictures in enumerate(self.images.values()):
            mine = (owners == owner).nonzero().flatten()
            if len(mine):
                x[mine] = preprocess(pictures[places[mine]], input_size)
        return x, self.labels[places]

    def describe(self, indices: np.ndarray) -> list[str]:
        """The files of a batch, for messages: 'VIS/012_4.png'."""
        spectra = list(self.images)
        return [f"{spectra[i // len(self.names)].upper()}/{self.names[i % len(self.names)]}" for i in indices]


def load_pictures(
    tree: PairedTree, spectra: str, identities: Sequence[str] | None = None, show_progress: bool = True
) -> PictureSet:
    """Decodes a dataset's pictures into memory.

    Args:
        spectra: key of SPECTRA_CHOICES.
        identities: the people to take, in the order of their labels; None: all.

    Raises:
        UserError: an unreadable picture, pictures of different sizes or not square, fewer than two people.
    """
    chosen = list(dict.fromkeys(tree.identities)) if identities is None else list(identities)
    if len(chosen) < 2:
        raise UserError(f"--data: {tree.root}: {len(chosen)} identities to work on; at least 2 are needed")
    label_of = {identity: label for label, identity in enumerate(chosen)}
    rows = [index for index, identity in enumerate(tree.identities) if identity in label_of]
    names = [tree.names[index] for index in rows]
    images = {}
    for spectrum in SPECTRA_CHOICES[spectra]:
        pictures: list[np.ndarray] = []
        for name in progress(names, desc=f"read {spectrum}", unit="img", show=show_progress):
            pictures.append(_checked(tree, spectrum, name, pictures))
        images[spectrum] = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()  # [N, C, H, W]
    labels = torch.tensor([label_of[tree.identities[index]] for index in rows])
    return PictureSet(images, labels, names, chosen)


def _checked(tree: PairedTree, spectrum: str, name: str, before: list[np.ndarray]) -> np.ndarray:
    picture = tree.decode(spectrum, name)  # [H, W, C]
    height, width = picture.shape[:2]
    if height != width or (before and before[0].shape != picture.shape):
        need = f"{before[0].shape[1]}x{before[0].shape[0]} as the first" if before else "a square"
        raise UserError(f"--data: {tree.root}: {spectrum.upper()}/{name} is {width}x{height}, {need} is needed")
    return picture


def split_identities(tree: PairedTree, holdout: int) -> tuple[list[str], list[str]]:
    """(training, held out): the last `holdout` people of the tree's sorted names are kept out of training.

    Raises UserError where that leaves fewer than two people on a side that is used.
    """
    everyone = list(dict.fromkeys(tree.identities))
    if holdout < 0 or holdout == 1 or (holdout and len(everyone) - holdout < 2):
        raise UserError(
            f"--holdout: {holdout} of {len(everyone)} identities; 0, or 2 to {max(2, len(everyone) - 2)}, is possible"
        )
    cut = len(everyone) - holdout
    return everyone[:cut], everyone[cut:]


def check_testable(held_out: PictureSet) -> None:
    """Raises UserError where no held-out person has two pictures, so that there is no mated score to test on."""
    if int(held_out.labels.bincount().max()) < 2:
        raise UserError(f"--holdout: none of {len(held_out.identities)} people has two pictures to compare")
