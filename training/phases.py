"""The phases of an iteration: which network learns, from which loss, how often, with which optimiser."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import nn

from torch_utils import distributed


@dataclass
class Phase:
    """One loss of one set of networks that share an optimiser.

    interval: the phase runs in every interval-th iteration, and its loss counts that many times (lazy
    regularisation, Karras et al. 2020, section 3.1). frozen: parameters that get no gradient and stay as they are.
    """

    name: str
    networks: list[nn.Module]
    optimizer: torch.optim.Optimizer
    backward: Callable[..., None]
    needs: str  # what `backward` takes: 'latents' (z, c), 'reals' (images, c), or 'both', reals first
    interval: int = 1
    frozen: frozenset[nn.Parameter] = frozenset()
    parameters: list[nn.Parameter] = field(init=False)
    skipped_in_a_row: int = field(init=False, default=0)  # steps not taken since the last that was

    def __post_init__(self) -> None:
        everything = (parameter for network in self.networks for parameter in network.parameters())
        self.parameters = [parameter for parameter in everything if parameter not in self.frozen]

    def due(self, iteration: int) -> bool:
        """Whether the phase runs in this iteration."""
        return iteration % self.interval == 0

    def run(self, rounds: Iterable[tuple]) -> bool:
        """Gathers gradients over `rounds` (argument tuples of `backward`), averages over processes, steps.

        Returns whether the step was taken: gradients that are not finite are not applied.
        """
        self.optimizer.zero_grad(set_to_none=True)
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        rounds = list(rounds)
        for arguments in rounds:
            self.backward(*arguments, weight=self.interval / len(rounds))
        for parameter in self.parameters:
            parameter.requires_grad_(False)
        gradients = distributed.average_gradients(self.parameters)
        if not distributed.all_finite(gradients):
            self.skipped_in_a_row += 1  # on every rank alike: the averages are the same
            return False
        self.skipped_in_a_row = 0
        self.optimizer.step()
        return True


def lazy_adam(parameters: Iterable[nn.Parameter], lr: float, interval: int, eps: float = 1e-8) -> torch.optim.Adam:
    """Adam (betas 0, 0.99) for a network whose regulariser runs every `interval` iterations; 0: none.

    With it the optimiser steps interval + 1 times in interval iterations, so the learning rate and the betas are
    corrected by interval / (interval + 1).
    """
    ratio = interval / (interval + 1) if interval else 1.0
    return torch.optim.Adam(parameters, lr=lr * ratio, betas=(0.0**ratio, 0.99**ratio), eps=eps)
