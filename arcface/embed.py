"""Pictures -> identity features, in batches, the same whatever the batch size (FACTS.md, "Identity features").

The raw feature of the network is what the generator is conditioned on; comparisons normalise it first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from arcface.preprocess import preprocess
from arcface.weights import RecognitionModel
from dnnlib.errors import UserError
from dnnlib.progress import progress
from torch_utils.feature_file import FeatureSet
from torch_utils.image_tree import PairedTree

Picture = np.ndarray | torch.Tensor


@torch.inference_mode()
def embed(
    model: RecognitionModel,
    images: torch.Tensor | Iterable[Picture],
    batch_size: int = 64,
    flip: bool = False,
    show_progress: bool = False,
    total: int | None = None,
) -> np.ndarray:
    """Embeds pictures.

    Args:
        model: from load_recognition.
        images: uint8 tensor [N, C, H, W], or any iterable of uint8 arrays [H, W, C] or tensors [C, H, W],
            which may differ in size and are read as they are needed; C 1 or 3 (RGB).
        batch_size: pictures at a time; it changes the speed only.
        flip: adds the feature of the mirrored picture to that of the picture (verification's flip test).
        show_progress: a bar on stderr; `total` is its length where the iterable does not tell.

    Returns:
        float32 [N, 512], raw, in order.

    Raises:
        ValueError: a picture that is not uint8 or has neither 1 nor 3 channels.
    """
    if total is None and isinstance(images, torch.Tensor | Sequence):
        total = len(images)
    batches = _prepared_batches(model, images, batch_size)  # [B, 3, S, S] each
    bars = None if total is None else -(-total // batch_size)
    features: list[np.ndarray] = []
    for batch in progress(batches, desc="embed", total=bars, unit="batch", show=show_progress):
        raw = _forward(model, batch)  # [B, 512]
        if flip:
            raw = raw + _forward(model, batch.flip(3))
        features.append(raw.cpu().numpy())
    return np.concatenate(features) if features else np.zeros((0, model.num_features), dtype=np.float32)


def _prepared_batches(
    model: RecognitionModel, images: torch.Tensor | Iterable[Picture], batch_size: int
) -> Iterator[torch.Tensor]:
    """Preprocessed batches [B, 3, S, S] on the model's device."""
    if isinstance(images, torch.Tensor):
        for part in images.split(batch_size):
            yield preprocess(part.to(model.device), model.input_size, model.color_order)
        return
    waiting: list[torch.Tensor] = []
    for image in images:
        picture = image if isinstance(image, torch.Tensor) else torch.from_numpy(np.array(image)).permute(2, 0, 1)
        waiting.append(preprocess(picture[None].to(model.device), model.input_size, model.color_order))
        if len(waiting) == batch_size:
            yield torch.cat(waiting)
            waiting = []
    if waiting:
        yield torch.cat(waiting)


def _forward(model: RecognitionModel, batch: torch.Tensor) -> torch.Tensor:
    return model.backbone(batch.contiguous(memory_format=torch.channels_last))


# ----------------------------------------------------------------------------
# A whole dataset.


def embed_dataset(
    model: RecognitionModel,
    tree: PairedTree,
    spectrum: str = "vis",
    mode: str = "all",
    batch_size: int = 64,
    show_progress: bool = True,
) -> FeatureSet:
    """Features of a dataset, for identity_features.safetensors.

    Args:
        spectrum: 'vis' or 'nir', the pictures that are embedded.
        mode: 'all': a feature a picture; 'one': for each identity the feature of the picture that is most
            similar to its others (highest mean cosine; the first of equals).

    Raises:
        UserError: a picture that cannot be read.
    """
    if mode not in ("all", "one"):
        raise UserError(f"--mode: {mode!r}; all or one")
    images = (tree.decode(spectrum, name) for name in tree.names)
    features = embed(model, images, batch_size, show_progress=show_progress, total=len(tree))
    chosen = list(range(len(tree))) if mode == "all" else most_typical(features, tree.identities)
    names = [tree.names[index] for index in chosen]
    return FeatureSet(features[chosen], names, model=model.fingerprint, mode=mode)


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
