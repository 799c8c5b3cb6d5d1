"""audit.html, and the audit's part of datasheet.md: what was found, in plain words, with the worst pairs to look at."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generation import datasheet, page
from generation.audit import DUPLICATE, Findings, Leak, Seen
from generation.audit_files import Dataset
from generation.plots import Limit, Series, histogram
from metrics.score_counts import ScoreCounts
from torch_utils.spectra import SPECTRA

MOST_PAIRS, MOST_TWINS = 12, 6  # shown
RELEVANT = "1e-3"  # the FMR whose leakage the verdict is about; of fewer scores the lowest that there is

Verdict = tuple[str, str, str]  # 'fine', 'look' or 'open'; a headline; a sentence


@dataclass(frozen=True)
class AuditPage:
    """All that the page shows. inputs, as_dict: parts of audit.json."""

    found: Findings
    synthetic: Seen
    real: Seen
    pictures: Dataset
    real_pictures: Dataset
    figures: dict[str, Any]  # audit.json
    notices: list[str]


def build_page(data: AuditPage) -> str:
    """The page as HTML text."""
    figures, inputs = data.figures, data.figures["inputs"]
    samples, people = figures["samples"], figures["people"]
    name = html.escape(inputs["data"]["path"].rsplit("/", 1)[-1])
    real = inputs["real_data"]
    return page.fill(
        page.FOLDER / "audit_template.html",
        title=f"Audit of {name}",
        heading=f"Audit of {name}",
        lead=f"{page.count(samples, 'sample', 'samples')} of "
        f"{page.count(people, 'synthetic person', 'synthetic people')}, each compared with all "
        f"{real['pictures']:,} pictures of {real['people']:,} real people: what does the set give away of them, and "
        "how good are its own?",
        notices=page.notices(data.notices),
        cards=page.cards(_cards(data)),
        verdict_lead=f"As recognition model {html.escape(inputs['recognition_model']['name'])} sees the pictures "
        f"({SPECTRA[inputs['spectrum']].folder}). Another model, or a person, may see them differently.",
        verdicts="".join(
            f'<li class="{kind}"><b>{html.escape(head)}</b>{html.escape(text)}</li>'
            for kind, head, text in verdicts(data)
        ),
        leak_lead="A score is the cosine between two pictures' features. A threshold at which one comparison of "
        "strangers in a thousand matches (FMR 1e-3) is passed by many strangers when each is compared with every real "
        "picture. So the share of samples over it means little by itself: what counts is how much it is beyond that of "
        "real strangers.",
        leaks=_leak_table(data),
        worst_lead="The samples that come nearest to a real person, one of each synthetic person, beside the real "
        "picture that they come nearest to. Look at them: a number does not see what you see.",
        worst=_worst(data),
        duplicates=_duplicates(data),
        charts=_charts(data),
        figures=_figures(figures),
        tables=_tables(inputs),
        footer="Made by ArcBiFaceGAN (open implementation), filter.py audit. A line a sample is in audit.csv, all "
        "figures are in audit.json.",
    )


# ----------------------------------------------------------------------------
# Words.


def relevant(found: Findings) -> tuple[str, Leak] | None:
    """The leakage that the verdict is about."""
    rates = [name for name in found.leaks if name != "unique"]
    name = RELEVANT if RELEVANT in rates else rates[-1] if rates else None
    return None if name is None else (name, found.leaks[name])


def verdicts(data: AuditPage) -> list[Verdict]:
    """A headline and a sentence for each question."""
    return [*_leak_words(data), _member_words(data), *_twin_words(data), *_people_words(data.figures)]


def _leak_words(data: AuditPage) -> list[Verdict]:
    found, people = data.found, data.figures["people"]
    words: list[Verdict] = []
    if at := relevant(found):
        name, leak = at
        base = leak.strangers if leak.heldout is None else leak.heldout
        whom = "real people among themselves" if leak.heldout is None else "held-out people"
        # Twice the standard error of a share, as if each person had one sample: those of one person hang together.
        room = 2 * float(np.sqrt(base * (1 - base) / max(1, people)))
        more = leak.rate > base + room
        head = "More like real people than strangers are" if more else "Not more like real people than strangers are"
        head = head if leak.samples else "No sample matches a real person"
        text = f"{leak.rate:.2%} of the samples match some real picture at FMR {name}; of {whom} {base:.2%} do."
        words.append(("look" if more else "fine", head, text))
    if "unique" in found.leaks:
        leak = found.leaks["unique"]
        head = "The filter's promise is kept" if not leak.samples else "The filter's promise is not kept here"
        text = f"{page.count(leak.samples, 'sample is', 'samples are')} over its threshold of {leak.threshold:.3f}."
        words.append(("look" if leak.samples else "fine", head, text))
    return words


def _member_words(data: AuditPage) -> Verdict:
    test = data.found.membership
    if test.area is None:
        return "open", "Membership was not tested", f"Whether it shows who was learned from is not known: {test.note}."
    area = test.area
    text = (
        f"A person whom the generator learned from is nearer to the synthetic set than a held-out one with "
        f"probability {area.auc:.3f} (95 % confidence: {area.low:.3f} to {area.high:.3f}); 0.5 is chance. "
        f"{len(test.members):,} against {len(test.outsiders):,} people, {test.pictures} pictures each."
    )
    if area.low > 0.5:
        return "look", "It shows who was learned from", text
    if area.high < 0.5:
        return (
            "look",
            "It shows, the other way round",
            f"{text} The filter itself keeps samples away from those people.",
        )
    return "fine", "No sign of who was learned from", text


def _twin_words(data: AuditPage) -> list[Verdict]:
    twins = data.figures["duplicates"]
    real, own = twins["of_real_pictures"], twins["of_own_pictures"]
    between = twins["highest_between_real"]
    rule = f"more than {DUPLICATE} alike, pixel by pixel; two real pictures are {between:.3f} at most"
    return [
        (
            "look" if real else "fine",
            "Copies of real pictures" if real else "No copy of a real picture",
            f"{page.count(real, 'sample is', 'samples are')} nearly the same as a real picture ({rule}).",
        ),
        (
            "look" if own else "fine",
            "Samples that repeat" if own else "No sample repeats another",
            f"{page.count(own, 'sample is', 'samples are')} nearly the same as another one of that person.",
        ),
    ]


def _people_words(figures: dict[str, Any]) -> list[Verdict]:
    ours, theirs = figures["synthetic"], figures["real"]
    words: list[Verdict] = []
    if ours["eer"] is None:
        words.append(("open", "Nothing to tell of its people", "Several people with several pictures are needed."))
    else:
        text = f"Equal error rate {ours['eer']:.2%}, d' {page.figure(ours['d_prime'], '.2f')}"
        if theirs["eer"] is not None:
            text += f"; of the real people {theirs['eer']:.2%} and {page.figure(theirs['d_prime'], '.2f')}"
        words.append(("open", "How well its people can be told apart", f"{text}."))
    if ours["diversity_cosine"] is not None and theirs["diversity_cosine"] is not None:
        share = ours["diversity_cosine"] / max(theirs["diversity_cosine"], 1e-9)
        text = (
            f"Two pictures of a person are {ours['diversity_cosine']:.3f} apart (1 - cosine), of a real one "
            f"{theirs['diversity_cosine']:.3f}; {ours['diversity_pixels']:.1f} and {theirs['diversity_pixels']:.1f} "
            "grey levels by their pixels."
        )
        text += " So much more may mean that a person changes." if share > 1.5 else ""
        words.append(("fine" if 0.5 <= share <= 1.5 else "look", f"{share:.0%} of the diversity of real people", text))
    return words


def _cards(data: AuditPage) -> list[tuple[str, str]]:
    figures, test = data.figures, data.found.membership
    cards = [(f"{figures['highest_real_similarity']:.3f}", "highest score of a sample to a real picture")]
    if at := relevant(data.found):
        cards.append((f"{at[1].rate:.2%}", f"of the samples match a real picture at FMR {at[0]}"))
        cards.append((f"{at[1].strangers:.2%}", "of real people's pictures match a stranger's there"))
    cards += [
        ("–" if test.area is None else f"{test.area.auc:.3f}", "AUC of the membership test; 0.5 is chance"),  # noqa: RUF001
        (f"{figures['duplicates']['of_real_pictures']:,}", "near-copies of real pictures"),
        (page.figure(figures["synthetic"]["eer"], ".2%"), "equal error rate of the synthetic people"),
    ]
    return cards


# ----------------------------------------------------------------------------
# Pairs to look at.


def _worst(data: AuditPage) -> str:
    """Of each synthetic person the worst sample, the worst people first."""
    found, shown, rows = data.found, set(), []
    for row in np.argsort(-found.real.score, kind="stable"):
        if data.synthetic.identities[row] not in shown:
            shown.add(data.synthetic.identities[row])
            rows.append(int(row))
    pairs = [(row, int(found.real.row[row]), found.real.score[row]) for row in rows[:MOST_PAIRS]]
    return "".join(_pair(data, row, data.real_pictures, near, f"{score:.3f}", "real") for row, near, score in pairs)


def _duplicates(data: AuditPage) -> str:
    """Pictures that are nearly the same; nothing where there are none."""
    found = data.found
    kinds = ((found.pixels, data.real_pictures, "real"), (found.own_pixels, data.pictures, "same person"))
    cells = ""
    for near, where, label in kinds:
        rows = [int(row) for row in np.argsort(-near.score, kind="stable")[:MOST_TWINS] if near.score[row] > DUPLICATE]
        cells += "".join(_pair(data, row, where, int(near.row[row]), f"{near.score[row]:.3f}", label) for row in rows)
    if not cells:
        return ""
    return (
        '<section><h2>Nearly the same, pixel by pixel</h2><p class="hint">The score is the correlation of small grey '
        f'pictures.</p><div class="twins">{cells}</div></section>'
    )


def _pair(data: AuditPage, row: int, where: Dataset, near: int, score: str, label: str) -> str:
    """A synthetic sample beside another picture, in every spectrum that both have."""
    ours, theirs = data.pictures, where
    cells = f"<span>synthetic</span><span>{label}</span>"
    for name in (name for name in SPECTRA if name in ours.pictures and name in theirs.pictures):
        left, right = ours.pictures[name], theirs.pictures[name]
        for source, index, who in ((left, row, "synthetic"), (right, near, label)):
            cells += page.picture(source.decode(index), f"{who}, {SPECTRA[name].folder}")
    caption = f"<b>{score}</b>{html.escape(ours.main.names[row])} · {html.escape(theirs.main.names[near])}"
    return f'<figure class="twin"><div>{cells}</div><figcaption>{caption}</figcaption></figure>'


# ----------------------------------------------------------------------------
# Charts and tables.


def _charts(data: AuditPage) -> str:
    found = data.found
    limits = [Limit(name if name == "unique" else f"FMR {name}", leak.threshold) for name, leak in found.leaks.items()]
    key = [("--mated", "same person (mated)"), ("--nonmated", "different people (non-mated)")]
    charts = [
        _compared("Nearest real picture", found.real.score, "synthetic samples", found.strangers, limits,
                  "Of each sample the score to the nearest real picture, and of each real picture that to the nearest "
                  "picture of somebody else.", "real people among themselves"),
    ]  # fmt: skip
    if found.membership.area is not None:
        charts.append(
            _compared("Membership", found.membership.members, "learned from", found.membership.outsiders, [],
                      "Of each person the highest score to any synthetic sample.", "held out")
        )  # fmt: skip
    for title, part in (("Synthetic people", found.synthetic_set), ("Real people", found.real_set)):
        series = [_counted("different people", part.nonmated, "nonmated"), _counted("same", part.mated, "mated")]
        note = f"{part.mated.total:,} mated and {part.nonmated.total:,} non-mated scores."
        charts.append(page.chart(title, key, histogram(series, [], title), note))
    charts.append(
        _compared("Likeness of pixels", found.pixels.score, "to a real picture", found.own_pixels.score,
                  [Limit("copy", DUPLICATE)], "Of each sample the likeness to the nearest other picture.",
                  "to another of the same person", "correlation")
    )  # fmt: skip
    return "".join(charts)


def _compared(
    title: str, ours: NDArray[np.float64], label: str, theirs: NDArray[np.float64], limits: list[Limit], note: str,
    other: str, xlabel: str = "cosine similarity",
) -> str:  # fmt: skip
    finite = [scores[np.isfinite(scores)] for scores in (ours, theirs)]
    series = [Series(other, finite[1], "nonmated"), Series(label, finite[0], "refused")]
    svg = histogram(series, limits, title, xlabel=xlabel, ylabel="% of each")
    return page.chart(title, [("--refused", label), ("--nonmated", other)], svg, note)


def _counted(label: str, scores: ScoreCounts, color: str) -> Series:
    places, counts = scores.occupied()
    return Series(label, places, color, counts)


def _leak_table(data: AuditPage) -> str:
    head = ["threshold", "score", "samples over it", "share", "people", "real strangers", "held-out people"]
    rows = []
    for name, leak in data.found.leaks.items():
        other = page.figure(leak.heldout, ".2%")
        title = "the filter's: unique" if name == "unique" else f"FMR {name}"
        rows.append([title, f"{leak.threshold:.4f}", f"{leak.samples:,}", f"{leak.rate:.2%}", f"{leak.people:,}",
                     f"{leak.strangers:.2%}", other])  # fmt: skip
    return page.grid(head, rows)


def _figures(figures: dict[str, Any]) -> str:
    words = {
        "mated_mean": ("mated mean", ".4f"),
        "mated_sd": ("mated sd", ".4f"),
        "nonmated_mean": ("non-mated mean", ".4f"),
        "nonmated_sd": ("non-mated sd", ".4f"),
        "eer": ("equal error rate", ".3%"),
        "fdr": ("Fisher discriminant ratio", ".2f"),
        "d_prime": ("d'", ".2f"),
        "diversity_cosine": ("diversity of a person: 1 - mean mated cosine", ".4f"),
        "diversity_pixels": ("diversity of a person: grey levels", ".2f"),
    }
    rows = [
        [text, *(page.figure(figures[part][key], form) for part in ("synthetic", "real"))]
        for key, (text, form) in words.items()
    ]
    return page.grid(["", "synthetic", "real"], rows)


def _tables(inputs: dict[str, Any]) -> str:
    titles = {"data": "Audited", "real_data": "Real people", "heldout_data": "Held-out people",
              "recognition_model": "Recognition model"}  # fmt: skip
    tables = ""
    for key, title in titles.items():
        if inputs.get(key):
            rows = {name.replace("_", " "): value for name, value in inputs[key].items() if value is not None}
            rows = {name: str(value).rsplit("/", 1)[-1] if name == "path" else value for name, value in rows.items()}
            tables += f"<div><h3>{title}</h3>{page.table(rows)}</div>"
    return tables


# ----------------------------------------------------------------------------
# datasheet.md


def datasheet_section(data: AuditPage) -> str:
    """Markdown for between the datasheet's markers."""
    inputs, escape = data.figures["inputs"], datasheet.escape
    real = inputs["real_data"]
    lines = [
        f"Made with recognition model {escape(inputs['recognition_model']['name'])} "
        f"({inputs['recognition_model']['fingerprint']}) against {real['pictures']:,} real pictures of "
        f"{real['people']:,} people. Highest score of a sample to a real picture: "
        f"{data.figures['highest_real_similarity']:.4f}.",
        "",
        *(f"- {escape(head)}. {escape(text)}" for _, head, text in verdicts(data)),
        "",
        "| threshold | score | share of samples over it | real strangers | held-out people |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {leak.threshold:.4f} | {leak.rate:.2%} | {leak.strangers:.2%} | "
            f"{'not given' if leak.heldout is None else format(leak.heldout, '.2%')} |"
            for name, leak in data.found.leaks.items()
        ),
        *(["", *(f"- {escape(notice)}" for notice in data.notices)] if data.notices else []),
    ]
    return "\n".join(lines)
