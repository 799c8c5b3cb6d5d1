"""How the dataset lies on disk, as the user chose: layout, picture files, previews."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dnnlib.errors import UserError
from dnnlib.files import StrPath
from generation.choices import DEFAULT_QUALITY
from generation.encoding import Encoding
from generation.layouts import Layout, build_layout, check_layout
from generation.parts import PARTS
from generation.previews import WithPreviews
from generation.records import Plan


@dataclass(frozen=True)
class Storage:
    """layout: one of generation.choices.LAYOUTS. previews: people to draw small pictures of."""

    layout: str = "folder"
    encoding: Encoding = field(default_factory=Encoding)
    previews: int = 0

    def record(self) -> dict[str, Any]:
        """What settings.json says."""
        return {"layout": self.layout, **self.encoding.record(), "previews": self.previews}

    def build(self, outdir: StrPath, plan: Plan) -> Layout:
        """The layout of one run's folder."""
        root = Path(outdir)
        layout = build_layout(self.layout, root, root / PARTS, plan.samples_per_id, self.encoding.format)
        return WithPreviews(layout, root, self.previews) if self.previews else layout


def choose(format: str, image_format: str, quality: int | None, previews: int, plan: Plan) -> Storage:
    """From options; quality None: not given. Raises UserError for what does not go together."""
    if quality is not None and image_format != "jpg":
        raise UserError("--quality: goes with --image-format jpg; a PNG loses nothing")
    check_layout(format, plan.ids, plan.samples_per_id)
    return Storage(format, Encoding(image_format, quality or DEFAULT_QUALITY), previews)
