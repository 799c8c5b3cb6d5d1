"""datasheet.md: what a dataset is, what made it, what it promises and what it does not, for those who decide about it.

settings.json and summary.json say the same to machines; here it stands in words, with places that only people can fill
in. `filter.py audit` replaces what lies between AUDIT_BEGIN and AUDIT_END. The text depends on nothing that changes
from run to run, such as the seconds that it took.
"""

from __future__ import annotations

import html
import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from generation.promises import promised
from generation.rules import Rule
from generation.summary import RULE_WORDS
from generation.thresholds import RULES, Thresholds
from torch_utils.spectra import SPECTRA

DATASHEET = "datasheet.md"
AUDIT_BEGIN, AUDIT_END = "<!-- audit -->", "<!-- /audit -->"
TO_FILL_IN = "*to be filled in*"


def build_datasheet(
    settings: dict[str, Any], summary: dict[str, Any], thresholds: Thresholds, notices: Sequence[str] = ()
) -> str:
    """The datasheet as Markdown. settings, summary: as in settings.json and summary.json. notices: warnings."""
    sections = [
        ("What it is", _what(settings, summary)),
        ("What made it", _table(("", "", "SHA-256, fingerprint or commit"), _makers(settings))),
        ("Settings", _table(("setting", "value"), _settings(settings))),
        ("Thresholds", _thresholds(thresholds)),
        ("What was refused", _refused(summary)),
        ("What the run itself measured", _measured(summary)),
        ("Audit", f"{AUDIT_BEGIN}\n{NO_AUDIT}\n{AUDIT_END}"),
        ("What is promised, and what is not", _promises(settings, thresholds)),
        ("Intended use and limits", USE),
        ("To be filled in", _table(("", ""), [(words, TO_FILL_IN) for words in OPEN_FIELDS])),
    ]
    if notices:
        sections.insert(1, ("Warnings of the run", "\n".join(f"- {escape(notice)}" for notice in notices)))
    body = "\n".join(f"## {title}\n\n{text}\n" for title, text in sections)
    return f"# Datasheet: synthetic VIS/NIR face pairs\n\n{body}"


