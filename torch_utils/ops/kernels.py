"""Which kernels serve a tensor: the compiled ones on a GPU where they can be built, else the PyTorch reference."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from types import ModuleType

import torch

from dnnlib import console
from torch_utils import distributed
from torch_utils.ops import build

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_forced: list[ModuleType | None] = []


def kernels_for(x: torch.Tensor) -> ModuleType | None:
    """The compiled module whose functions take x (csrc/bind.cpp), or None where the reference serves.

    On the CPU always None. At the first use on a GPU the kernels are built; in a process group every process must come
    here then, which `prepare` sees to. A failure is told in one line, once.
    """
    if _forced:
        return _forced[-1]
    if x.device.type != "cuda" or x.dtype not in DTYPES:
        return None
    return _plugin(x.device)


def prepare(device: torch.device) -> None:
    """Builds the kernels now if they will be needed: every process of a group calls it before the first use."""
    if device.type == "cuda":
        _plugin(torch.empty(0, device=device).device)  # with its number


@contextlib.contextmanager
def use(kernels: ModuleType | None) -> Iterator[None]:
    """Inside the block these kernels serve every tensor, or the reference if None: for tests and comparisons."""
    _forced.append(kernels)
    try:
        yield
    finally:
        _forced.pop()


def current_stream(x: torch.Tensor) -> int:
    """The handle of the CUDA stream that work on x belongs to; 0 on the CPU."""
    return int(torch.cuda.current_stream(x.device).cuda_stream) if x.is_cuda else 0


@functools.cache
def _plugin(device: torch.device) -> ModuleType | None:
    return together(lambda: _tried(device))


def _tried(device: torch.device) -> ModuleType:
    """Builds, loads, and has the GPU do one sum: a driver that is too old or code for another GPU shows only then."""
    made = build.build_for(torch.cuda.get_device_capability(device))
    build.ensure(made)
    module = build.load(made)
    x = torch.tensor([[-1.0]], device=device)
    y = module.bias_act(x, None, None, None, "lrelu", 2.0, -1.0, current_stream(x)).item()
    if abs(y + 0.4) > 1e-6:
        raise build.BuildError(f"the kernels are wrong on {device}: {y} instead of -0.4")
    return module


def together(make: Callable[[], ModuleType]) -> ModuleType | None:
    """Rank 0 makes the kernels, then the others do (they find them, or build them on their own machine): all or none.

    Whoever fails says why, and all go on with the reference.
    """
    module, failed = None, False
    for turn in (distributed.rank() == 0, distributed.rank() != 0):
        if turn and not failed:
            module = _or_say_why(make)
            failed = module is None
        failed = distributed.any_of(failed)  # the barrier as well
    return None if failed else module


def _or_say_why(make: Callable[[], ModuleType]) -> ModuleType | None:
    try:
        return make()
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        console.warn(
            f"CUDA kernels: {reason}; the PyTorch reference serves instead, only slower. "
            "To build them ahead: python -m torch_utils.ops.build"
        )
        return None
