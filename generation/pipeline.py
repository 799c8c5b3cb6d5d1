"""A run from checked inputs to the finished folder: selection under a progress line, then manifest, report, summary."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dnnlib.errors import UserError
from dnnlib.files import StrPath, atomic_write_bytes, atomic_write_json
from dnnlib.progress import progress
from generation import writers
from generation.privacy_diversity import KEPT
from generation.records import Person, Plan, Record
from generation.report import ReportData, build_report
from generation.selection import Selection
from generation.summary import explain_shortfall, finish_records, score, summarise
from generation.thresholds import Thresholds

REFRESH_SECONDS = 0.5


def settings_of(
    plan: Plan,
    thresholds: Thresholds,
    sources: dict[str, Any],
    *,
    seed: int,
    truncation: float,
    noise_mode: str,
    identities: str,
    feature_norm: float,
    privacy_check: bool,
) -> dict[str, Any]:
    """settings.json: everything that the dataset depends on, and nothing that it does not (--batch)."""
    return {
        "made_by": writers.MADE_BY,
        "format": 1,
        "seed": seed,
        "ids": plan.ids,
        "samples_per_id": plan.samples_per_id,
        "identities": identities,
        "feature_norm": feature_norm,
        "truncation": truncation,
        "noise_mode": noise_mode,
        "tries": plan.tries,
        "round": plan.round_size,
        "max_slots": plan.max_slots,
        **plan.rules.as_dict(),
        "privacy_check": privacy_check,
        **sources,
        "thresholds": thresholds.as_dict(),
    }


def generate(
    selection: Selection, outdir: StrPath, settings: dict[str, Any], warnings: Sequence[str] = (), show: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """Run the selection into `outdir` (writers.begin has made it ours; selection.store is its FolderStore).

    Returns (summary, notices): the object of summary.json and what the user should be told. Raises UserError where not
    one identity was completed; what was finished stays.
    """
    store = selection.store
    assert isinstance(store, writers.FolderStore), "a run into a folder keeps its work there"
    with ProgressLine(selection.plan, show) as line:
        selection.watch = line
        outcome = selection.run()
    if not outcome.people:
        raise UserError(f"--ids: {explain_shortfall(outcome, selection.plan)}")
    notices = [*warnings]
    if outcome.shortfall:
        notices.append(explain_shortfall(outcome, selection.plan))
    finish_records(outcome.people, selection.plan.absolute)
    scores = score(outcome.people)
    records = outcome.records()
    summary = summarise(outcome, scores, selection.thresholds, store.seconds)
    root = Path(outdir)
    writers.write_manifest(root, records)
    writers.write_description(root, settings, records)
    page = build_report(
        ReportData(root, settings, summary, selection.thresholds, outcome.people, records, scores, notices)
    )
    atomic_write_bytes(root / writers.REPORT, page.encode())
    atomic_write_json(root / writers.SUMMARY, summary)  # the last file: the run is finished
    store.discard()
    return summary, notices


class ProgressLine:
    """Selection.watch as one line: identities done, kept pairs a second, acceptance, the rule that refuses most."""

    def __init__(self, plan: Plan, show: bool) -> None:
        self.bar: tqdm[None] = progress(desc="identities", total=plan.ids, unit="id", show=show)
        self.verdicts: Counter[str] = Counter()
        self.started = self.shown = time.monotonic()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.set_postfix_str(self.text())
        self.bar.close()

    def __call__(self, records: Sequence[Record], person: Person | None) -> None:
        self.verdicts.update(record.verdict for record in records)
        if person is not None and person.complete:
            self.bar.update(1)
        if time.monotonic() - self.shown >= REFRESH_SECONDS:
            self.shown = time.monotonic()
            self.bar.set_postfix_str(self.text())

    def text(self) -> str:
        """What stands behind the bar."""
        kept, judged = self.verdicts[KEPT], sum(self.verdicts.values())
        refused = [(count, rule) for rule, count in self.verdicts.items() if rule != KEPT and count]
        words = f"{kept / max(1e-9, time.monotonic() - self.started):.1f} pairs/s, {kept / max(1, judged):.0%} accepted"
        return words + (f", most refused: {max(refused)[1]} ({max(refused)[0]})" if refused else "")
