"""Where results that can be made again are kept between runs."""

import os
from pathlib import Path

NAME = "arcbifacegan"


def cache_folder(*parts: str) -> Path:
    """$XDG_CACHE_HOME/arcbifacegan/..., by default ~/.cache/arcbifacegan/...; nothing is made."""
    base = os.environ.get("XDG_CACHE_HOME")
    root = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
    return root.joinpath(NAME, *parts)
