"""Stand-ins for released pickles: module trees as StyleGAN2-ADA pickles them, and what such networks draw.

`Node` pickles itself as a persistent object would: by the name of a function that does not exist here. `draw` and
`judge` are the networks by their definition (Karras et al. 2020): weights of each sample's own, explicit zeros
between pixels, float64, nothing shared with the code under test.
"""

import io
import math
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Values = dict[str, torch.Tensor]


class Node:
    """A module: parameters, buffers, modules within, and plain attributes."""

    def __init__(self, class_name: str, init_kwargs: dict[str, Any] | None = None, **attributes: Any) -> None:
        self.class_name, self.attributes = class_name, attributes
        self.init_kwargs = init_kwargs or {}
        self.parameters: Values = {}
        self.buffers: Values = {}
        self.modules: dict[str, Any] = {}

    def tensors(self, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
        """All parameters and buffers by dotted name."""
        for name, value in {**self.parameters, **self.buffers}.items():
            yield prefix + name, value
        for name, module in self.modules.items():
            yield from module.tensors(f"{prefix}{name}.")

    def values(self) -> Values:
        return {name: value.double() for name, value in self.tensors()}


# ----------------------------------------------------------------------------
# Pickling.


def _reconstruct_persistent_obj(meta: dict) -> None:
    raise AssertionError("the importer called what a pickle named")


class EasyDict(dict):
    pass


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, Node):
            return NotImplemented
        easy = sys.modules["dnnlib.util"].EasyDict
        state = {
            "_init_args": (),
            "_init_kwargs": easy(obj.init_kwargs),
            "training": False,
            "_parameters": OrderedDict(
                (name, torch.nn.Parameter(value, requires_grad=False)) for name, value in obj.parameters.items()
            ),
            "_buffers": OrderedDict(obj.buffers),
            "_non_persistent_buffers_set": set(),
            "_backward_hooks": OrderedDict(),
            "_modules": OrderedDict(obj.modules),
            **obj.attributes,
        }
        meta = {
            "type": "class",
            "version": 6,
            "module_src": "raise SystemExit('the importer ran the source of a pickle')",
            "class_name": obj.class_name,
            "state": state,
        }
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)


@contextmanager
def originals_modules() -> Iterator[None]:
    """The original program's modules, as far as pickles name them, for the time of pickling."""
    persistence, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")
    function = types.FunctionType(_reconstruct_persistent_obj.__code__, globals(), "_reconstruct_persistent_obj")
    function.__module__, function.__qualname__ = persistence.__name__, function.__name__
    easy = type("EasyDict", (EasyDict,), {"__module__": util.__name__})
    persistence._reconstruct_persistent_obj = function  # type: ignore[attr-defined]
    util.EasyDict = easy  # type: ignore[attr-defined]
    added = {module.__name__: module for module in (persistence, util)}
    assert not added.keys() & sys.modules.keys()
    sys.modules.update(added)
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]


def dumps(content: Any, protocol: int = 3) -> bytes:
    stream = io.BytesIO()
    with originals_modules():
        _Pickler(stream, protocol).dump(content)
    return stream.getvalue()


def save(path: Path, protocol: int = 3, **networks: Any) -> Path:
    """Writes what StyleGAN2-ADA writes: the networks, and what goes with them."""
    extras = {"training_set_kwargs": {"path": "/data", "use_labels": True, "max_size": None}, "augment_pipe": None}
    path.write_bytes(dumps({**extras, **networks}, protocol))
    return path


# ----------------------------------------------------------------------------
# Module trees.

FILTER = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


def fully_connected(rng: torch.Generator, inputs: int, outputs: int, act: str = "linear", lr: float = 1) -> Node:
    node = Node("FullyConnectedLayer", activation=act, weight_gain=np.float64(lr / math.sqrt(inputs)), bias_gain=lr)
    node.parameters = {
        "weight": torch.randn(outputs, inputs, generator=rng) / lr,
        "bias": torch.randn(outputs, generator=rng) / lr,
    }
    return node


