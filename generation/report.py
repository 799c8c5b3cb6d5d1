"""report.html: one self-contained page that shows a dataset, what its filter guarantees and how it came about.

Words and figures are here, the looks are in report_template.html, the charts in generation.plots. Pictures are read
from the finished folder and embedded; nothing is loaded from elsewhere and no script runs.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from generation import page
from generation.encoding import decode
from generation.layouts import Layout
from generation.plots import Limit, Series, histogram
from generation.promises import promised
from generation.records import Person
from generation.rules import Rule
from generation.summary import RULE_WORDS, Scores
from generation.thresholds import Thresholds
from torch_utils.images import image_grid
from torch_utils.spectra import SPECTRA

MOST_PEOPLE, MOST_SAMPLES = 12, 8  # shown in the grid
MOST_HERO = 96  # pictures of the hero
MOST_COLUMNS = 4  # of a person's pairs
TILE = 100  # CSS pixels that a picture in the grid has at least on a wide screen


@dataclass(frozen=True)
class ReportData:
    """All that the page shows. settings: settings.json; summary: summary.json; notices: warnings in plain words."""

    layout: Layout  # whose pictures are all there
    settings: dict[str, Any]
    summary: dict[str, Any]
    thresholds: Thresholds
    people: Sequence[Person]  # the first of them, MOST_HERO at most
    scores: Scores
    notices: Sequence[str] = ()


def build_report(data: ReportData) -> str:
    """The page as HTML text."""
    summary, settings = data.summary, data.settings
    shown = [_pictures(data.layout, person) for person in data.people[:MOST_PEOPLE]]
    crisp = shown[0]["vis"].shape[1] < page.CRISP_BELOW
    columns = min(MOST_COLUMNS, settings["samples_per_id"])
    people, pairs = summary["identities_kept"], summary["pairs_kept"]
    hero = _hero(data)
    return page.fill(
        page.FOLDER / "report_template.html",
        title=f"{people} synthetic people, {pairs} pairs",
        heading=f"{page.count(people, 'person', 'people')} who {'does' if people == 1 else 'do'} not exist",
        lead=f"{page.count(pairs, 'pair', 'pairs')} of visible-light and near-infrared pictures, drawn pixel on pixel "
        f"by one generator and let in by a privacy-and-diversity filter, which judged "
        f"{page.count(summary['candidates'], 'candidate', 'candidates')}.",
        hero_vis=page.data_uri(hero["vis"]),
        hero_nir=page.data_uri(hero["nir"]),
        crisp="crisp" if crisp else "",
        columns=columns,
        personwidth=f"{columns * TILE + 30}px",
        notices=page.notices(data.notices),
        cards=_cards(data),
        promise_lead=_promise_lead(settings),
        promises=_promises(data),
        people_lead=_people_lead(data),
        people="".join(_person(person, pictures, crisp) for person, pictures in zip(data.people, shown, strict=False)),
        charts=_charts(data),
        bars=_bars(summary),
        bars_note="Each candidate is counted once, under the first rule that it broke.",
        tables=_tables(data),
        footer="Made by ArcBiFaceGAN (open implementation). The whole record of every candidate is in manifest.jsonl.",
    )


# ----------------------------------------------------------------------------
# Pictures.


def _pictures(layout: Layout, person: Person) -> dict[str, page.Pixels]:
    """The first samples of a person, by spectrum: uint8 [S, H, W, C], no larger than LARGEST_SIDE."""
    count = min(len(person.embeddings["vis"]), MOST_SAMPLES)
    return {
        name: np.stack([_read(layout, person.identity, sample, name) for sample in range(count)]) for name in SPECTRA
    }


def _read(layout: Layout, identity: int, sample: int, spectrum: str) -> page.Pixels:
    return page.shrunk(decode(layout.read(identity, sample, spectrum), spectrum).transpose(1, 2, 0))


def _hero(data: ReportData) -> dict[str, page.Pixels]:
    """One wide mosaic a spectrum, the same faces at the same places, neighbours being different people."""
    most = max(len(person.embeddings["vis"]) for person in data.people)
    places = [(p.identity, sample) for sample in range(most) for p in data.people if sample < len(p.embeddings["vis"])]
    places = places[:MOST_HERO]
    rows = max(row for row in range(1, 5) if row == 1 or len(places) // row >= 3 * row)
    columns = len(places) // rows
    return {
        name: image_grid(np.stack([_read(data.layout, *place, name) for place in places[: rows * columns]]), columns)
        for name in SPECTRA
    }


def _person(person: Person, pictures: dict[str, page.Pixels], crisp: bool) -> str:
    """A card: the person's pairs, VIS over NIR."""
    look = ' class="crisp"' if crisp else ""
    pairs = ""
    for sample in range(len(pictures["vis"])):
        images = "".join(
            f'<img{look} src="{page.data_uri(pictures[name][sample])}" alt="person {person.identity}, sample {sample}, '
            f'{spectrum.folder}">'
            for name, spectrum in SPECTRA.items()
        )
        pairs += f'<div class="pair">{images}</div>'
    nearest = max((r.max_sim_real for r in person.records if r.sample is not None and r.max_sim_real), default=None)
    closest = f"nearest real person {nearest:.2f}" if nearest is not None and np.isfinite(nearest) else ""
    caption = f"<b>Person {person.identity}</b><span>{closest}</span>"
    return f'<figure class="person"><figcaption>{caption}</figcaption><div class="pairs">{pairs}</div></figure>'


# ----------------------------------------------------------------------------
# Words and figures.


