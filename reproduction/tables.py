"""The figures as one table beside the paper's claims: rows of text, which results.md and the page lay out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from reproduction.claims import Claim
from reproduction.experiment import SOURCES, SPECTRA, SYNTHETIC
from reproduction.results import Results, accuracies, benchmarks_of, mean_of, unfilled

ROUNDING = 1e-9
NAMES = {"drawn": "drawn by the generator", "heldout": "held-out real people"}
SPECTRUM = {"vis": "VIS", "nir": "NIR", "vis+nir": "VIS+NIR"}


class Table(NamedTuple):
    """title, a sentence about it, the heads of the columns, and rows."""

    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(results: Results) -> list[Table]:
    """Quality, what the filter did, privacy, people, recognition."""
    return [_quality(results), _made(results), _privacy(results), _people(results), _recognition(results)]


def _quality(results: Results) -> Table:
    lines = results["quality"]
    keys = list(dict.fromkeys((line["metric"], line["spectrum"]) for line in lines))
    sides = list(dict.fromkeys(line["pictures"] for line in lines))
    found = {(line["metric"], line["spectrum"], line["pictures"]): line for line in lines}
    rows = [[metric, spectrum, *(_value(found.get((metric, spectrum, s))) for s in sides)] for metric, spectrum in keys]
    note = (
        "Of pictures against the real ones; the distances of few pictures are too large, but equally so in a row. "
        "After ± stands the sd of what the figure is the mean of: pairs, people or subsets."
    )
    return Table("Synthesis", note, ["metric", "spectrum", *(NAMES[side] for side in sides)], rows)


def _value(line: dict[str, Any] | None) -> str:
    if line is None or line["value"] is None:
        return "–"  # noqa: RUF001
    value, sd = line["value"], line.get("sd") or 0.0
    spread = f" ± {sd:.2g}" if sd > ROUNDING * abs(value) else ""  # of subsets that are all the same set there is none
    return f"{value:.4g}{spread}"


def _made(results: Results) -> Table:
    made = results["datasets"]
    counts = {"people": "identities_kept", "pairs": "pairs_kept", "candidates": "candidates"}
    rows = [[words, *(f"{made[source][name]:,}" for source in SYNTHETIC)] for words, name in counts.items()]
    for rule in made["filtered"]["refused"]:
        refused = [made[source]["refused"][rule] for source in SYNTHETIC]
        rows += [[f"refused: {rule}", *(f"{number:,}" for number in refused)]] if any(refused) else []
    note = "What was drawn and what the filter refused, by the first rule that was broken (docs/filter.md)."
    return Table("The synthetic sets", note, ["", *SYNTHETIC], rows)


def _privacy(results: Results) -> Table:
    own = results["privacy"]
    limits = list(own["filtered"]["leakage"])
    rows = [
        [
            f"samples over {'the filter’s threshold' if name == 'unique' else f'FMR {name}'}",  # noqa: RUF001
            *(_share(own[source]["leakage"][name]) for source in SYNTHETIC),
            _percent(own["filtered"]["leakage"][name]["strangers"]),
            _percent(own["filtered"]["leakage"][name]["heldout"]),
        ]
        for name in limits
    ]
    rows.append(["highest similarity", *(_number(own[s]["highest_real_similarity"]) for s in SYNTHETIC), "", ""])
    rows.append(["membership AUC (95 %)", *(_interval(own[source]["membership"]) for source in SYNTHETIC), "", ""])
    note = (
        "Similarity of synthetic samples to the real people, before and after the filter, beside real strangers'; by "
        "the recognition model that the filter sees with, so another one may see more."
    )
    head = ["to real people", *(f"{source}" for source in SYNTHETIC), "real people to others", "held-out people"]
    return Table("Privacy", note, head, rows)


def _share(leak: dict[str, Any]) -> str:
    return f"{leak['samples']} ({leak['rate']:.2%})"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"  # noqa: RUF001


def _number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)  # noqa: RUF001


def _interval(member: dict[str, Any]) -> str:
    return "–" if member["auc"] is None else f"{member['auc']:.3f} ({member['low']:.3f} to {member['high']:.3f})"  # noqa: RUF001


PEOPLE = {
    "eer": ("EER", ".2%"),
    "fdr": ("FDR", ".3g"),
    "d_prime": ("d′", ".3g"),  # noqa: RUF001
    "mated_mean": ("mated mean", ".3f"),
    "mated_sd": ("mated sd", ".3f"),
    "nonmated_mean": ("non-mated mean", ".3f"),
    "nonmated_sd": ("non-mated sd", ".3f"),
    "diversity_cosine": ("diversity, 1 - cosine", ".3f"),
    "diversity_pixels": ("diversity, grey levels", ".3g"),
}


def _people(results: Results) -> Table:
    people = results["people"]
    rows = [[words, *(_number(people[s][name], form) for s in SOURCES)] for name, (words, form) in PEOPLE.items()]
    note = (
        "How well people can be told apart, and how much the pictures of one differ; by the filter's recognition model."
    )
    return Table("Separability and diversity", note, ["", *SOURCES], rows)


def _recognition(results: Results) -> Table:
    seeds, names = results["recipe"]["seeds"], benchmarks_of(results)
    rows = [
        [source, SPECTRUM[spectra], *(_accuracy(results, source, spectra, name) for name in names)]
        for source in SOURCES
        for spectra in SPECTRA
    ]
    note = (
        f"Accuracy in %, mean ± sd over {len(seeds)} seeds; all runs had equal steps. The claims are judged by "
        f"{', '.join(results['recipe']['decides'])}. Chance is 50 %."
    )
    return Table("Recognition", note, ["trained on", "spectra", *names], rows)


def _accuracy(results: Results, source: str, spectra: str, benchmark: str) -> str:
    values = accuracies(results, source, spectra, [benchmark])
    if not values:
        return "–"  # noqa: RUF001
    found = mean_of(values)
    return f"{100 * found.mean:.2f}" + ("" if found.sd is None else f" ± {100 * found.sd:.2f}")


def claim_rows(claims: Iterable[Claim]) -> Table:
    rows = [[claim.verdict, claim.claim, claim.criterion, words_of(claim.values)] for claim in claims]
    head = ["verdict", "claim", "criterion", "figures"]
    return Table("The paper's claims", "Criteria were written before the figures that they judge.", head, rows)


def words_of(values: Any) -> str:
    """Nested figures as one line."""
    if isinstance(values, dict):
        return "; ".join(f"{name}: {_nested(value)}" for name, value in values.items())
    return _nested(values)


def _nested(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_nested(part)}" for name, part in value.items()) + ")"
    if isinstance(value, (list, tuple)):
        return " ".join(_nested(part) for part in value)
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)


def markdown(results: Results, claims: Sequence[Claim]) -> str:
    """results.md."""
    recipe = results["recipe"]
    lines = [
        f"# The paper's experiment, --scale {recipe['scale']}",
        "",
        f"Pairs: {words_of(recipe['pairs'])}.",
        *(f"\n**{notice}**" for notice in filter(None, [unfilled(results), *results["notices"]])),
    ]
    for table in [*tables(results), claim_rows(claims)]:
        cells = [table.head, ["---"] * len(table.head), *table.rows]
        lines += ["", f"## {table.title}", "", table.note, ""]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
    return "\n".join(lines) + "\n"
