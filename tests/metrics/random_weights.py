"""Random weights under the names of public files, the same everywhere, so scaled that figures stay moderate."""

from collections.abc import Mapping

import numpy as np
import torch

from torch_utils.streams import stream


def fill(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    """float32 tensors of these shapes by name; the name tells what one is for."""
    found = {}
    for name, shape in shapes.items():
        values = stream(seed, f"weights of {name}").standard_normal(shape, dtype=np.float32)
        if name.endswith("running_var"):
            values = np.abs(values / 4) + np.float32(1)
        elif name.endswith("bn.weight"):
            values = values / np.float32(8) + np.float32(1)
        elif name.startswith("lin"):  # of LPIPS: none is negative
            values = np.abs(values)
        elif len(shape) > 1:
            values *= np.float32(np.sqrt(2 / np.prod(shape[1:])))
        else:
            values /= 8
        found[name] = torch.from_numpy(values.astype(np.float32))
    return found


def shapes_of(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Of all tensors but counters."""
    state = network.state_dict()
    return {name: tuple(values.shape) for name, values in state.items() if not name.endswith("num_batches_tracked")}


def pictures(number: int, channels: int = 3, height: int = 80, width: int = 60) -> torch.Tensor:
    """uint8 [N, C, H, W]."""
    shape = (number, channels, height, width)
    return torch.from_numpy(stream(0, "measured pictures").integers(0, 256, shape, dtype=np.uint8))
