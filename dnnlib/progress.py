"""Progress bars: on stderr, named, with a unit, and silent where nobody looks."""

from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

from dnnlib import console

T = TypeVar("T")


def progress(
    items: Iterable[T] | None = None,
    *,
    desc: str,
    total: int | None = None,
    unit: str = "it",
    show: bool = True,
    initial: int = 0,
) -> "tqdm[T]":
    """A tqdm bar over `items` (or to be updated by hand). Refreshes at most twice a second; `show=False` hides it,
    as --quiet does."""
    options: dict[str, Any] = {"mininterval": 0.5, "dynamic_ncols": True, "smoothing": 0.1, "leave": True}
    return tqdm(
        items,  # type: ignore[return-value]
        desc=desc,
        total=total,
        unit=unit,
        initial=initial,
        disable=not show or console.manner().quiet,
        **options,
    )
