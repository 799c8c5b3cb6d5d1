"""Vision transformer (Dosovitskiy et al. 2021) as arcface_torch trains it for faces: all tokens become the feature.

There is no class token: the tokens of the last layer are laid side by side and reduced to the feature by two linear
layers, each with a batch normalisation. Names and shapes are those of the public checkpoints; the blocks are
pre-norm, with ReLU6 between the layers of the MLP. Training drops whole branches (stochastic depth) and hides tokens.

    images [N, 3, S, S] in [-1, 1]  ->  raw features [N, F] (not normalised)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

MLP_RATIO = 4


class Attention(nn.Module):
    """Multi-head self-attention; the queries, keys and values are one product without bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).unflatten(2, (3, self.heads, width // self.heads))  # [N, T, 3, H, D/H]
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # [N, H, T, D/H] each
        mixed = F.scaled_dot_product_attention(query, key, value)  # [N, H, T, D/H]
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))  # [N, T, D]


class Mlp(nn.Module):
    """Linear - ReLU6 - linear, with four times the width between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.relu6(self.fc1(x)))  # [N, T, D]


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); in training, each branch is left out of a picture by chance."""

    def __init__(self, width: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)
        self.drop_path = drop_path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self._kept(self.attn(self.norm1(x)))  # [N, T, D]
        return x + self._kept(self.mlp(self.norm2(x)))  # [N, T, D]

    def _kept(self, branch: torch.Tensor) -> torch.Tensor:
        """Stochastic depth (Huang et al. 2016), scaled so that its mean over chance is the branch."""
        if not self.training or not self.drop_path:
            return branch
        keep = 1 - self.drop_path
        return branch * (branch.new_empty(len(branch), 1, 1).bernoulli_(keep) / keep)


class PatchEmbed(nn.Module):
    """Patches side by side -> tokens; what is left at the right and lower edge is not seen."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)  # [N, T, D]


class VisionTransformer(nn.Module):
    """The transformer and its output layers.

    Args:
        width: numbers in a token. depth: blocks. heads: of the attention, a divisor of width.
        input_size, patch: pixels; there are (input_size // patch) ** 2 tokens.
        num_features: length of the feature.
        drop_path: probability, in training, that the last block leaves out a branch; it rises from 0 at the first.
        hidden: share of the tokens that training hides from the blocks; the learned mask token stands in for them
            behind the last one.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        input_size: int = 112,
        patch: int = 9,
        num_features: int = 512,
        drop_path: float = 0.1,
        hidden: float = 0.1,
    ) -> None:
        super().__init__()
        tokens = (input_size // patch) ** 2
        self.num_hidden = round(hidden * tokens)
        self.patch_embed = PatchEmbed(patch, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        rates = [drop_path * place / max(1, depth - 1) for place in range(depth)]
        self.blocks = nn.ModuleList([Block(width, heads, rate) for rate in rates])
        self.norm = nn.LayerNorm(width)
        self.feature = nn.Sequential(
            nn.Linear(tokens * width, width, bias=False),
            nn.BatchNorm1d(width, eps=2e-5),
            nn.Linear(width, num_features, bias=False),
            nn.BatchNorm1d(num_features, eps=2e-5),
        )
        self._initialise()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x) + self.pos_embed  # [N, T, D]
        visible = self._draw_visible(x) if self.training and self.num_hidden else None  # [N, V] or None
        if visible is None:
            return self.feature(self._encode(x).flatten(1)).float()  # [N, F]
        places = visible.unsqueeze(2).expand(-1, -1, x.shape[2])  # [N, V, D]
        seen = self._encode(x.gather(1, places))  # [N, V, D]
        whole = self.mask_token.to(seen.dtype).expand(x.shape).scatter(1, places, seen)  # [N, T, D]
        return self.feature(whole.flatten(1)).float()  # [N, F]

    def _encode(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)  # [N, T, D]
        return self.norm(x)  # [N, T, D]

    def _draw_visible(self, x: torch.Tensor) -> torch.Tensor:
        """For each picture, the places of the tokens that stay, drawn without replacement: [N, V]."""
        order = torch.rand(x.shape[:2], device=x.device).argsort(dim=1)  # [N, T]
        return order[:, self.num_hidden :]

    def _initialise(self) -> None:
        """Normal with sd 0.02, as transformers start; biases at 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for parameter in (self.pos_embed, self.mask_token):
            nn.init.trunc_normal_(parameter, std=0.02)
