"""What processes do together: one code path for a CPU, one GPU, many GPUs, many nodes.

Without a process group every function here is the trivial case of one process. `launch.py` starts the processes.
Tensors on the CPU travel by gloo, those on a GPU by NCCL, in the same group.
"""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from dnnlib.errors import SharedUserError, UserError

M = TypeVar("M", bound=torch.nn.Module)
T = TypeVar("T")
CPU = torch.device("cpu")


def is_running() -> bool:
    """Whether a process group is up."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's number, 0 to world_size() - 1."""
    return dist.get_rank() if is_running() else 0


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if is_running() else 1


def local_rank() -> int:
    """This process's number on its machine."""
    return int(os.environ.get("LOCAL_RANK", 0)) if is_running() else 0


def local_size() -> int:
    """How many processes work together on this machine: torchrun says so, without it all are here."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size())) if is_running() else 1


# ----------------------------------------------------------------------------
# Devices.


def named_device(name: str) -> torch.device:
    """The device that `--device` names, auto excepted, whether this machine has it or not. Raises UserError."""
    try:
        device = torch.device(f"cuda:{name}" if name.isdigit() else name)
    except RuntimeError as error:
        raise UserError(f"--device: {name}: no such device; cpu, cuda, the number of a GPU, or auto") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device: {name}: only cpu, cuda, the number of a GPU, or auto")
    return device


def pick_device(name: str = "auto") -> torch.device:
    """`--device`: auto (this process's GPU where there is one, else the CPU), a torch device's name, or a GPU's number.

    Where several processes work together, auto and cuda are the GPU of the process's number on its machine.
    Raises UserError where there is no such device.
    """
    count = torch.cuda.device_count()
    device = named_device(("cuda" if count else "cpu") if name == "auto" else name)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", local_rank())
    if device.type == "cuda" and device.index >= count:
        raise UserError(f"--device: {device}: this machine has {count} usable GPUs; cpu or auto would work")
    return device


def to_device(module: M, device: torch.device | str) -> M:
    """Moves a network to the device, its weights channels_last, the layout that convolutions are fastest in."""
    return module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


# ----------------------------------------------------------------------------
# Agreement: Python values, over the CPU.


def barrier() -> None:
    """Waits for all processes."""
    if is_running():
        dist.all_reduce(torch.zeros([1]))


def any_of(flag: bool) -> bool:
    """Whether `flag` is true in any process; the GPU is not waited for."""
    return bool(all_reduce_sum(torch.tensor([float(flag)])).item()) if is_running() else flag


def from_rank_zero(make: Callable[[], T]) -> T:
    """What rank 0's call of `make` returns, on every rank; a UserError there is raised on every rank."""
    if not is_running():
        return make()
    outcome: list[Any] = [_outcome(make) if rank() == 0 else None]
    dist.broadcast_object_list(outcome, src=0, device=CPU)
    return _unpack(outcome)


def everywhere(make: Callable[[], T]) -> T:
    """Calls `make` on every rank; the first rank's UserError, if any, is raised on every rank."""
    if not is_running():
        return make()
    outcome = _outcome(make)
    errors: list[Any] = [None] * world_size()
    dist.all_gather_object(errors, outcome[1])
    return _unpack([outcome, *((None, error) for error in errors)])


def _outcome(make: Callable[[], T]) -> tuple[Any, str | None]:
    try:
        return make(), None
    except UserError as error:
        return None, str(error)


def _unpack(outcomes: Sequence[tuple[Any, str | None]]) -> Any:
    for _, error in outcomes:
        if error is not None:
            raise SharedUserError(error)
    return outcomes[0][0]


def gathered(value: T) -> list[T]:
    """The `value` of every process, by rank, on every rank."""
    if not is_running():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def gathered_at_first(value: T) -> list[T]:
    """The `value` of every process, by rank, on rank 0, which alone needs memory for them; elsewhere nothing."""
    if not is_running():
        return [value]
    values: list[Any] | None = [None] * world_size() if rank() == 0 else None
    dist.gather_object(value, values, dst=0)
    return values or []


# ----------------------------------------------------------------------------
# Counters: what a process may look at whenever it likes, without waiting for another.

_counters = itertools.count()
_store: Any = None  # torch's store, where the processes have met


@contextlib.contextmanager
def shared_store(store: Any) -> Iterator[None]:
    """Inside the block counters are kept in `store`, torch's key-value store of all processes (process_group.py)."""
    global _store, _counters
    _store, _counters = store, itertools.count()
    try:
        yield
    finally:
        _store = None


class SharedCounter:
    """A number that all processes add to, 0 at first. They must make their counters in the same order."""

    def __init__(self) -> None:
        self._key, self._alone = f"counter/{next(_counters)}", 0
        self.add(0)

    @property
    def value(self) -> int:
        """The number there is now."""
        return int(_store.get(self._key)) if _store is not None else self._alone

    def add(self, amount: int = 1) -> int:
        """Adds, and returns the number there is now. A message to the store's process, or a line in its file."""
        if _store is not None:
            return int(_store.add(self._key, amount))
        self._alone += amount
        return self._alone


class Tickets:
    """The numbers 0 to count - 1, each handed to the process that asks first. Made by all processes together."""

    def __init__(self, count: int) -> None:
        self.count, self._next = count, SharedCounter()

    def __iter__(self) -> Iterator[int]:
        while (number := self._next.add() - 1) < self.count:
            yield number


# ----------------------------------------------------------------------------
# Tensors.


def all_reduce_sum(tensor: torch.Tensor) -> torch.Tensor:
    """Replaces `tensor` by its sum over all processes, in place, and returns it."""
    if is_running():
        dist.all_reduce(tensor)
    return tensor


def all_reduce_mean(tensor: torch.Tensor) -> torch.Tensor:
    """Replaces `tensor` by its mean over all processes, in place, and returns it."""
    if is_running():
        all_reduce_sum(tensor).div_(world_size())
    return tensor


def broadcast_module(module: torch.nn.Module) -> None:
    """Gives every process rank 0's parameters and buffers."""
    if is_running():
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.detach(), src=0)


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> list[torch.Tensor]:
    """Averages the gradients of `parameters` over all processes, in one message, and returns those there are.

    Every process must have gradients of the same parameters.
    """
    withs = [parameter for parameter in parameters if parameter.grad is not None]
    if is_running() and withs:
        flat = torch.empty([sum(parameter.numel() for parameter in withs)], device=withs[0].device)
        for parameter, piece in zip(withs, flat.split([parameter.numel() for parameter in withs]), strict=True):
            # The message's order is that of the parameters' memory, the same everywhere, and the optimiser's favourite.
            view = piece.as_strided(parameter.shape, parameter.stride(), piece.storage_offset())
            parameter.grad = view.copy_(parameter.grad)
        all_reduce_mean(flat)
    return [parameter.grad for parameter in withs if parameter.grad is not None]


def all_finite(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether every element is finite (and small enough for its square); waits for the device."""
    return not tensors or bool(torch.stack(torch._foreach_norm(list(tensors))).isfinite().all())
