"""Pictures -> identity features, in batches, the same whatever the batch size (FACTS.md, "Identity features").

The raw feature of the network is what the generator is conditioned on; comparisons normalise it first. Pictures on
disk are read by processes of their own, which bring them to the network's size and hand over whole batches of bytes,
so that the network's process has nothing else to do.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from arcface.alignment import Template, frame_between, template_of
from arcface.preprocess import Frame, normalise, resize
from arcface.weights import RecognitionModel
from dnnlib.errors import UserError, option_named
from dnnlib.progress import progress
from torch_utils.feature_file import FeatureSet
from torch_utils.image_tree import PairedTree
from torch_utils.picture_source import Pictures, TreePictures
from torch_utils.readers import lost_reader_named, made_in_order

Picture = np.ndarray | torch.Tensor
MOST_WORKERS = 8  # by default; a GPU's worth of 112x112 pictures


def embed(
    model: RecognitionModel,
    images: torch.Tensor | Iterable[Picture],
    batch_size: int = 64,
    flip: bool = False,
    show_progress: bool = False,
    total: int | None = None,
    alignment: Template | None = None,
) -> np.ndarray:
    """Embeds pictures in memory, or as an iterable brings them.

    Args:
        model: from load_recognition.
        images: uint8 tensor [N, C, H, W], or any iterable of uint8 arrays [H, W, C] or tensors [C, H, W],
            which may differ in size and are read as they are needed; C 1 or 3 (RGB).
        batch_size: pictures at a time; it changes the speed only.
        flip: adds the feature of the mirrored picture to that of the picture (verification's flip test).
        show_progress: a bar on stderr; `total` is its length where the iterable does not tell.
        alignment: of the pictures; where the model was trained on another, it sees that part of them which is aligned
            so (arcface.alignment.frame_between). None: not known, the model sees all of them.

    Returns:
        float32 [N, 512], raw, in order.

    Raises:
        ValueError: a picture that is not uint8 or has neither 1 nor 3 channels.
        UserError: pictures that have no such part.
    """
    frame = frame_between(alignment, model.alignment)
    if total is None and isinstance(images, torch.Tensor | Sequence):
        total = len(images)
    batches: Iterator[torch.Tensor]
    if isinstance(images, torch.Tensor):
        parts = (part.to(model.device) for part in images.split(batch_size) if len(part))
        batches = (resize(part, model.input_size, frame) for part in parts)
    else:
        batches = _batches_of(images, model.input_size, frame, batch_size)
    return _embed_batches(model, batches, None if total is None else -(-total // batch_size), flip, show_progress)


@torch.inference_mode()
def _embed_batches(
    model: RecognitionModel, batches: Iterable[torch.Tensor], total: int | None, flip: bool, show_progress: bool
) -> np.ndarray:
    """Resized batches [B, C, S, S] -> features; `total` of them."""
    features: list[np.ndarray] = []
    for batch in progress(batches, desc="embed", total=total, unit="batch", show=show_progress):
        x = normalise(batch.to(model.device, non_blocking=True), model.color_order)  # [B, 3, S, S]
        raw = _forward(model, x)  # [B, 512]
        if flip:
            raw = raw + _forward(model, x.flip(3))
        features.append(raw.cpu().numpy())
    return np.concatenate(features) if features else np.zeros((0, model.num_features), dtype=np.float32)


def _forward(model: RecognitionModel, x: torch.Tensor) -> torch.Tensor:
    return model.backbone(x.contiguous(memory_format=torch.channels_last))


def _batches_of(images: Iterable[Picture], size: int, frame: Frame | None, batch_size: int) -> Iterator[torch.Tensor]:
    waiting: list[torch.Tensor] = []
    for image in images:
        waiting.append(_fitted(image, size, frame))
        if len(waiting) == batch_size:
            yield _stacked(waiting)
            waiting = []
    if waiting:
        yield _stacked(waiting)


def _fitted(picture: Picture, size: int, frame: Frame | None) -> torch.Tensor:
    """One picture at the network's size, [S, S, C] in 0 to 255."""
    if isinstance(picture, np.ndarray):
        picture = torch.from_numpy(np.array(picture)).permute(2, 0, 1)  # [C, H, W]
    return resize(picture[None], size, frame)[0].permute(1, 2, 0)  # [S, S, C]


def _stacked(pictures: list[torch.Tensor]) -> torch.Tensor:
    """[S, S, C] each -> [B, C, S, S], in the order of memory that convolutions like on a CPU. Only a batch in which
    not all are bytes, or not all grey, is brought to one kind."""
    if len({picture.dtype for picture in pictures}) > 1:
        pictures = [picture.to(torch.float32) for picture in pictures]
    if len({picture.shape[2] for picture in pictures}) > 1:
        pictures = [picture.expand(-1, -1, 3) for picture in pictures]
    return torch.stack(pictures).permute(0, 3, 1, 2)  # [B, C, S, S]


# ----------------------------------------------------------------------------
# Pictures on disk.


@dataclass(frozen=True)
class _Batches:
    """Batch i of a source's pictures at the network's size."""

    source: Pictures
    size: int
    frame: Frame | None
    batch_size: int

    def __call__(self, number: int) -> torch.Tensor:
        indices = range(number * self.batch_size, min((number + 1) * self.batch_size, len(self.source)))
        return _stacked([_fitted(self._square(index), self.size, self.frame) for index in indices])

    def _square(self, index: int) -> np.ndarray:
        picture = self.source.decode(index)
        height, width = picture.shape[:2]
        if height != width:  # the network's input is a square: it would see another face
            raise UserError(
                f"{self.source.names[index]}: {width}x{height} is not square, as aligned faces are; crop it"
            )
        return picture


def default_workers() -> int:
    """As many processes as this one may use processors, within reason."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_WORKERS, available)


def embed_source(
    model: RecognitionModel,
    source: Pictures,
    batch_size: int = 64,
    workers: int | None = None,
    flip: bool = False,
    show_progress: bool = False,
    alignment: Template | None = None,
) -> np.ndarray:
    """Embeds pictures from disk, in the source's order; at most a few batches of them are in memory.

    Args:
        workers: processes that read, with one thread of torch each; 0: this one does. None: default_workers().
        batch_size, flip, show_progress, alignment: as `embed` has them.

    Returns:
        float32 [N, 512], raw, in order.

    Raises:
        UserError: a picture that cannot be read, by name, or a reading process that was killed.
    """
    frame = frame_between(alignment, model.alignment)
    make: Callable[[int], torch.Tensor] = _Batches(source, model.input_size, frame, batch_size)
    count, workers = -(-len(source) // batch_size), default_workers() if workers is None else workers
    pinned = model.device.type == "cuda"

    def work() -> np.ndarray:
        with contextlib.closing(made_in_order(make, count, workers, pinned=pinned)) as made:
            return _embed_batches(model, made, count, flip, show_progress)

    return lost_reader_named(work)


# ----------------------------------------------------------------------------
# A whole dataset.


def embed_dataset(
    model: RecognitionModel,
    tree: PairedTree,
    spectrum: str = "vis",
    mode: str = "all",
    batch_size: int = 64,
    show_progress: bool = True,
    workers: int | None = None,
) -> FeatureSet:
    """Features of a dataset, for identity_features.safetensors; its dataset.json says how it is aligned.

    Args:
        spectrum: 'vis' or 'nir', the pictures that are embedded.
        mode: 'all': a feature a picture; 'one': for each identity the feature of the picture that is most
            similar to its others (highest mean cosine; the first of equals).
        batch_size, workers: as `embed_source` has them.

    Raises:
        UserError: a picture that cannot be read.
    """
    if mode not in ("all", "one"):
        raise UserError(f"--mode: {mode!r}; all or one")
    source = TreePictures(tree.trees[spectrum], spectrum, by_folder=False)
    alignment = template_of(tree.description())
    with option_named(tree.option, tree.root):
        features = embed_source(model, source, batch_size, workers, show_progress=show_progress, alignment=alignment)
    chosen = list(range(len(tree))) if mode == "all" else most_typical(features, tree.identities)
    names = [tree.names[index] for index in chosen]
    return FeatureSet(features[chosen], names, model=model.fingerprint, mode=mode, spectrum=spectrum)


def most_typical(features: np.ndarray, identities: Sequence[str]) -> list[int]:
    """Per identity, in the order of first appearance, the index of its feature with the highest mean cosine to the
    identity's others. features float [N, C]; identities N labels."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True).clip(min=1e-12)
    members: dict[str, list[int]] = {}
    for index, identity in enumerate(identities):
        members.setdefault(identity, []).append(index)
    chosen = []
    for indices in members.values():
        similarity = unit[indices] @ unit[indices].T  # [K, K]; its diagonal is the same for all
        chosen.append(indices[int(similarity.sum(axis=1).argmax())])
    return chosen
