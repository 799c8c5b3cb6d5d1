"""What each phase of training computes: the losses of adversarial.py applied to the networks, with statistics."""

from dataclasses import dataclass

import torch
from torch import nn

from torch_utils import distributed
from torch_utils.training_stats import Stats
from training.adversarial import (
    Images,
    fake_loss,
    generator_loss,
    path_length_penalty,
    path_lengths,
    r1_penalty,
    real_loss,
)
from training.augment import AdaController, AugmentPipe
from training.discriminator import Discriminator
from training.generator import Generator


@dataclass(frozen=True)
class LossSettings:
    """Weights of the loss terms, as the configuration has them, and what no option changes."""

    gamma: float  # weight of R1
    r1_spectra: tuple[str, ...]  # which discriminators R1 regularises
    adversarial_weight: tuple[tuple[str, float], ...]  # by spectrum, in the generator's loss
    path_length_weight: float
    style_mixing: float  # probability
    path_length_decay: float = 0.01
    path_length_shrink: int = 2  # its batch is smaller by this factor


class DualLoss(nn.Module):
    """The generator's and the discriminators' losses. Every method runs one backward pass.

    Each loss is a mean over its batch times `weight`: the share of the whole batch that this call brings, times the
    interval where a regulariser is lazy.
    """

    path_length_mean: torch.Tensor

    def __init__(
        self,
        generator: Generator,
        discriminators: dict[str, Discriminator],
        pipes: dict[str, AugmentPipe],
        settings: LossSettings,
        stats: Stats,
        ada: AdaController | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("path_length_mean", torch.zeros([]))
        # Held without being registered: their owner saves them.
        self._networks = (generator, discriminators, pipes)
        self.settings, self.stats, self.ada = settings, stats, ada

    # ------------------------------------------------------------------------
    # Forward passes.

    def _draw(self, z: torch.Tensor, c: torch.Tensor, update_w_avg: bool = False) -> tuple[Images, torch.Tensor]:
        """z, c -> pictures and the ws they came from, layers mixed between two latents for some samples."""
        generator = self._networks[0]
        ws = generator.mapping(z, c, update_w_avg=update_w_avg)  # [N, num_ws, w_dim]
        if self.settings.style_mixing > 0:
            count, layers, _ = ws.shape
            cutoff = torch.randint(1, layers, [count, 1], device=ws.device)
            mixed = torch.rand([count, 1], device=ws.device) < self.settings.style_mixing
            second = (torch.arange(layers, device=ws.device)[None] >= cutoff) & mixed  # [N, num_ws]
            ws = torch.where(second[:, :, None], generator.mapping(torch.randn_like(z), c), ws)
        return generator.synthesis(ws, noise_mode="random"), ws

    def _judge(self, name: str, images: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Pictures of one spectrum, augmented, through its discriminator: logits [N, 1]."""
        _, discriminators, pipes = self._networks
        if name in pipes:
            images = pipes[name](images)
        return discriminators[name](images, c)

    # ------------------------------------------------------------------------
    # The generator's phases.

    def generator_main(self, z: torch.Tensor, c: torch.Tensor, weight: float = 1.0) -> None:
        """Sum over spectra of weight * softplus(-D(fake)). z [N, z_dim], c [N, c_dim]."""
        images, _ = self._draw(z, c, update_w_avg=True)
        terms = []
        for name, factor in self.settings.adversarial_weight:
            logits = self._judge(name, images[name], c)
            terms.append(generator_loss(logits).mean() * factor)
            self.stats.report(f"loss/g_{name}", generator_loss(logits))
            self.stats.report(f"scores/fake_{name}", logits)
        (torch.stack(terms).sum() * weight).backward()

    def generator_regularize(self, z: torch.Tensor, c: torch.Tensor, weight: float = 1.0) -> None:
        """Path length regularisation on the first 1 / path_length_shrink of the batch."""
        count = max(len(z) // self.settings.path_length_shrink, 1)
        images, ws = self._draw(z[:count], c[:count])
        noise = {name: torch.randn(image.shape, device=image.device) for name, image in images.items()}  # in any layout
        lengths = path_lengths(images, ws, noise)
        average = distributed.all_reduce_mean(lengths.detach().mean())  # so that all processes have the same mean
        penalty, mean = path_length_penalty(lengths, average, self.path_length_mean, self.settings.path_length_decay)
        if bool(mean.isfinite()):  # one overflow must not spoil the mean for good
            self.path_length_mean.copy_(mean)
        self.stats.report("loss/path_length", lengths)
        self.stats.report("loss/path_length_penalty", penalty)
        (penalty.mean() * self.settings.path_length_weight * weight).backward()

    # ------------------------------------------------------------------------
    # The discriminators' phases.

    def discriminator_main(
        self, reals: Images, real_c: torch.Tensor, z: torch.Tensor, c: torch.Tensor, weight: float = 1.0
    ) -> None:
        """softplus(D(fake)) + softplus(-D(real)) of every spectrum; one drawing serves all discriminators."""
        with torch.no_grad():
            fakes, _ = self._draw(z, c)
        for name, real in reals.items():
            fake_logits = self._judge(name, fakes[name], c)
            real_logits = self._judge(name, real, real_c)
            loss = fake_loss(fake_logits).mean() + real_loss(real_logits).mean()
            (loss * weight).backward()
            if self.ada is not None:
                self.ada.observe(name, real_logits)
            self.stats.report(f"loss/d_{name}", loss)
            self.stats.report(f"scores/real_{name}", real_logits)
            self.stats.report(f"signs/real_{name}", real_logits.sign())

    def discriminator_regularize(self, reals: Images, real_c: torch.Tensor, weight: float = 1.0) -> None:
        """R1 through the augmentation, for the spectra in r1_spectra."""
        for name in self.settings.r1_spectra:
            real = reals[name].detach().requires_grad_(True)
            penalty = r1_penalty(self._judge(name, real, real_c), real, self.settings.gamma)
            self.stats.report(f"loss/r1_{name}", penalty)
            (penalty.mean() * weight).backward()
