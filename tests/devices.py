"""A GPU's strictness without a GPU: networks on PyTorch's meta device, and an error for operands on two devices."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")
COPIES = (torch.ops.aten.copy_.default,)  # what is there to go from one device to another


class OneDevice(TorchDispatchMode):
    """Inside the block every operation has its tensors on one device, single numbers excepted, as on a GPU.

    The meta device itself lets many operations pass, convolutions among them.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operands = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor) and value.ndim]
        devices = {operand.device for operand in operands}
        if len(devices) > 1 and func not in COPIES:
            raise RuntimeError(f"{func}: {', '.join(f'{list(o.shape)} on {o.device}' for o in operands)}")
        return func(*args, **(kwargs or {}))
