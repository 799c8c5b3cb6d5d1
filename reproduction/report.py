"""report.html: the claims with their verdicts, pictures of each source, charts, and the table of all figures."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dnnlib.files import read_lines
from generation import page
from generation.plots import Bars, Limit, Series, bars, histogram
from reproduction.claims import CHANCE, NOT_REPRODUCED, REPRODUCED, UNDECIDED, Claim
from reproduction.experiment import SOURCES, SPECTRA, SYNTHETIC
from reproduction.results import Results, accuracies, benchmarks_of, mean_of, unfilled
from reproduction.tables import SPECTRUM, Table, tables, words_of
from torch_utils.picture_source import open_spectra
from torch_utils.spectra import SPECTRA as PICTURED

LOOKS = {REPRODUCED: "fine", NOT_REPRODUCED: "look", UNDECIDED: "open"}
COLORS = {"real": "mated", "unfiltered": "refused", "filtered": "nonmated"}
PEOPLE, PAIRS = 4, 4  # of each source
TILE = 100  # CSS pixels of a picture


def build_report(outdir: Path, real: str, results: Results, claims: Sequence[Claim]) -> str:
    """The page as HTML text. outdir: of the experiment; real: where the real pairs lie."""
    recipe = results["recipe"]
    mini = recipe["scale"] == "mini"
    what = "in miniature, with rendered faces" if mini else "at the paper's scale"
    seconds = sum(stage["seconds"] for stage in results["stages"].values())
    return page.fill(
        Path(__file__).with_name("report_template.html"),
        title="The paper's experiment",
        heading=f"The paper's experiment, {what}",
        lead="Generating bimodal privacy-preserving data for face recognition (Tomasevic et al. 2024): a generator "
        "learns from real people, a dataset of people who do not exist is generated and filtered, and recognition "
        "models that learn from it are tested on people nobody has seen.",
        cards=page.cards(_cards(results, claims, seconds)),
        claims_lead="Each criterion was written down before the figures that it judges, and the program evaluates it "
        "(claims.json). Where means are compared, their difference must exceed two standard errors; what lies within "
        "them is undecided.",
        notices=page.notices(filter(None, [unfilled(results), *results["notices"]])),
        claims="".join(_claim(claim) for claim in claims),
        people_lead=f"The first {PEOPLE} people of each source, visible light above, near infrared below. One latent "
        "and two heads draw a synthetic pair. Unfiltered and filtered people come from one sequence of features, of "
        "which the filter leaves some out.",
        people="".join(_people(outdir, real, source) for source in SOURCES),
        columns=PAIRS,
        personwidth=f"{PAIRS * TILE // 2 + 30}px",
        charts="".join(_charts(outdir, results)),
        tables="".join(_table(table) for table in tables(results)),
        commands_lead="Every stage is a command line of its own; they run in the experiment's folder. Seconds are "
        "those of each stage; some of them ran side by side.",
        commands=page.grid(["stage", "seconds", "command"], _commands(results)),
        footer="Made by ArcBiFaceGAN (open implementation), reproduce.py. All figures are in results.json.",
    )


def _cards(results: Results, claims: Sequence[Claim], seconds: float) -> list[tuple[str, str]]:
    counts, recipe = Counter(claim.verdict for claim in claims), results["recipe"]
    cards = [(str(counts[verdict]), f"of {len(claims)} claims {verdict}") for verdict in LOOKS]
    return [
        *cards,
        *((f"{number:,}", f"{source} pairs") for source, number in recipe["pairs"].items()),
        (f"{seconds / 60:,.0f} min", "of work by all stages together"),
    ]


def _claim(claim: Claim) -> str:
    text = html.escape(f"Criterion: {claim.criterion}.")
    return (
        f'<li class="{LOOKS[claim.verdict]}"><em>{claim.verdict}</em><b>{html.escape(claim.claim)}</b>{text}'
        f"<small>{html.escape(words_of(claim.values))}</small></li>"
    )


def _table(table: Table) -> str:
    title, note = html.escape(table.title), html.escape(table.note)
    return f'<section><h2>{title}</h2><p class="hint">{note}</p>{page.grid(table.head, table.rows)}</section>'


def _commands(results: Results) -> Iterable[list[str]]:
    for name, stage in results["stages"].items():
        yield [name, f"{stage['seconds']:,.0f}", stage["command"]]


# ----------------------------------------------------------------------------
# Pictures.


def _people(outdir: Path, real: str, source: str) -> str:
    """Cards of the first people of a source."""
    found = open_spectra(outdir / (real if source == "real" else source), "vis")
    rows: dict[str, list[int]] = {}
    for row, identity in enumerate(found["vis"].identities):
        rows.setdefault(identity, []).append(row)
    cards = ""
    for identity, own in list(rows.items())[:PEOPLE]:
        pairs = ""
        for sample, row in enumerate(own[:PAIRS]):
            images = "".join(
                page.picture(found[name].decode(row), f"{source} person {identity}, sample {sample}, {spectrum.folder}")
                for name, spectrum in PICTURED.items()
            )
            pairs += f'<div class="pair">{images}</div>'
        caption = f"<b>{source.capitalize()}</b><span>person {html.escape(identity)}</span>"
        cards += f'<figure class="person"><figcaption>{caption}</figcaption><div class="pairs">{pairs}</div></figure>'
    return cards


# ----------------------------------------------------------------------------
# Charts.


def _charts(outdir: Path, results: Results) -> Iterable[str]:
    yield from (_recognition(results, name) for name in benchmarks_of(results))
    yield _leakage(results)
    manifests = {source: _kept(outdir / source / "manifest.jsonl") for source in SYNTHETIC}
    limits = results["datasets"]["filtered"]
    words = {
        "max_sim_real": ("Nearest real person", "unique", "of each sample, to the nearest of all real pictures."),
        "sim_reference": ("Same person", "same", "of each later sample, to its person's first one."),
        "max_sim_other": ("Nearest other person", "unique", "of each sample, to the nearest other synthetic person."),
    }
    for key, (title, limit, note) in words.items():
        values = {source: _numbers(lines, key) for source, lines in manifests.items()}
        if all(len(own) for own in values.values()):
            series = [Series(source, own, COLORS[source]) for source, own in values.items()]
            drawn = histogram(series, [Limit(limit, limits[f"threshold_{limit}"])], title, ylabel="% of samples")
            yield page.chart(title, _key(SYNTHETIC), drawn, f"Similarity {note} The line is the filter's threshold.")


def _kept(path: Path) -> list[dict[str, Any]]:
    return [line for line in read_lines(path) if line["verdict"] == "kept"]


def _numbers(lines: Sequence[dict[str, Any]], key: str) -> np.ndarray:
    """Of first samples no likeness to themselves."""
    of = [line for line in lines if not (key == "sim_reference" and line.get("sample") == 0)]
    return np.array([line[key] for line in of if line.get(key) is not None], dtype=np.float64)


def _key(sources: Iterable[str]) -> list[tuple[str, str]]:
    return [(f"--{COLORS[source]}", source) for source in sources]


def _recognition(results: Results, benchmark: str) -> str:
    series = []
    for source in SOURCES:
        found = [accuracies(results, source, spectra, [benchmark]) for spectra in SPECTRA]
        means = [mean_of(values) if values else None for values in found]
        own = [100 * mean.mean if mean else np.nan for mean in means]
        spreads = [100 * mean.sd if mean and mean.sd is not None else None for mean in means]
        series.append(Bars(source, own, spreads, COLORS[source]))
    title = f"Recognition on {benchmark}"
    drawn = bars([SPECTRUM[name] for name in SPECTRA], series, title, "accuracy in %", floor=100 * CHANCE)
    note = (
        f"Mean and sd over {len(results['recipe']['seeds'])} seeds, by the spectra that were trained on; bars begin at "
    )
    return page.chart(html.escape(title), _key(SOURCES), drawn, note + "chance, 50 %.")


def _leakage(results: Results) -> str:
    own = results["privacy"]
    names = list(own["filtered"]["leakage"])
    series = [
        Bars(
            source, [100 * own[source]["leakage"][name]["rate"] for name in names], [None] * len(names), COLORS[source]
        )
        for source in SYNTHETIC
    ]
    key = _key(SYNTHETIC)
    held = [own["filtered"]["leakage"][name]["heldout"] for name in names]
    if None not in held:
        series.append(Bars("held-out people", [100 * share for share in held], [None] * len(names), "mated"))
        key.append(("--mated", "held-out real people"))
    labels = ["threshold" if name == "unique" else f"FMR {name}" for name in names]
    drawn = bars(labels, series, "Samples that match a real person", "% of samples")
    return page.chart(
        "Samples that match a real person",
        key,
        drawn,
        "At the filter's threshold and at the real set's false match rates. A sample is compared with every real "
        "picture, so strangers match, too: held-out people tell how many.",
    )