def mapping(rng: torch.Generator, z: int, c: int, w: int, layers: int, averages: bool = True) -> Node:
    node = Node("MappingNetwork", {"z_dim": z, "c_dim": c, "w_dim": w}, z_dim=z, c_dim=c, w_dim=w)
    if c:
        node.modules["embed"] = fully_connected(rng, c, w)
    for index in range(layers):
        inputs = w if index else z + (w if c else 0)
        node.modules[f"fc{index}"] = fully_connected(rng, inputs, w, "lrelu", 0.01)
    if averages:
        node.buffers["w_avg"] = torch.randn(w, generator=rng)
    return node


def synthesis_layer(rng: torch.Generator, inputs: int, outputs: int, w: int, size: int, clamp: float | None) -> Node:
    node = Node("SynthesisLayer", resolution=size, use_noise=True, activation="lrelu", conv_clamp=clamp)
    node.parameters = {
        "weight": torch.randn(outputs, inputs, 3, 3, generator=rng).contiguous(memory_format=torch.channels_last),
        "noise_strength": torch.randn([], generator=rng) * 0.3,
        "bias": torch.randn(outputs, generator=rng),
    }
    node.buffers = {"resample_filter": FILTER.clone(), "noise_const": torch.randn(size, size, generator=rng)}
    node.modules["affine"] = fully_connected(rng, w, inputs)
    return node


def generator(
    resolution: int = 32,
    z: int = 16,
    c: int = 8,
    w: int = 12,
    widths: tuple[int, ...] = (16, 16, 8, 4),
    layers: int = 2,
    heads: dict[str, int] | None = None,
    clamp: float | None = None,
    seed: int = 0,
    **settings: Any,
) -> Node:
    """A generator's tree with every parameter random. heads: output channels by name."""
    rng = torch.Generator().manual_seed(seed)
    heads = heads or {"torgb": 3, "toseg": 1}
    synthesis = Node("SynthesisNetwork", {"conv_clamp": clamp, "num_fp16_res": 4}, num_ws=2 * len(widths))
    for index, width in enumerate(widths):
        size = 4 << index
        block = Node("SynthesisBlock", **{"architecture": "skip", "resolution": size, **settings})
        block.buffers["resample_filter"] = FILTER.clone()
        if index:
            block.modules["conv0"] = synthesis_layer(rng, widths[index - 1], width, w, size, clamp)
        else:
            block.parameters["const"] = torch.randn(width, size, size, generator=rng)
        block.modules["conv1"] = synthesis_layer(rng, width, width, w, size, clamp)
        for name, channels in heads.items():
            head = Node("ToRGBLayer", conv_clamp=clamp, weight_gain=np.float64(1 / math.sqrt(width)))
            head.parameters = {
                "weight": torch.randn(channels, width, 1, 1, generator=rng),
                "bias": torch.randn(channels, generator=rng),
            }
            head.modules["affine"] = fully_connected(rng, w, width)
            block.modules[name] = head
        synthesis.modules[f"b{size}"] = block
    kwargs = {"z_dim": z, "c_dim": c, "w_dim": w, "img_resolution": resolution, "img_channels": 3}
    network = Node("Generator", {**kwargs, "synthesis_kwargs": {"conv_clamp": clamp}}, **kwargs)
    network.modules = {"synthesis": synthesis, "mapping": mapping(rng, z, c, w, layers)}
    return network


def conv_layer(rng: torch.Generator, inputs: int, outputs: int, size: int, act: str, clamp: float | None) -> Node:
    node = Node("Conv2dLayer", activation=act, conv_clamp=clamp)
    node.parameters["weight"] = torch.randn(outputs, inputs, size, size, generator=rng)
    if act == "lrelu":
        node.parameters["bias"] = torch.randn(outputs, generator=rng)
    node.buffers["resample_filter"] = FILTER.clone()
    return node


