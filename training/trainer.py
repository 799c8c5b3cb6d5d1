"""Everything of a run that learns or counts: networks, averages, augmentation, optimisers, one iteration, the state.

Every random number of an iteration comes from a stream keyed by (seed, iteration, rank), and the order of the data by
(seed, epoch). So a state holds no generator's state, and training that is killed and resumed equals training that was
not, bit for bit on the CPU.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import nn

from dnnlib.errors import SharedUserError, UserError
from torch_utils import distributed
from torch_utils.images import from_uint8
from torch_utils.streams import derived_seed
from torch_utils.training_stats import Stats
from training.augment import AdaController, AugmentPipe
from training.config import TrainingConfig
from training.dataset import Batch
from training.discriminator import Discriminator
from training.ema import Ema
from training.generator import Generator
from training.loss import DualLoss, LossSettings
from training.phases import Phase, lazy_adam
from training.precision import use_precision
from training.weights import load_strictly

MAX_SKIPPED_IN_A_ROW = 100  # of one phase; float16 overflows now and then, in networks that have diverged always


@dataclass
class Trainer:
    """All that learns or counts; `state` and `load` are the whole of it."""

    config: TrainingConfig
    device: torch.device
    images_seen: int = 0
    iteration: int = 0
    seconds: float = 0.0  # of training, over all sittings
    skipped: int = 0  # optimiser steps not taken because a gradient was not finite
    processes_before: int | None = None  # that worked on the state that was loaded
    stats: Stats = field(default_factory=Stats)

    def __post_init__(self) -> None:
        config, device = self.config, self.device
        torch.manual_seed(derived_seed(config.seed, "weights"))
        self.generator = distributed.to_device(Generator(**config.generator), device)
        self.discriminators = {
            name: distributed.to_device(Discriminator(**kwargs), device)
            for name, kwargs in config.discriminators.items()
        }
        self.pipes = (
            {name: AugmentPipe(config.augment, config.augment_p).to(device) for name in self.discriminators}
            if config.augment
            else {}
        )
        networks: list[Generator | Discriminator] = [self.generator, *self.discriminators.values()]
        for module in networks:
            module.train().requires_grad_(False)
            use_precision(module, config.precision)
            distributed.broadcast_module(module)
        self.ema = Ema(self.generator, config.ema_kimg * 1000, config.ema_rampup)
        self.ada = (
            AdaController(self.pipes, config.ada_target, config.ada_kimg, config.ada_signal)
            if config.ada_target is not None and self.pipes
            else None
        )
        settings = LossSettings(
            gamma=config.gamma,
            r1_spectra=config.r1_spectra,
            adversarial_weight=tuple(config.adversarial_weight.items()),
            path_length_weight=config.path_length_weight,
            style_mixing=config.style_mixing,
        )
        self.loss = DualLoss(self.generator, self.discriminators, self.pipes, settings, self.stats, self.ada).to(device)
        self.phases = self._build_phases()

    # ------------------------------------------------------------------------
    # One iteration.

    def step(self, batch: Batch, conditions: torch.Tensor) -> None:
        """One iteration on this process's share of a batch.

        conditions [M, c_dim]: the features to draw the generated pictures' conditions from.
        Raises UserError where training has diverged.
        """
        config = self.config
        torch.manual_seed(derived_seed(config.seed, "iteration", self.iteration, distributed.rank()))
        reals = {name: from_uint8(images.to(self.device)) for name, images in batch[0].items()}
        real_c = batch[1].to(self.device)
        for phase in self.phases:
            if phase.due(self.iteration) and not phase.run(self._rounds(phase, reals, real_c, conditions)):
                self.skipped += 1
                if phase.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
                    raise SharedUserError(
                        f"--lr: training has diverged: the last {phase.skipped_in_a_row} gradients of {phase.name} "
                        "were not finite; go on from an earlier state with a lower --lr or a higher --gamma"
                    )
        # Each process has moved the mean w by its own share; their mean is what one process would have.
        distributed.all_reduce_mean(self.generator.mapping.w_avg)
        self.ema.update(self.generator, self.images_seen, config.batch)
        self.images_seen += config.batch
        self.iteration += 1
        if self.ada is not None and self.iteration % config.ada_interval == 0:
            self.ada.update(config.batch * config.ada_interval)

    def _rounds(
        self, phase: Phase, reals: dict[str, torch.Tensor], real_c: torch.Tensor, conditions: torch.Tensor
    ) -> Iterator[tuple]:
        """The phase's arguments, batch_gpu pictures at a time."""
        for first in range(0, len(real_c), self.config.batch_gpu):
            part = slice(first, first + self.config.batch_gpu)
            real_part = ({name: images[part] for name, images in reals.items()}, real_c[part])
            z = torch.randn([len(real_part[1]), self.generator.z_dim], device=self.device)
            c = conditions[torch.randint(len(conditions), [len(z)], device=self.device)]
            yield {"reals": real_part, "latents": (z, c), "both": (*real_part, z, c)}[phase.needs]

    def _build_phases(self) -> list[Phase]:
        config, loss = self.config, self.loss
        g_nets: list[nn.Module] = [self.generator]
        d_nets: list[nn.Module] = list(self.discriminators.values())
        g_every = config.generator_reg_interval if config.path_length_weight else 0
        d_every = config.discriminator_reg_interval if config.gamma and config.r1_spectra else 0
        g_optimizer = lazy_adam(self.generator.parameters(), config.learning_rate, g_every)
        d_parameters = [parameter for net in d_nets for parameter in net.parameters()]
        d_optimizer = lazy_adam(d_parameters, config.learning_rate, d_every)
        phases = [Phase("generator_main", g_nets, g_optimizer, loss.generator_main, "latents")]
        if g_every:
            phases.append(Phase("generator_reg", g_nets, g_optimizer, loss.generator_regularize, "latents", g_every))
        # Frozen layers stay in the optimiser, so that its state fits whatever is frozen.
        layers = [net.layers_from_picture()[: config.freeze_layers] for net in self.discriminators.values()]
        frozen = frozenset(parameter for layer in chain(*layers) for parameter in layer.parameters())
        phases.append(Phase("discriminator_main", d_nets, d_optimizer, loss.discriminator_main, "both", frozen=frozen))
        if d_every:
            regularized: list[nn.Module] = [self.discriminators[name] for name in config.r1_spectra]
            regularize = loss.discriminator_regularize
            phases.append(
                Phase("discriminator_reg", regularized, d_optimizer, regularize, "reals", d_every, frozen=frozen)
            )
        self.optimizers = {"generator": g_optimizer, "discriminators": d_optimizer}
        return phases

    # ------------------------------------------------------------------------
    # The state.

    def _stateful(self) -> dict[str, Any]:
        """Name -> whatever has state_dict and load_state_dict."""
        return {
            "generator": self.generator,
            "generator_ema": self.ema.averaged,
            "loss": self.loss,
            **{f"discriminator_{name}": network for name, network in self.discriminators.items()},
            **{f"augment_{name}": pipe for name, pipe in self.pipes.items()},
            **{f"optimizer_{name}": optimizer for name, optimizer in self.optimizers.items()},
        }

    def state(self) -> dict[str, Any]:
        """All that `load` needs: tensors, numbers, plain containers. Every process must call it, and gets the same."""
        sums = self.ada.sums if self.ada is not None else {}
        return {
            **{name: part.state_dict() for name, part in self._stateful().items()},
            "ada_sums": {name: distributed.all_reduce_sum(total.clone()) for name, total in sums.items()},
            "counters": {
                "images_seen": self.images_seen,
                "iteration": self.iteration,
                "seconds": self.seconds,
                "skipped": self.skipped,
                "processes": distributed.world_size(),
            },
        }

    def load(self, state: dict[str, Any], where: str) -> None:
        """Takes over a state; learning rates, and p where it is fixed, stay those of the configuration.

        Raises UserError, starting with `where`, where the state is of another configuration.
        """
        parts = self._stateful()
        missing = [name for name in (*parts, "ada_sums", "counters") if name not in state]
        if missing:
            raise UserError(f"{where}: the state lacks {', '.join(missing)}; was it trained with other options?")
        try:
            for name, part in parts.items():
                if isinstance(part, nn.Module):
                    load_strictly(part, state[name], f"{where}: {name}")
                else:
                    _load_optimizer(part, state[name])
            if self.ada is not None:
                for name, total in state["ada_sums"].items():  # of all processes: one of them goes on with it
                    self.ada.sums[name].copy_(total * (distributed.rank() == 0))
            counters = state["counters"]
            self.images_seen, self.iteration = int(counters["images_seen"]), int(counters["iteration"])
            self.seconds, self.skipped = float(counters["seconds"]), int(counters["skipped"])
            self.processes_before = int(counters.get("processes", distributed.world_size()))
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise UserError(f"{where}: not a whole training state ({error!r})") from error
        if self.ada is None:
            for pipe in self.pipes.values():
                pipe.p.fill_(self.config.augment_p)

    def change_of_processes(self) -> str | None:
        """What differs from now on because another number of processes has saved the state; None: nothing does."""
        before, now = self.processes_before, distributed.world_size()
        if before in (None, now):
            return None
        return (
            f"The state is of {before} processes, now there are {now}: the order of the data stays, each takes "
            f"{self.config.batch // now} of a batch's {self.config.batch}, and random draws differ from here on"
        )


def _load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Its moments and steps from the state, its settings (learning rate, betas) as they are."""
    kept = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, kept, strict=True):
        group.update(settings)
