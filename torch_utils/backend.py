"""How PyTorch computes on a GPU, set in one place, and what it says when the GPU is too small."""

import contextlib
import textwrap
from collections.abc import Iterator
from typing import Any

import torch

from dnnlib.errors import UserError


def set_backend(allow_tf32: bool = False, cudnn_benchmark: bool = True) -> None:
    """allow_tf32: float32 products and convolutions may round to TF32, which is faster and less exact.

    cudnn_benchmark: cuDNN tries its algorithms at the first batch of each shape and keeps the fastest. Neither has an
    effect on the CPU.
    """
    torch.backends.cuda.matmul.allow_tf32 = allow_tf32
    torch.backends.cudnn.allow_tf32 = allow_tf32
    torch.backends.cudnn.benchmark = cudnn_benchmark


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Inside the block nothing is rounded to TF32, whatever `set_backend` has allowed."""
    places: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    allowed = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = False
        yield
    finally:
        for place, was in zip(places, allowed, strict=True):
            place.allow_tf32 = was


@contextlib.contextmanager
def full_memory_named(option: str, remedy: str) -> Iterator[None]:
    """Turns a GPU without memory left, inside the block, into a UserError that names `option` and what would help."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = textwrap.shorten(str(error), 120, placeholder=" ...")
        raise UserError(f"{option}: the GPU's memory is full; {remedy} ({reason})") from error
