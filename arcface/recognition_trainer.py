"""What learns in recognition training: backbone, head, optimiser, and one step of theirs.

All randomness of a step comes from streams of (seed, step), so the state is weights, momentum and the step, and a run
that was stopped goes on bit for bit. Gradients are averaged over processes in one message. Batch norm sees the
process's own share of a batch, as is usual in this field; rank 0's running moments are those that are kept. Class
centres are whole in every process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from arcface.alignment import Template
from arcface.backbones import NUM_FEATURES, build_backbone
from arcface.heads import build_head
from arcface.preprocess import preprocess
from arcface.recognition_augment import augment
from arcface.recognition_config import RecognitionConfig, learning_rate
from arcface.weights import RecognitionModel, fingerprint
from dnnlib.errors import SharedUserError, UserError
from torch_utils import distributed
from torch_utils.streams import derived_seed

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MAX_SKIPPED = 20  # steps in a row whose gradients overflow half precision, each with half the loss scale


class RecognitionTrainer:
    """Backbone, head and optimiser, and what happens to them in a step.

    weights: of the backbone to begin with, by name; None: drawn by the seed.
    """

    def __init__(
        self,
        config: RecognitionConfig,
        classes: int,
        device: torch.device,
        weights: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.config, self.device = config, device
        self.steps_done, self.skipped = 0, 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(config.seed, "recognition weights"))
            backbone = build_backbone(config.backbone, config.input_size, config.dropout)
            head = build_head(config.head, NUM_FEATURES, classes, config.scale, config.margin)
        if weights is not None:
            backbone.load_state_dict(weights)
        self.backbone = distributed.to_device(backbone, device)
        self.head = head.to(device)
        named = [*self.backbone.named_parameters(), *head.named_parameters()]
        named = [(name, parameter) for name, parameter in named if parameter.requires_grad]
        self.parameters = [parameter for _, parameter in named]
        # A ViT's places and mask token have several axes, too, but no product is formed with them.
        decayed = [parameter for name, parameter in named if parameter.ndim > 1 and name.endswith("weight")]
        others = [parameter for name, parameter in named if parameter.ndim <= 1 or not name.endswith("weight")]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
        """One batch, of which images uint8 [N, 3, S, S] and labels long [N] are this process's share.

        Returns loss and accuracy of the whole batch, the gradient's norm and the learning rate, on every process; in
        fp16 also `skipped`: 1 where the gradient has overflowed and the step was left out.
        Raises UserError where loss or gradient are not finite; weights and momentum are then as they were.
        """
        config, rank, world = self.config, distributed.rank(), distributed.world_size()
        torch.manual_seed(derived_seed(config.seed, "recognition dropout", self.steps_done, rank))
        generator = torch.Generator().manual_seed(derived_seed(config.seed, "recognition augment", self.steps_done))
        self.backbone.train()
        self.head.train()
        labels = labels.to(self.device)
        x = preprocess(images.to(self.device, non_blocking=True), config.input_size)  # [N, 3, S, S]
        x = augment(x, config.augment, generator, (rank, world)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, DTYPES[config.precision], enabled=config.precision != "fp32"):
            features = self.backbone(x)  # [N, 512]
        logits = self.head(features, labels)  # [N, classes]
        loss = F.cross_entropy(logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        distributed.average_gradients(self.parameters)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, config.clip or math.inf)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        means = distributed.all_reduce_mean(torch.stack([loss.detach(), accuracy]))
        loss_value, accuracy_value, norm_value = torch.cat([means, norm[None]]).tolist()
        skipped = self._overflows(loss_value, norm_value)
        rate = learning_rate(config, self.steps_done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.step(self.optimizer)  # not where half precision has overflowed
        self.scaler.update()
        self.steps_done += 1
        measured = {"loss": loss_value, "accuracy": accuracy_value, "grad_norm": norm_value, "lr": rate}
        return {**measured, "skipped": float(skipped)} if config.precision == "fp16" else measured

    def _overflows(self, loss: float, norm: float) -> bool:
        """Whether half precision alone has broken the gradient, which a lower loss scale mends. Raises NotFinite."""
        overflows = self.config.precision == "fp16" and math.isfinite(loss) and not math.isfinite(norm)
        self.skipped = self.skipped + 1 if overflows else 0
        if self.skipped >= MAX_SKIPPED or not (math.isfinite(loss) and (overflows or math.isfinite(norm))):
            raise NotFinite(f"the loss is {loss:g} and the gradient's norm {norm:g}")
        return overflows

    def model(self, training: Mapping[str, Any], alignment: Template | None = None) -> RecognitionModel:
        """The backbone as it is now, in evaluation mode until the next step. alignment: of what it is trained on."""
        config, mark = self.config, fingerprint(self.backbone.state_dict())
        return RecognitionModel(
            config.backbone, config.input_size, "RGB", mark, self.backbone.eval(), dict(training), alignment=alignment
        )

    def state(self) -> dict[str, Any]:
        """All that is needed to go on."""
        return {
            "step": self.steps_done,
            "backbone": self.backbone.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load(self, state: Any, where: str) -> None:
        """Takes over what `state` returned. Raises UserError, starting with `where`, where it does not fit."""
        try:
            self.backbone.load_state_dict(state["backbone"])
            self.head.load_state_dict(state["head"])
            self.optimizer.load_state_dict(state["optimizer"])
            if state["scaler"]:
                self.scaler.load_state_dict(state["scaler"])
            self.steps_done = int(state["step"])
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{where}: not a state of this run; remove it to start again") from error


class NotFinite(SharedUserError):
    """Loss or gradient of a step are not finite, on all processes."""


def count_parameters(config: RecognitionConfig, classes: int) -> tuple[int, int]:
    """Of the backbone and of the head; nothing is allocated."""
    with torch.device("meta"):
        backbone = build_backbone(config.backbone, config.input_size, config.dropout)
        head = build_head(config.head, NUM_FEATURES, classes, config.scale, config.margin)
    count = [sum(parameter.numel() for parameter in network.parameters()) for network in (backbone, head)]
    return count[0], count[1]