def discriminator(
    channels: int = 3,
    c: int = 8,
    widths: tuple[int, ...] = (16, 16, 8, 4),
    clamp: float | None = None,
    frozen: int = 0,
    seed: int = 1,
) -> Node:
    """A discriminator's tree. frozen: so many layers from the picture on hold their weights as buffers."""
    rng = torch.Generator().manual_seed(seed)
    network = Node("Discriminator", c_dim=c, img_resolution=2 << len(widths), img_channels=channels)
    layers: list[Node] = []
    for index in range(len(widths) - 1, 0, -1):
        width, below, picture = widths[index], widths[index - 1], index == len(widths) - 1
        block = Node("DiscriminatorBlock", architecture="resnet", resolution=4 << index)
        if picture:
            block.modules["fromrgb"] = conv_layer(rng, channels, width, 1, "lrelu", clamp)
        block.modules["conv0"] = conv_layer(rng, width, width, 3, "lrelu", clamp)
        block.modules["conv1"] = conv_layer(rng, width, below, 3, "lrelu", clamp)
        block.modules["skip"] = conv_layer(rng, width, below, 1, "linear", None)
        layers += block.modules.values()
        network.modules[f"b{4 << index}"] = block
    for layer in layers[:frozen]:
        layer.buffers, layer.parameters = {**layer.parameters, **layer.buffers}, {}
    width = widths[0]
    epilogue = Node("DiscriminatorEpilogue", architecture="resnet")
    epilogue.modules = {
        "mbstd": Node("MinibatchStdLayer", group_size=2, num_channels=1),
        "conv": conv_layer(rng, width + 1, width, 3, "lrelu", clamp),
        "fc": fully_connected(rng, width * 16, width, "lrelu"),
        "out": fully_connected(rng, width, width if c else 1),
    }
    if c:
        network.modules["mapping"] = mapping(rng, 0, c, width, 8, averages=False)
    network.modules["b4"] = epilogue
    return network


# ----------------------------------------------------------------------------
# The networks by their definition.


def _unit(x: torch.Tensor) -> torch.Tensor:
    return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()


