"""Rows of text, also of what could not be measured."""

from __future__ import annotations

from reproduction.claims import judge
from reproduction.tables import markdown, tables
from tests.reproduction.outcomes import line, made, outcome


def test_what_is_not_known_is_a_dash() -> None:
    results = outcome()
    results["quality"].append(line("drawn", "cross_id100_apart", "vis-nir", None))
    results["quality"].append(line("drawn", "kd_arcface100", "nir", 0.13, 1e-15))  # of one subset again and again
    results["people"]["real"]["eer"] = None
    results["privacy"]["filtered"]["membership"] |= {"auc": None, "low": None, "high": None}
    found = {table.title: {row[0]: row for row in table.rows} for table in tables(results)}
    assert found["Synthesis"]["cross_id100_apart"][2:] == ["–", "–"]  # noqa: RUF001
    values = {tuple(row[:2]): row[2] for row in tables(results)[0].rows}
    assert values["kd_arcface100", "vis"] == "0.5 ± 0.01" and values["kd_arcface100", "nir"] == "0.13"
    assert found["Separability and diversity"]["EER"][1:] == ["–", "20.00%", "10.00%"]  # noqa: RUF001
    assert found["Privacy"]["membership AUC (95 %)"][2] == "–"  # noqa: RUF001


def test_what_the_filter_refused_and_what_is_missing() -> None:
    results = outcome()
    results["datasets"]["filtered"] = made(refused=1234, people=9, pairs=90)
    results["recipe"]["pairs"]["filtered"] = 90
    results["notices"] = ["What an audit warned of."]
    rows = {row[0]: list(row[1:]) for row in tables(results)[1].rows}
    assert rows["pairs"] == ["100", "90"] and rows["refused: private"] == ["0", "1,234"]
    assert "refused: tries" not in rows  # nobody was
    text = markdown(results, judge(results))
    assert "**filtered has 90 of the 100 pairs that were asked for**" in text and "**What an audit warned of.**" in text
