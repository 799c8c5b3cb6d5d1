"""Each loss term by hand, and on networks whose derivatives are known."""

import math

import pytest
import torch

from training.adversarial import (
    fake_loss,
    generator_loss,
    path_length_penalty,
    path_lengths,
    r1_penalty,
    real_loss,
)


def test_logistic_losses_by_hand() -> None:
    logits = torch.tensor([[0.0], [math.log(3)]])
    assert generator_loss(logits)[:, 0].tolist() == pytest.approx([math.log(2), math.log(4 / 3)])
    assert real_loss(logits)[:, 0].tolist() == pytest.approx([math.log(2), math.log(4 / 3)])
    assert fake_loss(logits)[:, 0].tolist() == pytest.approx([math.log(2), math.log(4)])


def test_r1_of_a_linear_discriminator() -> None:
    """D(x) = a . x has gradient a everywhere: the penalty is gamma / 2 |a|^2 for each sample."""
    a = torch.arange(12.0).reshape(1, 3, 2, 2)
    images = torch.randn(4, 3, 2, 2, requires_grad=True)
    logits = (images * a).sum(dim=[1, 2, 3]).unsqueeze(1)
    assert r1_penalty(logits, images, gamma=3).tolist() == pytest.approx([1.5 * 506] * 4)


def test_r1_of_a_square_is_differentiable() -> None:
    """D(x) = s x^2 on one pixel: gradient 2 s x, penalty gamma / 2 * 4 s^2 x^2, its derivative in s gamma * 4 s x^2."""
    scale = torch.tensor(2.0, requires_grad=True)
    image = torch.full([1, 1, 1, 1], 3.0, requires_grad=True)
    penalty = r1_penalty(scale * image.square().flatten(1), image, gamma=1)
    assert penalty.item() == pytest.approx(72)
    assert torch.autograd.grad(penalty.sum(), scale)[0].item() == pytest.approx(72)


def test_path_lengths_add_the_gradients_of_both_spectra() -> None:
    """vis = a w on 2x2 pixels, nir = b w on 4x4: J^T noise = (a sum(n_vis) / 2 + b sum(n_nir) / 4)."""
    ws = torch.ones(1, 1, 1, requires_grad=True)
    images = {
        "vis": 3 * ws.reshape(1, 1, 1, 1).expand(1, 1, 2, 2),
        "nir": 5 * ws.reshape(1, 1, 1, 1).expand(1, 1, 4, 4),
    }
    noise = {"vis": torch.ones(1, 1, 2, 2), "nir": torch.full((1, 1, 4, 4), -0.5)}
    assert path_lengths(images, ws, noise).item() == pytest.approx(abs(3 * 4 / 2 - 5 * 8 / 4))


def test_path_length_is_the_root_of_the_mean_over_layers() -> None:
    """Two layers with gradients (3, 4) and (0, 0): sqrt((25 + 0) / 2)."""
    ws = torch.zeros(1, 2, 2, requires_grad=True)
    image = (ws[0, 0, 0] * 3 + ws[0, 0, 1] * 4).reshape(1, 1, 1, 1)
    assert path_lengths({"vis": image}, ws, {"vis": torch.ones(1, 1, 1, 1)}).item() == pytest.approx(math.sqrt(12.5))


def test_path_length_penalty_by_hand() -> None:
    penalty, mean = path_length_penalty(
        torch.tensor([2.0, 4.0]), average=torch.tensor(3.0), mean=torch.tensor(1.0), decay=0.5
    )
    assert mean.item() == pytest.approx(2.0)  # half way from 1 to 3
    assert penalty.tolist() == pytest.approx([0.0, 4.0])
