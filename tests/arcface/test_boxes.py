"""Box arithmetic by hand, and suppression against the plain greedy loop."""

import pytest
import torch

from arcface.boxes import overlaps, regress, squared, suppress, suppress_flat


def greedy(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> list[int]:
    """The textbook loop: take the best, drop what overlaps it, go on."""
    order = scores.argsort(descending=True, stable=True).tolist()
    kept: list[int] = []
    for index in order:
        overlap = [float(overlaps(boxes[[index, other]])[0, 1]) for other in kept]
        if all(value <= threshold for value in overlap):
            kept.append(index)
    return sorted(kept)


def test_overlaps_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [2, 2, 6, 6], [2, 2, 3, 3], [9, 9, 10, 10]])
    union = overlaps(boxes)
    assert float(union[0, 1]) == pytest.approx(4 / 28)
    assert float(union[0, 2]) == pytest.approx(1 / 16)
    assert float(union[0, 3]) == 0
    assert float(overlaps(boxes, "smaller")[0, 2]) == 1
    assert float(overlaps(boxes, "union", edge=1.0)[0, 1]) == pytest.approx(9 / 41)  # 5x5 pixels, 3x3 in common


def test_a_box_beaten_by_a_beaten_box_survives() -> None:
    # Each overlaps its neighbour by 6 / 14; the second falls to the first, so the third has no rival left.
    boxes = torch.tensor([[[0.0, 0, 10, 1], [4, 0, 14, 1], [8, 0, 18, 1], [0, 0, 0, 0]]])
    scores = torch.tensor([[0.9, 0.8, 0.7, -torch.inf]])
    assert suppress(boxes, scores, 0.4).tolist() == [[True, False, True, False]]
    assert suppress(boxes, scores, 0.5).tolist() == [[True, True, True, False]]


def test_suppression_is_the_greedy_loop_in_each_picture() -> None:
    generator = torch.Generator().manual_seed(3)
    pictures = torch.arange(5).repeat_interleave(torch.tensor([40, 1, 25, 0, 60]))
    low = torch.rand(len(pictures), 2, generator=generator) * 20
    boxes = torch.cat([low, low + 2 + torch.rand(len(pictures), 2, generator=generator) * 15], dim=1)
    scores = torch.rand(len(pictures), generator=generator)
    for threshold in (0.1, 0.3, 0.6):
        expected = []
        for picture in range(5):
            own = (pictures == picture).nonzero().flatten()
            expected += [int(own[i]) for i in greedy(boxes[own], scores[own], threshold)]
        assert suppress_flat(boxes, scores, pictures, threshold).tolist() == expected


def test_no_boxes_at_all() -> None:
    none = torch.zeros(0, 4)
    assert suppress_flat(none, torch.zeros(0), torch.zeros(0, dtype=torch.long), 0.5).tolist() == []


def test_regression_and_squares_by_hand() -> None:
    boxes = torch.tensor([[10.0, 20, 30, 60]])
    shift = torch.tensor([[0.1, -0.1, 0.2, 0.0]])
    torch.testing.assert_close(regress(boxes, shift), torch.tensor([[12.0, 16, 34, 60]]))
    torch.testing.assert_close(squared(boxes), torch.tensor([[0.0, 20, 40, 60]]))
