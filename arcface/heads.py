"""Classification heads of recognition training. A head turns features and labels into logits, and knows its margin.

    ArcFace (Deng et al. 2019, equation 3):  logit of the own class  s cos(theta + m),  of the others  s cos(theta)

Another margin is another subclass of MarginHead with its own `own_class` (CosFace: cos - m).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


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
        self.scale = scale
        self.margin = margin
        self.weight = nn.Parameter(torch.empty(num_classes, num_features))
        nn.init.normal_(self.weight, std=0.01)

    def own_class(self, cosine: torch.Tensor) -> torch.Tensor:
        """The cosine to the own class -> what takes its place; [N] -> [N]."""
        raise NotImplementedError

    def cosines(self, features: torch.Tensor) -> torch.Tensor:
        """features [N, C] -> cosines to every class centre, float32 [N, num_classes]."""
        with torch.autocast(features.device.type, enabled=False):
            unit = F.normalize(features.float(), dim=1)
            return unit @ F.normalize(self.weight.float(), dim=1).T

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """features [N, C], labels long [N] -> logits float32 [N, num_classes] for a softmax cross-entropy."""
        cosine = self.cosines(features)  # [N, num_classes]
        own = cosine.gather(1, labels[:, None])  # [N, 1]
        return self.scale * cosine.scatter(1, labels[:, None], self.own_class(own))


class ArcFaceHead(MarginHead):
    """Additive angular margin, m in radians.

    cos(theta + m) = cos(theta) cos(m) - sin(theta) sin(m). Beyond theta = pi - m that would rise again; there the
    straight line cos(theta) - m sin(m) goes on, which is lower, so the logit never rises with the angle. The root
    of 1 - cos^2 is kept off zero, where its slope is infinite.
    """

    def __init__(self, num_features: int, num_classes: int, scale: float = 64.0, margin: float = 0.5) -> None:
        super().__init__(num_features, num_classes, scale, margin)

    def own_class(self, cosine: torch.Tensor) -> torch.Tensor:
        sine = (1 - cosine.square()).clamp(min=1e-7).sqrt()
        moved = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        line = cosine - self.margin * math.sin(self.margin)
        return torch.where(cosine > -math.cos(self.margin), moved, line)
