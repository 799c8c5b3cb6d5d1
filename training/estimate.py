"""What a configuration takes: parameters by module, memory of one GPU, and work, before anything is trained.

Networks are built and every phase is run on PyTorch's meta device, where tensors have shapes and no memory, so a
1024x1024 preset takes seconds. Counted are the weights, their average, one gradient of each, Adam's two moments, and
what autograd keeps for the backward pass of the largest phase, the augmentation of every picture included. Not
counted are the passing buffers of single operations, what cuDNN and the allocator set aside, and the CUDA context,
together some 1 to 2 GiB.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn

from training.adversarial import Images, path_lengths, r1_penalty
from training.augment_geometry import warp
from training.config import TrainingConfig
from training.discriminator import Discriminator
from training.generator import Generator
from training.operations import pair_flops
from training.precision import use_precision

GIB = 1 << 30
META = torch.device("meta")


def estimate(config: TrainingConfig) -> dict[str, Any]:
    """For --dry-run: 'parameters' by module, 'memory_gib_per_gpu' and 'memory_parts_gib', 'tflop_per_kimg'."""
    generator, discriminators = build_meta(config)
    constant = constant_bytes(generator, discriminators)
    phases = activation_bytes(config, generator, discriminators)
    largest = max(phases, key=lambda name: phases[name])
    parts = {"weights_gradients_moments": constant, **{f"activations_{name}": size for name, size in phases.items()}}
    return {
        "parameters": count_parameters(generator, discriminators),
        "memory_gib_per_gpu": round((constant + phases[largest]) / GIB, 3),
        "memory_parts_gib": {name: round(size / GIB, 3) for name, size in parts.items()},
        "tflop_per_kimg": round(1000 * pair_flops(config, generator, discriminators) / 1e12, 1),
    }


def build_meta(config: TrainingConfig) -> tuple[Generator, dict[str, Discriminator]]:
    """The configuration's networks without memory behind them, requiring no gradients."""
    with META:
        generator = Generator(**config.generator)
        discriminators = {name: Discriminator(**kwargs) for name, kwargs in config.discriminators.items()}
    networks: list[Generator | Discriminator] = [generator, *discriminators.values()]
    for network in networks:
        network.requires_grad_(False)
        use_precision(network, config.precision)
    return generator, discriminators


# ----------------------------------------------------------------------------
# Parameters.


def count_parameters(generator: Generator, discriminators: dict[str, Discriminator]) -> dict[str, Any]:
    """Numbers of parameters: the generator's mapping, each resolution without its heads, the heads of each spectrum."""
    heads = dict.fromkeys(generator.spectra, 0)
    blocks = {f"b{res}": _size(getattr(generator.synthesis, f"b{res}")) for res in generator.synthesis.resolutions}
    for block in blocks:
        for name, head in getattr(generator.synthesis, block).heads.items():
            heads[name] += _size(head)
            blocks[block] -= _size(head)
    judges = {name: _size(network) for name, network in discriminators.items()}
    total = _size(generator) + sum(judges.values())
    drawn = {"mapping": _size(generator.mapping), "synthesis": blocks, "heads": heads, "total": _size(generator)}
    return {"generator": drawn, "discriminators": judges, "total": total}


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def constant_bytes(generator: Generator, discriminators: dict[str, Discriminator]) -> int:
    """What stays in memory all the time: weights, average (the generator's), gradients, two moments."""
    buffers = sum(_bytes(net.buffers()) for net in (generator, generator, *discriminators.values()))
    return (
        _bytes(generator.parameters()) * 5
        + sum(_bytes(net.parameters()) for net in discriminators.values()) * 4
        + buffers
    )


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


# ----------------------------------------------------------------------------
# Activations.


class SavedBytes:
    """A context that adds up the memory behind all that autograd saves in it, but for that of `apart`."""

    def __init__(self, apart: Iterable[nn.Module]) -> None:
        tensors = (tensor for module in apart for tensor in (*module.parameters(), *module.buffers()))
        self._apart = {tensor.untyped_storage()._cdata for tensor in tensors}
        # Kept, so that no other storage takes the same place.
        self._saved: dict[int, torch.UntypedStorage] = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._apart:
            self._saved[storage._cdata] = storage
        return tensor

    @property
    def total(self) -> int:
        """Bytes so far."""
        return sum(storage.nbytes() for storage in self._saved.values())

    def __enter__(self) -> "SavedBytes":
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)


def activation_bytes(
    config: TrainingConfig, generator: Generator, discriminators: dict[str, Discriminator]
) -> dict[str, int]:
    """Saved bytes of each phase, as training.loss runs them, on the device that the networks are on."""
    device = next(generator.parameters()).device
    count = config.batch_gpu
    z = torch.zeros([count, generator.z_dim], device=device)
    c = torch.zeros([count, generator.c_dim], device=device)
    sizes = {name: (kwargs["image_channels"], config.resolution) for name, kwargs in config.discriminators.items()}
    reals = {
        name: torch.zeros([count, channels, side, side], device=device) for name, (channels, side) in sizes.items()
    }
    networks: list[nn.Module] = [generator, *discriminators.values()]

    def judge(name: str, images: torch.Tensor) -> torch.Tensor:
        if config.augment:
            images = warp(images, torch.zeros([len(images), 3, 3], device=device))
        return discriminators[name](images, c)

    def measured(learning: Iterable[nn.Module], run: Callable[[], Any]) -> int:
        for network in learning:
            network.requires_grad_(True)
        with SavedBytes(networks) as saved:
            kept = run()  # the graphs live as long as this
        del kept
        for network in learning:
            network.requires_grad_(False)
        return saved.total

    def drawn() -> Images:
        return generator(z, c, noise_mode="random")

    def lengths() -> torch.Tensor:
        half = max(count // 2, 1)
        ws = generator.mapping(z[:half], c[:half])
        images = generator.synthesis(ws, noise_mode="random")
        return path_lengths(images, ws, {name: torch.zeros_like(image) for name, image in images.items()})

    def penalty(name: str) -> torch.Tensor:
        real = reals[name].clone().requires_grad_(True)
        return r1_penalty(judge(name, real), real, config.gamma)

    def both(name: str) -> list[torch.Tensor]:
        return [judge(name, images[name]) for images in (reals, reals)]

    phases = {
        "generator_main": measured([generator], lambda: [judge(name, image) for name, image in drawn().items()]),
        "discriminator_main": max(measured([net], partial(both, name)) for name, net in discriminators.items()),
    }
    if config.path_length_weight:
        phases["generator_reg"] = measured([generator], lengths)
    if config.gamma and config.r1_spectra:
        phases["discriminator_reg"] = max(
            measured([discriminators[name]], partial(penalty, name)) for name in config.r1_spectra
        )
    return phases
