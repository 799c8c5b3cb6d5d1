"""What the pages that generation writes are made of: words, figures, tables, charts, and pictures inside the page.

A page is self-contained: the looks (page.css), charts (generation.plots) and pictures are in it, nothing is loaded from
elsewhere and no script runs.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dnnlib.files import StrPath
from torch_utils.image_tree import encode_png

LARGEST_SIDE = 128  # pixels of an embedded picture; larger ones are shown smaller
CRISP_BELOW = 96  # pixels: smaller pictures are enlarged with hard pixels, honestly

Pixels = NDArray[np.uint8]

FOLDER = Path(__file__).parent


def fill(template: StrPath, title: str, **values: Any) -> str:
    """The page of a template, which holds what is inside <body>: all else is the same for every page."""
    body = Template(Path(template).read_text(encoding="utf-8")).substitute(values)
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    frame = Template((FOLDER / "page_frame.html").read_text(encoding="utf-8"))
    return frame.substitute(title=title, style=style, body=body)


# ----------------------------------------------------------------------------
# Pictures.


def shrunk(pixels: Pixels) -> Pixels:
    """uint8 [H, W, C], no larger than LARGEST_SIDE."""
    if pixels.shape[0] <= LARGEST_SIDE:
        return pixels
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
    smaller = np.asarray(image.resize((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS))
    return smaller.reshape(LARGEST_SIDE, LARGEST_SIDE, -1)


def data_uri(pixels: Pixels) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_png(pixels)).decode()


def picture(pixels: Pixels, words: str) -> str:
    """An <img> with the pixels in it. words: for those who do not see it."""
    small = shrunk(pixels)
    look = ' class="crisp"' if small.shape[0] < CRISP_BELOW else ""
    return f'<img{look} src="{data_uri(small)}" alt="{html.escape(words)}">'


# ----------------------------------------------------------------------------
# Words and figures.


def count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def figure(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)  # noqa: RUF001


def notices(lines: Iterable[str]) -> str:
    return "".join(f'<p class="notice">{html.escape(line)}</p>' for line in lines)


def cards(figures: Iterable[tuple[str, str]]) -> str:
    """(figure, what it is) each."""
    return "".join(
        f'<div class="card"><b>{value}</b><small>{html.escape(text)}</small></div>' for value, text in figures
    )


def chart(title: str, key: Iterable[tuple[str, str]], svg: str, note: str) -> str:
    """A chart with its key: (colour's CSS variable, label) each."""
    marks = "".join(f'<span><i style="background:var({color})"></i>{label}</span>' for color, label in key)
    return f'<figure class="chart"><h3>{title}</h3><div class="key">{marks}</div>{svg}<p>{note}</p></figure>'


def table(rows: dict[str, Any]) -> str:
    """Two columns, a row a name; text and names come from files and are escaped."""

    def show(value: Any) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        text = html.escape(f"{value:g}" if isinstance(value, float) else str(value))
        return f"<code>{text}</code>" if len(text) >= 16 and " " not in text else text

    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{show(value)}</td></tr>" for name, value in rows.items())
    return f"<table>{cells}</table>"


def grid(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table with a line of titles; what stands in it comes from files, too, and is escaped."""
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    lines = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="grid"><tr>{titles}</tr>{lines}</table></div>'
