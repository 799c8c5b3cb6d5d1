"""Forward passes against formulations of their own: sums over the tensors of the state dict, module by module by name.

The weights are random and the batch normalisations have statistics that matter, so a swapped layer shows.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from arcface.backbones import IResNet, MobileFaceNet
from arcface.vit import Block, VisionTransformer

State = dict[str, torch.Tensor]


def shaken(network: torch.nn.Module) -> torch.nn.Module:
    """The network with every tensor moved off what it starts with, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for name, values in network.state_dict().items():
        if values.is_floating_point():
            noise = torch.rand(values.shape, generator=generator)
            values.copy_(noise + 0.5 if name.endswith("running_var") else values + 0.2 * (noise - 0.5))
    return network.eval()


def batch_norm(w: State, name: str, x: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    shape = [1, -1] + [1] * (x.ndim - 2)
    mean, var, scale, shift = (w[f"{name}.{p}"].view(shape) for p in ("running_mean", "running_var", "weight", "bias"))
    return (x - mean) / (var + eps).sqrt() * scale + shift


def prelu(w: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0, x, x * w[name].view(1, -1, 1, 1))


def convolve(w: torch.Tensor, x: torch.Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> torch.Tensor:
    """Convolution as a product of patches with the kernel, group by group."""
    out = []
    for part, kernel in zip(x.chunk(groups, 1), w.chunk(groups, 0), strict=True):
        patches = F.unfold(part, kernel.shape[2:], padding=padding, stride=stride)  # [N, C*k*k, L]
        side = (x.shape[2] + 2 * padding - kernel.shape[2]) // stride + 1
        out.append((kernel.flatten(1) @ patches).view(len(x), len(kernel), side, -1))
    return torch.cat(out, 1)


def test_iresnet_is_the_sum_of_its_parts() -> None:
    torch.manual_seed(0)
    network = shaken(IResNet((2, 1, 1, 1), (4, 4, 6, 8, 8), (1, 2, 2, 2, 2), 32))
    w, x = network.state_dict(), torch.randn(3, 3, 32, 32)
    y = prelu(w, "prelu.weight", batch_norm(w, "bn1", convolve(w["conv1.weight"], x, padding=1)))
    for at, stride in (("layer1.0", 2), ("layer1.1", 1), ("layer2.0", 2), ("layer3.0", 2), ("layer4.0", 2)):
        inner = convolve(w[f"{at}.conv1.weight"], batch_norm(w, f"{at}.bn1", y), padding=1)
        inner = prelu(w, f"{at}.prelu.weight", batch_norm(w, f"{at}.bn2", inner))
        inner = batch_norm(w, f"{at}.bn3", convolve(w[f"{at}.conv2.weight"], inner, stride, padding=1))
        if f"{at}.downsample.0.weight" in w:
            y = batch_norm(w, f"{at}.downsample.1", convolve(w[f"{at}.downsample.0.weight"], y, stride))
        y = y + inner
    flat = batch_norm(w, "bn2", y).reshape(3, -1)
    expected = batch_norm(w, "features", flat @ w["fc.weight"].T + w["fc.bias"])
    torch.testing.assert_close(network(x), expected, atol=1e-4, rtol=1e-4)


def test_mobilefacenet_is_the_sum_of_its_parts() -> None:
    torch.manual_seed(0)
    network = shaken(MobileFaceNet((1, 2, 1, 1), (8, 8, 8, 8, 12, 12, 16, 16), (2, 2, 2, 2), 32))
    w, x = network.state_dict(), torch.randn(3, 3, 32, 32)

    def cell(at: str, y: torch.Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> torch.Tensor:
        y = batch_norm(w, f"{at}.layers.1", convolve(w[f"{at}.layers.0.weight"], y, stride, padding, groups))
        return prelu(w, f"{at}.layers.2.weight", y) if f"{at}.layers.2.weight" in w else y

    def depthwise(at: str, y: torch.Tensor, stride: int = 1) -> torch.Tensor:
        y = cell(f"{at}.layers.0", y)
        return cell(f"{at}.layers.2", cell(f"{at}.layers.1", y, stride, 1, y.shape[1]))

    y = cell("layers.1", cell("layers.0", x, 2, 1), 1, 1, 8)
    for stage, blocks in ((2, 2), (4, 1), (6, 1)):
        y = depthwise(f"layers.{stage}", y, 2)
        for block in range(blocks):
            y = y + depthwise(f"layers.{stage + 1}.layers.{block}", y)
    y = cell("conv_sep", y)
    y = cell("features.layers.0", y, groups=16).reshape(3, 16)  # a kernel as large as the map
    expected = batch_norm(w, "features.layers.3", y @ w["features.layers.2.weight"].T)
    torch.testing.assert_close(network(x), expected, atol=1e-4, rtol=1e-4)


def small_vit(**options: float) -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(16, 3, 4, input_size=29, patch=9, num_features=10, **options)


def test_vit_is_the_sum_of_its_parts() -> None:
    """In numpy, token by token; the pixels beyond the last whole patch do not count."""
    network = shaken(small_vit())
    w = {name: values.double().numpy() for name, values in network.state_dict().items()}
    images = np.random.default_rng(0).standard_normal((2, 3, 29, 29), dtype=np.float32)

    def layer_norm(at: str, x: np.ndarray) -> np.ndarray:
        spread = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
        return (x - x.mean(axis=-1, keepdims=True)) / spread * w[f"{at}.weight"] + w[f"{at}.bias"]

    features = []
    for image in images:
        patches = [image[:, 9 * i : 9 * i + 9, 9 * j : 9 * j + 9].ravel() for i in range(3) for j in range(3)]
        x = np.stack(patches) @ w["patch_embed.proj.weight"].reshape(16, -1).T + w["patch_embed.proj.bias"]
        x = x + w["pos_embed"][0]  # [9, 16]
        for block in range(3):
            at = f"blocks.{block}"
            query, key, value = np.split(layer_norm(f"{at}.norm1", x) @ w[f"{at}.attn.qkv.weight"].T, 3, axis=1)
            heads = []
            for head in range(4):
                mine = slice(4 * head, 4 * head + 4)
                weight = np.exp(query[:, mine] @ key[:, mine].T / 2)  # the root of 4 numbers a head
                heads.append(weight / weight.sum(axis=1, keepdims=True) @ value[:, mine])
            x = x + np.concatenate(heads, axis=1) @ w[f"{at}.attn.proj.weight"].T + w[f"{at}.attn.proj.bias"]
            hidden = layer_norm(f"{at}.norm2", x) @ w[f"{at}.mlp.fc1.weight"].T + w[f"{at}.mlp.fc1.bias"]
            x = x + hidden.clip(0, 6) @ w[f"{at}.mlp.fc2.weight"].T + w[f"{at}.mlp.fc2.bias"]
        features.append(layer_norm("norm", x).ravel())
    tensors = {name: values.double() for name, values in network.state_dict().items()}
    y = batch_norm(tensors, "feature.1", torch.from_numpy(np.stack(features) @ w["feature.0.weight"].T), 2e-5)
    y = batch_norm(tensors, "feature.3", y @ tensors["feature.2.weight"].T, 2e-5)
    torch.testing.assert_close(network(torch.from_numpy(images)), y.float(), atol=1e-4, rtol=1e-4)


def test_vit_in_training_hides_tokens_and_learns_everywhere() -> None:
    network = small_vit(drop_path=0.0, hidden=0.34)
    assert network.num_hidden == 3  # of 9
    seen: list[torch.Size] = []
    network.blocks[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    features = network(torch.randn(4, 3, 29, 29))
    assert seen == [torch.Size([4, 6, 16])]
    features[0].square().sum().backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]


def test_vit_puts_what_it_saw_back_into_its_place() -> None:
    network = small_vit(drop_path=0.0, hidden=0.34)
    given: list[torch.Tensor] = []
    network.feature.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0].unflatten(1, (9, 16))))
    network.blocks = torch.nn.ModuleList()  # without attention a token depends on its own patch alone
    x = torch.randn(4, 3, 29, 29)
    network.train()(x)
    network.eval()(x)
    hidden = (given[0] == network.mask_token).all(dim=2)  # [4, 9]
    assert hidden.sum(dim=1).tolist() == [3] * 4 and len(hidden.unique(dim=0)) > 1
    torch.testing.assert_close(given[0][~hidden], given[1][~hidden])


def test_stochastic_depth_keeps_the_mean() -> None:
    network = small_vit(drop_path=0.4, hidden=0.0)
    assert [block.drop_path for block in network.blocks] == pytest.approx([0, 0.2, 0.4])
    last = network.blocks[2]
    assert isinstance(last, Block)
    kept = last._kept(torch.ones(4000, 2, 3))
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert (kept == kept[:, :1, :1]).all() and float(kept.mean()) == pytest.approx(1, abs=0.06)
    network.eval()
    assert (last._kept(torch.ones(5, 2, 3)) == 1).all()
