"""The mathematics of the losses, without networks, logging or backward passes."""

import math

import torch
import torch.nn.functional as F

Images = dict[str, torch.Tensor]  # spectrum name -> [N, C, H, W]


# ----------------------------------------------------------------------------
# Non-saturating logistic loss (Goodfellow et al. 2014), logits high for real. All [N, 1] -> [N, 1].


def generator_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """-log sigmoid(D(fake))."""
    return F.softplus(-fake_logits)


def fake_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """-log(1 - sigmoid(D(fake))), the discriminator's half on what was drawn."""
    return F.softplus(fake_logits)


def real_loss(real_logits: torch.Tensor) -> torch.Tensor:
    """-log sigmoid(D(real)), the discriminator's half on real pictures."""
    return F.softplus(-real_logits)


# ----------------------------------------------------------------------------
# R1 (Mescheder et al. 2018).


def r1_penalty(real_logits: torch.Tensor, real_images: torch.Tensor, gamma: float) -> torch.Tensor:
    """gamma / 2 * |gradient of D(real) with respect to the picture|^2: [N, 1], [N, C, H, W] -> [N]."""
    (gradient,) = torch.autograd.grad(real_logits.sum(), real_images, create_graph=True)
    return gradient.square().sum(dim=[1, 2, 3]) * (gamma / 2)


# ----------------------------------------------------------------------------
# Path length regularisation (Karras et al. 2020, section 3.2).


def path_lengths(images: Images, ws: torch.Tensor, noise: Images) -> torch.Tensor:
    """|J^T noise| for each sample: images as drawn from ws [N, num_ws, w_dim], noise like the images -> [N].

    Each spectrum's product with its noise is scaled by 1 / sqrt(pixels); the spectra's gradients are added before
    the length is taken (ArcBiFaceGAN).
    """
    product = torch.stack(
        [(image * noise[name]).sum() / math.sqrt(image.shape[2] * image.shape[3]) for name, image in images.items()]
    ).sum()
    (gradient,) = torch.autograd.grad(product, ws, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()  # [N]


def path_length_penalty(
    lengths: torch.Tensor, average: torch.Tensor, mean: torch.Tensor, decay: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(length - running mean)^2, [N], and the mean moved by `decay` towards `average`, that of this batch."""
    moved = mean.lerp(average, decay)
    return (lengths - moved).square(), moved