def _lrelu(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def _clip(x: torch.Tensor, clamp: float | None) -> torch.Tensor:
    return x if clamp is None else x.clamp(-clamp, clamp)


def _dense(x: torch.Tensor, p: Values, name: str, lr: float = 1) -> torch.Tensor:
    weight = p[f"{name}.weight"]
    return x @ (weight * lr / math.sqrt(weight.shape[1])).t() + p[f"{name}.bias"] * lr


def _fir(x: torch.Tensor, before: int, after: int, gain: float = 1) -> torch.Tensor:
    x = F.pad(x, [before, after, before, after])
    kernel = FILTER.double().flip([0, 1]) * gain
    return F.conv2d(x, kernel.expand(x.shape[1], 1, 4, 4), groups=x.shape[1])


def _doubled(x: torch.Tensor, extra: int = 0) -> torch.Tensor:
    """Zeros behind every pixel, then the filter; `extra` more pixels on each side."""
    spread = x.new_zeros([*x.shape[:2], x.shape[2] * 2, x.shape[3] * 2])
    spread[:, :, ::2, ::2] = x
    return _fir(spread, 2 + extra, 1 + extra, gain=4)


def _mapped(p: Values, z: torch.Tensor | None, c: torch.Tensor | None, prefix: str = "mapping.") -> torch.Tensor:
    parts = [_unit(z)] if z is not None else []
    if f"{prefix}embed.weight" in p:
        assert c is not None
        parts.append(_unit(_dense(c, p, f"{prefix}embed")))
    x = torch.cat(parts, dim=1)
    for index in range(64):
        if f"{prefix}fc{index}.weight" in p:
            x = _lrelu(_dense(x, p, f"{prefix}fc{index}", 0.01))
    return x


def draw(
    network: Node,
    z: torch.Tensor,
    c: torch.Tensor | None,
    psi: float = 1,
    clamp: float | None = None,
    heads: tuple[str, ...] = ("torgb", "toseg"),
) -> Values:
    """Pictures by head, with constant noise."""
    p = network.values()
    w = _mapped(p, z.double(), c.double() if c is not None else None)
    w = p["mapping.w_avg"] + psi * (w - p["mapping.w_avg"])
    x, images = torch.empty(0), dict.fromkeys(heads, torch.zeros([]))
    size = 4
    while f"synthesis.b{size}.conv1.weight" in p:
        block = f"synthesis.b{size}"
        if size == 4:
            x = p[f"{block}.const"].expand(len(z), -1, -1, -1)
        else:
            x = _layer(p, f"{block}.conv0", x, w, clamp, up=True)
            images = {head: _doubled(image) for head, image in images.items()}
        x = _layer(p, f"{block}.conv1", x, w, clamp)
        for head in heads:
            name = f"{block}.{head}"
            style = _dense(w, p, f"{name}.affine") / math.sqrt(x.shape[1])
            drawn = torch.einsum("oi,ni,nihw->nohw", p[f"{name}.weight"][:, :, 0, 0], style, x)
            images[head] = images[head] + _clip(drawn + p[f"{name}.bias"][:, None, None], clamp)
        size *= 2
    return images


def _layer(
    p: Values, name: str, x: torch.Tensor, w: torch.Tensor, clamp: float | None, up: bool = False
) -> torch.Tensor:
    style = _dense(w, p, f"{name}.affine")  # [N, I]
    weight = p[f"{name}.weight"] * style[:, None, :, None, None]  # [N, O, I, 3, 3]
    weight = weight / (weight.square().sum(dim=[2, 3, 4], keepdim=True) + 1e-8).sqrt()
    if up:
        x, padding, weight = _doubled(x, extra=1), 0, weight.flip([3, 4])
    else:
        padding = 1
    n, outputs = weight.shape[:2]
    x = F.conv2d(x.reshape(1, -1, *x.shape[2:]), weight.flatten(0, 1), padding=padding, groups=n)
    x = x.reshape(n, outputs, *x.shape[2:]) + p[f"{name}.noise_const"] * p[f"{name}.noise_strength"]
    return _clip(_lrelu(x + p[f"{name}.bias"][:, None, None]), clamp)


def judge(network: Node, images: torch.Tensor, c: torch.Tensor | None, clamp: float | None = None) -> torch.Tensor:
    """Logits [N, 1] of pictures; minibatch deviation in groups of two."""
    p = network.values()

    def conv(x: torch.Tensor, name: str, gain: float = 1, down: bool = False) -> torch.Tensor:
        weight = p[f"{name}.weight"] / math.sqrt(p[f"{name}.weight"][0].numel())
        half = weight.shape[2] // 2
        x = F.conv2d(_fir(x, half + 1, half + 1), weight, stride=2) if down else F.conv2d(x, weight, padding=half)
        if f"{name}.bias" not in p:
            return x * gain
        x = _lrelu(x + p[f"{name}.bias"][:, None, None]) * gain
        return _clip(x, None if clamp is None else clamp * gain)

    x, size = images.double(), images.shape[2]
    while size > 4:
        if f"b{size}.fromrgb.weight" in p:
            x = conv(x, f"b{size}.fromrgb")
        half = math.sqrt(0.5)
        x = conv(x, f"b{size}.skip", half, down=True) + conv(conv(x, f"b{size}.conv0"), f"b{size}.conv1", half, True)
        size //= 2
    n = len(x)
    groups = x.reshape(2, n // 2, -1)
    deviation = (groups.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=1).repeat(2)
    x = torch.cat([x, deviation[:, None, None, None].expand(n, 1, 4, 4)], dim=1)
    x = _dense(_lrelu(_dense(conv(x, "b4.conv").flatten(1), p, "b4.fc")), p, "b4.out")
    if c is not None:
        x = (x * _mapped(p, None, c.double())).sum(dim=1, keepdim=True) / math.sqrt(x.shape[1])
    return x
