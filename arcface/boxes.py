"""Arithmetic on boxes for the detector: overlaps, non-maximum suppression, regression, squares.

Boxes are float [..., 4], x0 y0 x1 y1 in pixels.
"""

from __future__ import annotations

from typing import Literal

import torch

Overlap = Literal["union", "smaller"]


def overlaps(boxes: torch.Tensor, relative_to: Overlap = "union", edge: float = 0.0) -> torch.Tensor:
    """Pairwise overlap of boxes [..., K, 4] -> [..., K, K]: the common area over the union or the smaller area.

    `edge` is 1 where x1 and y1 name the last pixel inside, 0 where they are coordinates.
    """
    area = (boxes[..., 2:] - boxes[..., :2] + edge).clamp(min=0).prod(-1)  # [..., K]
    low = torch.maximum(boxes[..., :, None, :2], boxes[..., None, :, :2])  # [..., K, K, 2]
    high = torch.minimum(boxes[..., :, None, 2:], boxes[..., None, :, 2:])
    common = (high - low + edge).clamp(min=0).prod(-1)  # [..., K, K]
    if relative_to == "union":
        whole = area[..., :, None] + area[..., None, :] - common
    else:
        whole = torch.minimum(area[..., :, None], area[..., None, :])
    return common / whole.clamp(min=1e-9)


def suppress(
    boxes: torch.Tensor, scores: torch.Tensor, threshold: float, relative_to: Overlap = "union", edge: float = 0.0
) -> torch.Tensor:
    """Greedy non-maximum suppression of several pictures at once.

    A box survives unless a better one that survives overlaps it by more than `threshold`. That sentence is a
    fixed point: repeating it from "all survive" settles in as many rounds as the longest chain of boxes that
    overlap one another, which is a handful, and each round is one matrix operation for all pictures.

    Args:
        boxes: float [B, K, 4]; scores: float [B, K], -inf for a place without a box.

    Returns:
        bool [B, K], True for the boxes that survive.
    """
    order = scores.argsort(dim=1, descending=True, stable=True)  # [B, K]
    ranked = boxes.gather(1, order[..., None].expand(-1, -1, 4))  # [B, K, 4]
    alive = scores.gather(1, order) > -torch.inf  # [B, K]
    conflict = overlaps(ranked, relative_to, edge) > threshold  # [B, K, K]
    conflict = conflict.triu(1) & alive[:, :, None]  # [B, better, worse]
    keep = alive
    while True:
        beaten = (conflict & keep[:, :, None]).any(dim=1)  # [B, K]
        after = alive & ~beaten
        if torch.equal(after, keep):
            break
        keep = after
    return torch.zeros_like(keep).scatter(1, order, keep)  # [B, K], in the order given


def suppress_flat(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    pictures: torch.Tensor,
    threshold: float,
    relative_to: Overlap = "union",
    edge: float = 0.0,
) -> torch.Tensor:
    """`suppress` for candidates in one list: boxes [K, 4], scores [K], pictures [K] (non-decreasing). Returns
    the indices that survive, in their order."""
    if not len(boxes):
        return torch.zeros(0, dtype=torch.long, device=boxes.device)
    _, rows, counts = pictures.unique_consecutive(return_inverse=True, return_counts=True)
    starts = counts.cumsum(0) - counts
    places = torch.arange(len(boxes), device=boxes.device) - starts[rows]  # place within its picture
    shape = (len(counts), int(counts.max()))
    padded_boxes = boxes.new_zeros(*shape, 4)
    padded_boxes[rows, places] = boxes
    padded_scores = scores.new_full(shape, -torch.inf)
    padded_scores[rows, places] = scores
    keep = suppress(padded_boxes, padded_scores, threshold, relative_to, edge)
    return keep[rows, places].nonzero().flatten()


def regress(boxes: torch.Tensor, shift: torch.Tensor, edge: float = 0.0) -> torch.Tensor:
    """Moves each corner by `shift` [K, 4] times the box's width or height."""
    size = (boxes[:, 2:] - boxes[:, :2] + edge).repeat(1, 2)  # [K, 4]
    return boxes + shift * size


def squared(boxes: torch.Tensor) -> torch.Tensor:
    """The squares of the longer side around the same centres."""
    size = boxes[:, 2:] - boxes[:, :2]  # [K, 2]
    side = size.amax(dim=1, keepdim=True)  # [K, 1]
    low = boxes[:, :2] + (size - side) / 2
    return torch.cat([low, low + side], dim=1)
