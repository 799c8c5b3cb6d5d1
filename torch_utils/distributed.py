"""Processes and devices: one code path for a CPU, one GPU, many GPUs, many nodes.

Without a process group every function here is the trivial case of one process.
"""

from collections.abc import Iterable
from typing import TypeVar

import torch
import torch.distributed as dist

from dnnlib.errors import UserError

M = TypeVar("M", bound=torch.nn.Module)


def is_running() -> bool:
    """Whether a process group is up."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's number, 0 to world_size() - 1."""
    return dist.get_rank() if is_running() else 0


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if is_running() else 1


def pick_device(name: str = "auto") -> torch.device:
    """`--device`: auto (this process's GPU where there is one, else the CPU), a torch device's name, or a GPU's number.

    Raises UserError where there is no such device.
    """
    count = torch.cuda.device_count()
    if name == "auto":
        name = f"cuda:{rank() % count}" if count else "cpu"
    try:
        device = torch.device(f"cuda:{name}" if name.isdigit() else name)
    except RuntimeError as error:
        raise UserError(f"--device: {name}: no such device; cpu, cuda, the number of a GPU, or auto") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device: {name}: only cpu, cuda, the number of a GPU, or auto")
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(f"--device: {name}: this machine has {count} usable GPUs; cpu or auto would work")
    return device


def to_device(module: M, device: torch.device | str) -> M:
    """Moves a network to the device, its weights channels_last, the layout that convolutions are fastest in."""
    return module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def barrier() -> None:
    """Waits for all processes."""
    if is_running():
        dist.barrier()


def all_reduce_sum(tensor: torch.Tensor) -> torch.Tensor:
    """Replaces `tensor` by its sum over all processes, in place, and returns it."""
    if is_running():
        dist.all_reduce(tensor)
    return tensor


def broadcast_module(module: torch.nn.Module) -> None:
    """Gives every process rank 0's parameters and buffers."""
    if is_running():
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.detach(), src=0)


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> torch.Tensor | None:
    """Averages the gradients of `parameters` over all processes, as one flat tensor, which is returned.

    The gradients become views of it. None where no parameter has a gradient.
    """
    withs = [parameter for parameter in parameters if parameter.grad is not None]
    if not withs:
        return None
    flat = torch.cat([parameter.grad.flatten() for parameter in withs if parameter.grad is not None])
    if is_running():
        all_reduce_sum(flat)
        flat /= world_size()
    for parameter, piece in zip(withs, flat.split([parameter.numel() for parameter in withs]), strict=True):
        parameter.grad = piece.reshape(parameter.shape)
    return flat
