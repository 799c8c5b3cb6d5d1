"""The margin head, by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from arcface.heads import ArcFaceHead


def head_with_axes(scale: float, margin: float) -> ArcFaceHead:
    """Class centres along x, y and z."""
    head = ArcFaceHead(3, 3, scale, margin)
    with torch.no_grad():
        head.weight.copy_(torch.eye(3) * 7)
    return head


def test_logits_by_hand() -> None:
    head = head_with_axes(10.0, 0.5)
    feature = torch.tensor([[2 * math.cos(1.0), 2 * math.sin(1.0), 0.0]])  # 1 rad from x, pi/2 - 1 from y
    logits = head(feature, torch.tensor([0]))
    expected = [10 * math.cos(1.5), 10 * math.sin(1.0), 0.0]
    torch.testing.assert_close(logits, torch.tensor([expected]), atol=1e-5, rtol=0)


def test_beyond_pi_minus_m_the_straight_line_goes_on() -> None:
    head = head_with_axes(1.0, 0.5)
    angles = torch.linspace(0.01, math.pi - 0.01, 200)
    features = torch.stack([angles.cos(), angles.sin(), torch.zeros(200)], dim=1)
    own = head(features, torch.zeros(200, dtype=torch.long)).detach()[:, 0]  # [200]
    assert bool((own.diff() < 0).all()), "the own logit must fall as the angle grows"
    assert float(own[-1]) == pytest.approx(math.cos(math.pi - 0.01) - 0.5 * math.sin(0.5), abs=1e-5)


def test_no_margin_is_a_scaled_cosine_softmax() -> None:
    head = ArcFaceHead(8, 5, scale=4.0, margin=0.0)
    features, labels = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 4, 0])
    torch.testing.assert_close(head(features, labels), 4 * head.cosines(features), atol=1e-5, rtol=0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_gradients_are_finite_on_and_against_the_centre(sign: float) -> None:
    head = head_with_axes(64.0, 0.5)
    features = (sign * torch.eye(3)).requires_grad_()
    F.cross_entropy(head(features, torch.arange(3)), torch.arange(3)).backward()
    assert features.grad is not None and bool(features.grad.isfinite().all())
    assert head.weight.grad is not None and bool(head.weight.grad.isfinite().all())


def test_half_precision_features_are_worked_on_in_float32() -> None:
    head = ArcFaceHead(16, 4)
    features = torch.randn(2, 16, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(features, torch.tensor([0, 1]))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, head(features.float(), torch.tensor([0, 1])))
