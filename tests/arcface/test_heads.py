"""The heads, by hand, and against their definitions."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from arcface.heads import AdaFaceHead, ArcFaceHead, CosFaceHead, MarginHead, SoftmaxHead, build_head


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
    head = build_head("arcface", 16, 4)
    features = torch.randn(2, 16, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(features, torch.tensor([0, 1]))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, head(features.float(), torch.tensor([0, 1])))


# ----------------------------------------------------------------------------
# The other heads, and all of them against their definitions in angles.


def angles_of(features: np.ndarray, centres: np.ndarray) -> np.ndarray:
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (features, centres)]
    return np.arccos(np.clip(unit[0] @ unit[1].T, -1, 1))


@pytest.mark.parametrize("name", ["arcface", "cosface", "adaface"])
def test_margins_are_those_of_the_definitions(name: str) -> None:
    """In numpy, with angles; features of many lengths, none near the ends of what an angle can be."""
    rng = np.random.default_rng(0)
    features, centres = rng.standard_normal([32, 16]) * rng.uniform(0.2, 9, [32, 1]), rng.standard_normal([5, 16])
    labels = rng.integers(5, size=32)
    head = build_head(name, 16, 5)
    head.weight.data = torch.from_numpy(centres).float()
    theta = angles_of(features, centres)
    own, norms = theta[np.arange(32), labels], np.linalg.norm(features, axis=1)
    quality = np.clip(0.333 * (norms - norms.mean()) / (norms.std() + 1e-3), -1, 1)
    moved = {
        "arcface": np.cos(own + 0.5),
        "cosface": np.cos(own) - 0.35,
        "adaface": np.cos(own - 0.4 * quality) - (0.4 * quality + 0.4),
    }[name]
    expected = 64 * np.cos(theta)
    expected[np.arange(32), labels] = 64 * moved
    logits = head(torch.from_numpy(features).float(), torch.from_numpy(labels))
    np.testing.assert_allclose(logits.detach().numpy(), expected, atol=2e-3)


def test_softmax_is_a_linear_layer_with_bias() -> None:
    head = SoftmaxHead(3, 2)
    head.linear.weight.data = torch.tensor([[1.0, 0, 0], [0, 2, 0]])
    head.linear.bias.data = torch.tensor([0.5, -1.0])
    logits = head(torch.tensor([[3.0, 4, 5]]), torch.tensor([0]))
    assert logits.tolist() == [[3.5, 7.0]]


def seasoned() -> AdaFaceHead:
    """Norms have been 10 on average, with a deviation of 2; class centres along the axes."""
    head = AdaFaceHead(3, 3, scale=1.0, margin=0.4)
    head.weight.data = torch.eye(3)
    head.norm_mean.fill_(10.0)
    head.norm_sd.fill_(2.0 - 1e-3)
    return head.eval()


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        (1.0, math.cos(1.0 + 0.4)),  # far below the mean: ArcFace's margin
        (10.0, math.cos(1.0) - 0.4),  # the mean: CosFace's
        (13.0, math.cos(1.0 - 0.4 * 0.4995) - 0.4 * 1.4995),  # 0.333 * 3 / 2 = 0.4995
        (80.0, math.cos(1.0 - 0.4) - 0.8),  # far above
    ],
)
def test_adafaces_margin_for_low_mean_and_high_norms(norm: float, expected: float) -> None:
    feature = norm * torch.tensor([[math.cos(1.0), math.sin(1.0), 0.0]])
    assert seasoned()(feature, torch.tensor([0]))[0, 0].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("norm", "angle", "expected"), [(1.0, 3.0, -1.0), (80.0, 0.2, 1.0 - 0.8)])
def test_adafaces_angle_stays_an_angle(norm: float, angle: float, expected: float) -> None:
    feature = norm * torch.tensor([[math.cos(angle), math.sin(angle), 0.0]])
    assert seasoned()(feature, torch.tensor([0]))[0, 0].item() == pytest.approx(expected, abs=1e-5)


def test_adafaces_moments_start_with_the_first_batch_and_follow_slowly() -> None:
    head = AdaFaceHead(2, 2, scale=64.0, margin=0.4)
    labels = torch.tensor([0, 1])
    head(torch.tensor([[3.0, 4.0], [0.0, 7.0]]), labels)  # norms 5 and 7
    assert (float(head.norm_mean), float(head.norm_sd)) == pytest.approx((6.0, 1.0))
    head(torch.tensor([[8.0, 0.0], [0.0, 14.0]]), labels)  # mean 11, deviation 3
    assert (float(head.norm_mean), float(head.norm_sd)) == pytest.approx((6.05, 1.02))
    head.eval()
    head(torch.tensor([[50.0, 0.0], [0.0, 90.0]]), labels)
    assert float(head.norm_mean) == pytest.approx(6.05)


@pytest.mark.parametrize("kind", [ArcFaceHead, CosFaceHead, AdaFaceHead])
def test_the_margins_derivative(kind: type[MarginHead]) -> None:
    """gradcheck of what takes the own cosine's place, in float64, off the joints."""
    head = kind(4, 3, 64.0, 0.4).double().eval()
    if isinstance(head, AdaFaceHead):
        head.norm_mean.fill_(5.0)
        head.norm_sd.fill_(1.0)
    cosine = torch.tensor([[-0.6], [-0.2], [0.1], [0.5], [0.8]], dtype=torch.float64, requires_grad=True)
    norms = torch.tensor([[1.0], [4.0], [5.0], [6.0], [9.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: head.own_class(x, norms), cosine)
