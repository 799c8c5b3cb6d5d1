"""An audit from what was seen to its files, and its words for a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dnnlib.errors import UserError
from generation import audit_files
from generation.audit import Numbers, Seen, audit
from generation.audit_report import AuditPage, build_page, datasheet_section, verdicts
from generation.thresholds import Thresholds

SAME_PICTURE = 0.9999  # held-out pictures this near to a real one are in both sets


class Told(NamedTuple):
    """The findings: figures, as audit.json has them, and in words; notices: what makes them worth less."""

    figures: dict[str, Any]
    lines: list[str]
    notices: list[str]


def run_audit(
    opened: dict[str, audit_files.Dataset],
    seen: dict[str, Seen],
    thresholds: Thresholds | None,
    inputs: dict[str, Any],
    outdir: Path,
    device: Any = "cpu",
) -> Told:
    """Audit `data` against `real_data`, with `heldout_data` if it is there, and write the findings into `outdir`.

    Raises UserError where the real set cannot tell anybody apart.
    """
    synthetic, real, heldout = seen["data"], seen["real_data"], seen.get("heldout_data")
    try:
        found = audit(synthetic, real, heldout, thresholds, device)
    except ValueError as error:
        raise UserError(f"--real-data: {opened['real_data'].path}: {error}") from error
    notices = _notices(found.outside)
    inputs = {**inputs, "thresholds": None if thresholds is None else thresholds.as_dict()}
    figures = audit_files.as_dict(found, synthetic, real, inputs) | {"notices": notices}
    data = AuditPage(found, synthetic, real, opened["data"], opened["real_data"], figures, notices)
    table = audit_files.as_table(found, synthetic, real)
    written = audit_files.write(outdir, figures, table, build_page(data), datasheet_section(data), opened["data"].path)
    lines = [f"  {head}. {text}" for _, head, text in verdicts(data)]
    lines += [f"  {name}: {leak.rate:.2%} of the samples over {leak.threshold:.4f}, {leak.strangers:.2%} of strangers"
              for name, leak in found.leaks.items()]  # fmt: skip
    lines += [f"Wrote {path}" for path in written]
    return Told(figures | {"written": [str(path) for path in written]}, lines, notices)


def _notices(outside: Numbers | None) -> list[str]:
    """What makes the findings worth less. outside: as of Findings."""
    if outside is None:
        return ["No held-out people were given (--heldout-data), so membership was not tested."]
    same = int(np.sum(outside > SAME_PICTURE))
    if not same:
        return []
    return [f"{same} of {len(outside)} held-out pictures are among the real ones, too: they are not held out."]
