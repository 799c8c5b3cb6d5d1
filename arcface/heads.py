"""Classification heads of recognition training. A head turns features and labels into logits for a cross-entropy.

    softmax   w_j x + b_j                             a linear layer with bias
    arcface   own class  s cos(theta + m)             Deng et al. 2019, equation 3;        s = 64, m = 0.5
    cosface   own class  s (cos theta - m)            Wang et al. 2018, equation 4;        s = 64, m = 0.35
    adaface   own class  s (cos(theta - m q) - m - m q)   Kim et al. 2022, section 3.3;    s = 64, m = 0.4, h = 0.333

The logits of the other classes are s cos theta in the three with a margin. q, between -1 and 1, is a feature's norm
measured by those of its time: a low norm gives ArcFace's margin, a mean one CosFace's, a high one a margin that is
largest for those who are far from their centre already.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from arcface.choices import HEADS
from torch_utils import distributed

KEEP_OFF = 1e-7  # of 1 - cos^2 from zero, where its root's slope is infinite


class SoftmaxHead(nn.Module):
    """A linear layer with bias, in float32 whatever the features' type."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_features, num_classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """features [N, C], labels long [N] -> logits float32 [N, num_classes]."""
        with torch.autocast(features.device.type, enabled=False):
            return self.linear(features.float())


class MarginHead(nn.Module):
    """Normalised features against normalised class centres, in float32 whatever the features' type.

    Args:
        num_features: C.
        num_classes: identities.
        scale: s, the radius of the sphere that the logits see.
        margin: m, in the unit of the subclass.
    """

    def __init__(self, num_features: int, num_classes: int, scale: float, margin: float) -> None:
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(torch.empty(num_classes, num_features))
        nn.init.normal_(self.weight, std=0.01)

    def own_class(self, cosine: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        """Cosines to the own class and the features' norms, both [N, 1] -> what takes the cosines' place."""
        raise NotImplementedError

    def cosines(self, features: torch.Tensor) -> torch.Tensor:
        """features [N, C] -> cosines to every class centre, float32 [N, num_classes]."""
        return F.normalize(features.float(), dim=1) @ F.normalize(self.weight.float(), dim=1).T

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """features [N, C], labels long [N] -> logits float32 [N, num_classes] for a softmax cross-entropy."""
        with torch.autocast(features.device.type, enabled=False):
            cosine = self.cosines(features)  # [N, num_classes]
            norms = features.detach().float().norm(dim=1, keepdim=True)  # [N, 1]
            own = self.own_class(cosine.gather(1, labels[:, None]), norms)  # [N, 1]
            return self.scale * cosine.scatter(1, labels[:, None], own)


class ArcFaceHead(MarginHead):
    """Additive angular margin, m in radians.

    cos(theta + m) = cos(theta) cos(m) - sin(theta) sin(m). Beyond theta = pi - m that would rise again; there the
    straight line cos(theta) - m sin(m) goes on, which is lower, so the logit never rises with the angle.
    """

    def own_class(self, cosine: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        sine = (1 - cosine.square()).clamp(min=KEEP_OFF).sqrt()
        moved = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        line = cosine - self.margin * math.sin(self.margin)
        return torch.where(cosine > -math.cos(self.margin), moved, line)


class CosFaceHead(MarginHead):
    """Additive cosine margin, m as a difference of cosines."""

    def own_class(self, cosine: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        return cosine - self.margin


class AdaFaceHead(MarginHead):
    """Margin by the feature's norm, which stands for the picture's quality; no gradient flows through the norm.

    q = (norm - mean) / (sd / h), clipped to [-1, 1], with running moments of the norms, of all processes together.
    The angle theta - m q is kept in [0, pi]. The paper's rate of the moments is 0.99 for what was, 0.01 for the batch;
    the first batch's are taken as they are.
    """

    concentration = 0.333  # h
    rate = 0.01

    norm_mean: torch.Tensor
    norm_sd: torch.Tensor

    def __init__(self, num_features: int, num_classes: int, scale: float, margin: float) -> None:
        super().__init__(num_features, num_classes, scale, margin)
        self.register_buffer("norm_mean", torch.zeros(()))
        self.register_buffer("norm_sd", torch.zeros(()))  # 0: no batch has been seen

    def own_class(self, cosine: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
        norms = norms.clamp(1e-3, 100)  # one wild feature must not move the moments far
        if self.training:
            self._observe(norms)
        quality = self.concentration * (norms - self.norm_mean) / (self.norm_sd + 1e-3)
        quality = quality.clamp(-1, 1)  # [N, 1]
        turn = -self.margin * quality
        sine = (1 - cosine.square()).clamp(min=KEEP_OFF).sqrt()
        moved = cosine * turn.cos() - sine * turn.sin()
        # theta + turn > pi, and theta + turn < 0: the ends of what an angle can be.
        moved = torch.where((turn > 0) & (cosine < -turn.cos()), -1.0, moved)
        moved = torch.where((turn < 0) & (cosine > turn.cos()), 1.0, moved)
        return moved - self.margin - self.margin * quality

    @torch.no_grad()
    def _observe(self, norms: torch.Tensor) -> None:
        moments = torch.stack([norms.double().mean(), norms.double().square().mean()])
        mean, square = distributed.all_reduce_mean(moments)
        sd = (square - mean.square()).clamp(min=0).sqrt()
        rate = torch.where(self.norm_sd == 0, 1.0, self.rate)
        self.norm_mean.lerp_(mean.float(), rate)
        self.norm_sd.lerp_(sd.float(), rate)


KINDS: dict[str, type[MarginHead]] = {"arcface": ArcFaceHead, "cosface": CosFaceHead, "adaface": AdaFaceHead}


def build_head(
    name: str, num_features: int, num_classes: int, scale: float | None = None, margin: float | None = None
) -> nn.Module:
    """A head of arcface.choices.HEADS; scale and margin None: the head's own."""
    if name not in KINDS:
        return SoftmaxHead(num_features, num_classes)
    own = HEADS[name]
    scale, margin = own.scale if scale is None else scale, own.margin if margin is None else margin
    assert scale is not None and margin is not None, "a head with a margin has both"
    return KINDS[name](num_features, num_classes, scale, margin)
