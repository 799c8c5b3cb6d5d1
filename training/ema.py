"""The exponential moving average of the generator, with a half-life in pictures."""

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class Ema(Generic[M]):
    """Keeps an averaged copy of a module.

    half_life: pictures after which a weight's share has halved. rampup: while fewer pictures than half_life / rampup
    have been seen, the half-life is that share of them; None is a constant half-life.
    """

    def __init__(self, module: M, half_life: float, rampup: float | None) -> None:
        self.averaged = copy.deepcopy(module).eval().requires_grad_(False)
        self.half_life, self.rampup = half_life, rampup

    def beta(self, images_seen: int, batch: int) -> float:
        """What is kept of the average in one iteration of `batch` pictures."""
        half_life = self.half_life
        if self.rampup is not None:
            half_life = min(half_life, images_seen * self.rampup)
        return 0.5 ** (batch / max(half_life, 1e-8))

    @torch.no_grad()
    def update(self, module: M, images_seen: int, batch: int) -> None:
        """Moves the parameters towards `module`'s and takes over its buffers."""
        beta = self.beta(images_seen, batch)
        for average, current in zip(self.averaged.parameters(), module.parameters(), strict=True):
            average.lerp_(current, 1 - beta)
        for own, other in zip(self.averaged.buffers(), module.buffers(), strict=True):
            own.copy_(other)