def _cards(data: ReportData) -> str:
    """The figures that one wants to see first."""
    summary = data.summary
    share = summary["pairs_kept"] / max(1, summary["candidates"])
    limit = f"highest similarity to any real picture; {summary['threshold_unique']:.2f} is allowed"
    if summary["max_real_similarity"] is None:
        limit = "real people were not compared"
    cards = [
        (f"{summary['identities_kept']:,}", "people"),
        (f"{summary['pairs_kept']:,}", "VIS/NIR pairs"),
        (f"{share:.0%}", "of the candidates were kept"),
        (page.figure(summary["max_real_similarity"], ".3f"), limit),
        (page.figure(summary["eer"], ".1%"), "equal error rate between the people, as the recognition model sees them"),
        (f"{summary['pairs_per_second']:.3g}", f"kept pairs a second, {summary['seconds']:,.0f} s in all"),
    ]
    return page.cards(cards)


def _promise_lead(settings: dict[str, Any]) -> str:
    model = settings["recognition_model"]["name"]
    return (
        f"Likeness is the cosine between the features that the recognition model {html.escape(model)} sees in two VIS "
        "pictures: 1 is the same picture, about 0 two strangers. Each statement below holds for every pair in this "
        "dataset, as that model sees it; another model may see it differently."
    )


def _promises(data: ReportData) -> str:
    """Each rule in force in plain words, with its numbers; and what is not promised."""
    promises = promised(data.settings, data.thresholds)
    return "".join(f"<li><b>{html.escape(head)}</b>{html.escape(text)}</li>" for head, text in promises)


def _people_lead(data: ReportData) -> str:
    shown, there_are = min(MOST_PEOPLE, len(data.people)), data.summary["identities_kept"]
    some = f"the first {shown} of {there_are:,} people" if there_are > shown else "all people"
    samples = min(MOST_SAMPLES, data.settings["samples_per_id"])
    return (
        f"Here are {some}, with {'up to ' if samples < data.settings['samples_per_id'] else ''}"
        f"{page.count(samples, 'pair', 'pairs')} each: visible light above, near infrared below, both from one latent."
    )


def _charts(data: ReportData) -> str:
    """Score histograms with the thresholds drawn in."""
    limits = data.thresholds
    moments = (data.summary[name] for name in ("mated_mean", "mated_sd", "nonmated_mean"))
    mean, sd, nonmated = (page.figure(value, ".3f") for value in moments)
    charts = [
        page.chart(
            "Between the people of the dataset",
            [("--mated", "same person (mated)"), ("--nonmated", "different people (non-mated)")],
            histogram(
                [
                    Series("different people", data.scores.nonmated, "nonmated"),
                    Series("same person", data.scores.mated, "mated"),
                ],
                [Limit("same", limits.same), Limit("repeat", limits.repeat)],
                "Mated and non-mated scores",
            ),
            f"Mated mean {mean}, sd {sd}; non-mated mean {nonmated}. The real pictures that the thresholds come from "
            f"have a mated mean of {limits.mated_mean:.3f}, sd {limits.mated_sd:.3f}.",
        )
    ]
    if len(data.scores.real):
        charts.append(
            page.chart(
                "Between synthetic and real people",
                [("--kept", "kept"), ("--refused", "refused as too like a real person")],
                histogram(
                    [
                        Series("kept", data.scores.real, "kept"),
                        Series("refused", data.scores.refused, "refused"),
                    ],
                    [Limit("unique", limits.unique)],
                    "Highest similarity of each candidate to a real picture",
                    stacked=True,
                ),
                "For each of these candidates, its similarity to the nearest of all real pictures. Whatever lies "
                "right of the line was refused.",
            )
        )
    return "".join(charts)


def _bars(summary: dict[str, Any]) -> str:
    """Bar chart: kept, and refused by each rule."""
    rows = [("kept", "kept", summary["pairs_kept"])]
    rows += [(rule.value, RULE_WORDS[rule], summary["refused"][rule.value]) for rule in Rule]
    longest = max(1, *(count for _, _, count in rows))
    total = max(1, summary["candidates"])
    bars = ""
    for name, words, count in rows:
        places = 1 if 0 < count < total / 100 else 0
        kind = "kept" if name == "kept" else "" if count else "none"
        bar = f'<div><i class="{kind}" style="width:{100 * count / longest:.2f}%"></i></div>'
        bars += f"<span>{words}</span>{bar}<em>{count:,} · {count / total:.{places}%}</em>"
    return bars


# ----------------------------------------------------------------------------
# Tables.


def _tables(data: ReportData) -> str:
    settings, limits = data.settings, data.thresholds
    plain = {
        key.replace("_", " "): value
        for key, value in settings.items()
        if not isinstance(value, dict) and value is not None
    }
    inputs = {
        f"{key.replace('_', ' ')}: {name}": value
        for key, values in settings.items()
        if isinstance(values, dict) and key != "thresholds"
        for name, value in values.items()
    }
    thresholds: dict[str, Any] = {
        "mated scores, real set": f"mean {limits.mated_mean:.4f}, sd {limits.mated_sd:.4f} ({limits.mated_scores:,})",
        "equal error rate, real set": page.figure(limits.eer, ".2%"),
    }
    for name in ("unique", "same", "repeat"):
        point = limits.error_rates.get(name)
        rates = f" (real set: FMR {point.fmr:.2g}, FNMR {point.fnmr:.2g})" if point else ""
        thresholds[name] = f"{getattr(limits, name):.4f}{rates}"
    tables = [("Settings", plain), ("Inputs and fingerprints", inputs), ("Thresholds", thresholds)]
    return "".join(f"<div><h3>{title}</h3>{page.table(rows)}</div>" for title, rows in tables)
