"""What came out: the figures that the finished stages wrote, brought together, each with the stage it comes from.

recipe        scale, seeds, what was asked for, people and pairs of each source, and the benchmarks that decide
stages        name -> command line and seconds
quality       drawn and held-out pictures against the real ones: metric, spectrum, value
datasets      what the filter did: the summaries of both synthetic sets
notices       what makes the figures worth less
privacy       by synthetic source: leakage at each threshold, the nearest real picture, membership
people        by source, the real one included: mated and non-mated scores, EER, FDR, diversity
recognition   a run each: source, spectra, seed, and the accuracy on each benchmark
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from dnnlib.files import read_json, read_lines
from reproduction.experiment import QUALITY, SOURCES, SPECTRA, SYNTHETIC, THRESHOLDS, Experiment, recognition_name
from reproduction.stages import DONE, Record

FIGURES = ("accuracy", "accuracy_sd", "eer")  # of a benchmark
FACTS = ("metric", "spectrum", "value", "sd", "num_real", "num_fake", "detector")
OWN_TEST = "pairs-vis-vis"  # the held-out people's list, within the visible spectrum
VISIBLE = "vis-vis"

Results = dict[str, Any]


def gather(outdir: Path, experiment: Experiment, record: Record) -> Results:
    """Reads what the stages wrote; every stage must be done."""
    audits = {source: read_json(outdir / f"audit-{source}" / "audit.json", "--outdir") for source in SYNTHETIC}
    datasets = {source: read_json(outdir / source / "summary.json", "--outdir") for source in SYNTHETIC}
    warnings = read_json(outdir / THRESHOLDS, "--outdir").get("warnings", [])
    runs = list(_runs(outdir, experiment.seeds))
    return {
        "recipe": {
            "scale": experiment.scale,
            "seeds": list(experiment.seeds),
            "asked": {"people": experiment.ids, "pairs": experiment.ids * experiment.samples},
            "real_people": audits["filtered"]["inputs"]["real_data"]["people"],
            "pairs": {"real": experiment.real.pairs, **{name: own["pairs_kept"] for name, own in datasets.items()}},
            "heldout_pairs": experiment.heldout.pairs if experiment.heldout else 0,
            "decides": _deciding(experiment.scale, runs),
        },
        "stages": {
            stage.name: {"command": stage.line(), "seconds": record.stages[stage.name]["seconds"]}
            for stage in experiment.stages()
            if record.stages[stage.name]["state"] == DONE
        },
        "quality": [
            {"pictures": name, **{key: line[key] for key in FACTS if key in line}, "stage": f"quality-{name}"}
            for name, path in QUALITY.items()
            if (outdir / path).exists()
            for line in read_lines(outdir / path)
        ],
        "datasets": datasets,
        "notices": [*warnings, *audits["filtered"]["notices"]],
        "privacy": {source: _privacy(audit) for source, audit in audits.items()},
        "people": {
            "real": {**audits["filtered"]["real"], "stage": "audit-filtered"},
            **{source: _people(audit, source) for source, audit in audits.items()},
        },
        "recognition": runs,
    }


def unfilled(results: Results, sources: Iterable[str] = SYNTHETIC) -> str:
    """The first of the synthetic sets that has fewer pairs than were asked for, in words: a comparison with it is not
    fair. Empty where there is none."""
    pairs, asked = results["recipe"]["pairs"], results["recipe"]["asked"]["pairs"]
    short = [source for source in sources if source in SYNTHETIC and pairs[source] < asked]
    return f"{short[0]} has {pairs[short[0]]:,} of the {asked:,} pairs that were asked for" if short else ""


def _privacy(audit: Mapping[str, Any]) -> dict[str, Any]:
    names = ("samples", "people", "leakage", "highest_real_similarity", "membership", "duplicates")
    return {name: audit[name] for name in names}


def _people(audit: Mapping[str, Any], source: str) -> dict[str, Any]:
    """diversities: of each person, so that two sets can be compared by what differs between people."""
    each = [one["diversity_cosine"] for one in audit["identities"] if one["diversity_cosine"] is not None]
    return {**audit["synthetic"], "diversities": each, "stage": f"audit-{source}"}


# ----------------------------------------------------------------------------
# Recognition.


def _runs(outdir: Path, seeds: Sequence[int]) -> Iterable[dict[str, Any]]:
    for source, spectra, seed in product(SOURCES, SPECTRA, seeds):
        name = recognition_name(source, spectra, seed)
        tests: dict[str, dict[str, Any]] = {}
        for line in read_lines(outdir / "recognition" / name / "metrics.jsonl"):
            if "benchmark" in line and line["metric"] in FIGURES:
                own = tests.setdefault(line["benchmark"], {"spectrum": line["spectrum"]})
                own[line["metric"]] = line["value"]
        yield {"source": source, "spectra": spectra, "seed": seed, "tests": tests, "stage": name}


def _deciding(scale: str, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The benchmarks that the claims are judged by: visible ones, and in the miniature the held-out people's own, for
    models that know rendered faces have nothing to say of others."""
    visible = sorted({name for run in runs for name, test in run["tests"].items() if test["spectrum"] == VISIBLE})
    return [OWN_TEST] if scale == "mini" and OWN_TEST in visible else visible


class Mean(NamedTuple):
    """Over seeds. sd: the sample's; None of a single one."""

    mean: float
    sd: float | None
    number: int


def mean_of(values: Sequence[float]) -> Mean:
    """Raises statistics.StatisticsError for no values."""
    return Mean(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def benchmarks_of(results: Results) -> dict[str, str]:
    """Benchmark -> its spectra, those that decide first."""
    found = {name: test["spectrum"] for run in results["recognition"] for name, test in run["tests"].items()}
    decides = results["recipe"]["decides"]
    return {name: found[name] for name in [*decides, *(name for name in sorted(found) if name not in decides)]}


def accuracies(results: Results, source: str, spectra: str, benchmarks: Iterable[str]) -> list[float]:
    """Of each seed, the mean accuracy over the benchmarks; a run that lacks one is left out."""
    names = list(benchmarks)
    return [
        statistics.fmean(run["tests"][name]["accuracy"] for name in names)
        for run in results["recognition"]
        if (run["source"], run["spectra"]) == (source, spectra) and names and set(names) <= run["tests"].keys()
    ]


# ----------------------------------------------------------------------------
# Quality.


def figures(results: Results, family: str, pictures: str = "drawn") -> dict[str, float]:
    """Values of a metric, whatever its number of pictures, by part and spectrum: ('error', 'vis-nir') as
    'error/vis-nir', a figure without parts as '/vis'. What was no number is left out."""
    found = {}
    for line in results["quality"]:
        if line["pictures"] == pictures and line["metric"].startswith(family) and line["value"] is not None:
            rest = line["metric"][len(family) :].lstrip("0123456789k")
            if rest == "" or rest.startswith("_"):
                found[f"{rest.lstrip('_')}/{line['spectrum']}"] = line["value"]
    return found
