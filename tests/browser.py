"""A page as a real browser shows it, where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HEIGHT = 2400
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed to look at a page with")


def rendered(page: Path, folder: Path, width: int) -> np.ndarray:
    """The first HEIGHT rows of the page in a window of that width: [HEIGHT, width, 3]. folder: to work in."""
    assert CHROMIUM is not None
    picture = folder / "page.png"
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{HEIGHT}"]
    command += [f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (HEIGHT, width, 3)
    return pixels