def escape(text: object) -> str:
    """Text that Markdown and HTML show as it is, on one line: names of files are other people's."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]()#|~!])", r"\\\1", html.escape(line, quote=False))


# ----------------------------------------------------------------------------
# Words.


def _what(settings: dict[str, Any], summary: dict[str, Any]) -> str:
    side = settings["generator"].get("resolution")
    size = f" of {side} x {side} pixels" if side else ""
    folders = " and ".join(f"{spectrum.folder} ({spectrum.mode})" for spectrum in SPECTRA.values())
    return (
        f"{summary['pairs_kept']:,} pairs of pictures{size} of {summary['identities_kept']:,} people who do not exist, "
        f"each pair in {folders}, drawn pixel on pixel by one generator. {summary['candidates']:,} candidates were "
        "judged; manifest.jsonl has a line for each."
    )


def _makers(settings: dict[str, Any]) -> list[tuple[str, str, str]]:
    generator, model, real = settings["generator"], settings["recognition_model"], settings["real_features"]
    rows = [
        ("generator", escape(generator["name"]), generator["sha256"]),
        ("recognition model of the filter", escape(model["name"]), model["fingerprint"]),
    ]
    if real:
        words = f"{escape(real['name'])}: {real['count']:,} features of {real['people']:,} people"
        rows.append(("real people whom nobody may resemble", words, real["sha256"]))
    rows.append(("program", escape(settings["made_by"]), f"commit {commit() or 'not known'}"))
    return rows


def _settings(settings: dict[str, Any]) -> list[tuple[str, str]]:
    plain = {key: value for key, value in settings.items() if not isinstance(value, dict) and value is not None}
    return [(escape(key.replace("_", " ")), escape(_words(value))) for key, value in plain.items()]


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _thresholds(limits: Thresholds) -> str:
    rows = []
    for name in RULES:
        point = limits.error_rates.get(name)
        rates = (f"{point.fmr:.3g}", f"{point.fnmr:.3g}") if point else ("not known", "not known")
        rows.append((name, f"{getattr(limits, name):.4f}", *rates))
    head = ("rule", "cosine", "false match rate of the real set", "false non-match rate of the real set")
    source = (
        f"From mated scores of real people with mean {limits.mated_mean:.4f} and standard deviation "
        f"{limits.mated_sd:.4f} under recognition model {escape(limits.recognition_model)}."
    )
    return "\n".join([source, "", _table(head, rows), *(f"\n- {escape(warning)}" for warning in limits.warnings)])


def _refused(summary: dict[str, Any]) -> str:
    total = max(1, summary["candidates"])
    rows = [("kept", "", f"{summary['pairs_kept']:,}", f"{summary['pairs_kept'] / total:.2%}")]
    for rule in Rule:
        count = summary["refused"].get(rule.value, 0)
        rows.append((rule.value, RULE_WORDS[rule], f"{count:,}", f"{count / total:.2%}"))
    note = "Each candidate counts once, under the first rule that it broke."
    return f"{note}\n\n{_table(('verdict', 'why', 'candidates', 'share'), rows)}"


def _measured(summary: dict[str, Any]) -> str:
    figures = (
        ("highest similarity of a kept picture to a real feature", "max_real_similarity", ".4f"),
        ("mated scores (pictures of one person), mean", "mated_mean", ".4f"),
        ("mated scores, standard deviation", "mated_sd", ".4f"),
        ("non-mated scores (pictures of two people), mean", "nonmated_mean", ".4f"),
        ("equal error rate between the people", "eer", ".3%"),
    )
    rows = [
        (words, "not measured" if summary[key] is None else format(summary[key], form)) for words, key, form in figures
    ]
    return f"As the filter's own recognition model sees it.\n\n{_table(('', ''), rows)}"


NO_AUDIT = (
    "No audit has been made yet. An audit compares the finished pictures with the real pictures themselves, with "
    "any recognition model, best with one that the filter did not use:\n\n"
    "    python filter.py audit --data THIS_FOLDER --rec-model FILE --real-data REAL_DATASET"
)


def _promises(settings: dict[str, Any], limits: Thresholds) -> str:
    model = escape(settings["recognition_model"]["name"])
    lead = (
        f"Likeness is the cosine between the features that the recognition model {model} gives two pictures. Each "
        "statement holds for every pair of this dataset, as that model sees it."
    )
    lines = [f"- **{escape(head)}.** {escape(text)}" for head, text in promised(settings, limits)]
    return "\n".join([lead, "", *lines, *NOT_PROMISED])


NOT_PROMISED = (
    "- **Under this model, at these thresholds.** Another model, or a person, may find two faces alike that this one "
    "tells apart.",
    "- **Nothing about anybody else.** Real people whose features were not in that file were compared with nobody; nor "
    "is it promised that the generator has learned nothing else of its training data by heart.",
)

USE = """\
- Meant for training and testing face recognition on visible-light and near-infrared pictures, where real pictures may
  not be had or shared.
- The people are drawn as the generator has learned faces: groups that its training data lacks, these pictures lack.
- Not meant for deciding about anybody, for passing as evidence, or for making profiles of real people who happen to
  resemble a picture."""

OPEN_FIELDS = (
    "licence of this dataset",
    "contact",
    "who made it, and for what",
    "consent and licence of the real pictures that the generator learned from",
    "who may get it, and on what terms",
    "how a person who recognises themselves can have pictures removed",
    "approved by (ethics board, date)",
)


# ----------------------------------------------------------------------------
# Small parts.


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def commit() -> str | None:
    """The commit that this program was checked out at, with + where files differ from it; None where git knows none."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--abbrev=40",
        "--dirty=+",
        "--exclude=*",
    ]
    try:
        found = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
