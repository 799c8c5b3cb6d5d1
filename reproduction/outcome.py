"""The files that an experiment ends with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dnnlib.files import atomic_write_bytes, atomic_write_json
from reproduction.claims import Claim
from reproduction.experiment import Experiment
from reproduction.report import build_report
from reproduction.results import Results
from reproduction.tables import markdown

RESULTS, TABLE, CLAIMS, REPORT = "results.json", "results.md", "claims.json", "report.html"


def write(outdir: Path, experiment: Experiment, results: Results, claims: Sequence[Claim]) -> None:
    """results.json, results.md, claims.json and report.html, each whole or not at all."""
    atomic_write_json(outdir / RESULTS, results)
    atomic_write_bytes(outdir / TABLE, markdown(results, claims).encode())
    atomic_write_json(outdir / CLAIMS, [claim._asdict() for claim in claims])
    atomic_write_bytes(outdir / REPORT, build_report(outdir, experiment.real.path, results, claims).encode())
