"""A run from checked inputs to the finished folder: selection under a progress line, then manifest, report, summary."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dnnlib.errors import UserError
from dnnlib.files import StrPath, atomic_write_bytes, atomic_write_json
from generation import writers
from generation.datasheet import DATASHEET, build_datasheet
from generation.finished import Finished
from generation.lookout import Lookout
from generation.progress_line import ProgressLine
from generation.records import Plan, Record
from generation.references import Stopped
from generation.report import MOST_HERO, ReportData, build_report
from generation.rules import KEPT
from generation.selection import Selection
from generation.storage import Storage
from generation.summary import Counts, explain_shortfall, score, summarise
from generation.thresholds import Thresholds
from torch_utils.distributed import rank
from torch_utils.stop_signals import StopSignals


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
    storage: Storage,
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
        **storage.record(),
        **sources,
        "thresholds": thresholds.as_dict(),
    }


@writers.outdir_named()
def generate(
    selection: Selection,
    outdir: StrPath,
    settings: dict[str, Any],
    warnings: Sequence[str] = (),
    show: bool = True,
    strict: bool = False,
) -> tuple[dict[str, Any], list[str]] | None:
    """Run the selection into `outdir`, which writers.begin has made ours. Every process calls it.

    Returns (summary, notices) on rank 0: the object of summary.json and what the user should be told. Raises UserError
    where not one identity was completed, with `strict` as soon as that shows, and Stopped where any process was asked
    to leave; what was finished stays.
    """
    lookout = Lookout(selection.plan, selection.encoder, selection.layout, Path(outdir), strict)
    try:
        with ProgressLine(selection.plan, show, lookout) as line:
            selection.watch = line
            outcome = selection.run()
    except Stopped:
        if rank() == 0:
            selection.parts.tell_time(every=0.0)  # what is told of a run in pieces is the time of all of them
        raise
    if rank() != 0:
        return None
    finished = Finished(outcome, selection.parts, selection.plan, selection.real.rows.device)
    counts, notices = Counts(), [*warnings]
    records = counts.seen(_until(selection.stop, finished.records()))
    if outcome.people:
        selection.layout.finish(list(outcome.people))
        writers.write_manifest(outdir, records, selection.layout)
    if outcome.shortfall:
        deque(records, maxlen=0)  # counted all the same
        notices.append(explain_shortfall(outcome, counts, selection.plan))
    if not outcome.people:
        raise UserError(f"--ids: {notices[-1]}")
    scores = score(finished, counts)
    summary = summarise(len(outcome.people), counts, scores, selection.thresholds, selection.parts.seconds)
    root = Path(outdir)
    writers.write_description(root, settings, list(outcome.people), counts.verdicts[KEPT])
    shown = [finished.person(identity) for identity in list(outcome.people)[:MOST_HERO]]
    data = ReportData(selection.layout, settings, summary, selection.thresholds, shown, scores, notices)
    atomic_write_bytes(root / writers.REPORT, build_report(data).encode())
    datasheet = build_datasheet(settings, summary, selection.thresholds, notices)
    atomic_write_bytes(root / DATASHEET, datasheet.encode())
    atomic_write_json(root / writers.SUMMARY, summary)  # the last file: the run is finished
    selection.parts.discard()
    return summary, notices


def _until(stop: StopSignals, records: Iterable[Record]) -> Iterator[Record]:
    """The records; raises Stopped when this process is asked to leave."""
    for record in records:
        if stop.received:
            raise Stopped
        yield record
