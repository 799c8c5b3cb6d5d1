"""Charts as SVG: what is drawn is what was given, in colours that the page defines."""

from __future__ import annotations

import re

import pytest

from generation.plots import Bars, bars


def test_bars_say_their_values_and_take_the_pages_colours() -> None:
    series = [Bars("real", [61.5, 70.25], [2.0, None], "mated"), Bars("other", [55.0, 52.5], [None, None], "refused")]
    drawn = bars(["VIS", "NIR"], series, "Accuracy", "accuracy in %", floor=50)
    assert drawn.startswith('<svg role="img" aria-label="Accuracy" class="plot" ')
    texts = re.findall(r">([^<>\n]+)</text>", drawn)
    assert {"VIS", "NIR", "accuracy in %", "61.5", "70.2", "55", "52.5"} <= set(texts)
    assert "var(--mated)" in drawn and "var(--refused)" in drawn and "#0" not in drawn
    assert drawn == bars(["VIS", "NIR"], series, "Accuracy", "accuracy in %", floor=50)


def test_a_spread_is_drawn_where_it_is_known() -> None:
    """Two of three bars have one: the path of one more line, from 58 to 62, and two more caps."""

    def drawn(*spreads: float | None) -> str:
        return bars(["VIS", "NIR", "both"], [Bars("real", [60.0, 60.0, 60.0], spreads, "mated")], "x", "y")

    def strokes(svg: str) -> int:
        return len(
            re.findall(r'<path d="M [\d.]+ [\d.]+ \nL [\d.]+ [\d.]+ \n" clip-path[^>]*stroke: var\(--ink\)', svg)
        )

    assert (strokes(drawn(None, None, None)), strokes(drawn(2.0, None, 2.0))) == (0, 2)


def test_what_has_no_bar_is_told_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """Below the floor, or not a number: a value at the foot, within the picture."""
    drawn = bars(["VIS", "NIR"], [Bars("real", [47.5, float("nan")], [1.0, None], "mated")], "x", "y", floor=50)
    places = {text: float(y) for y, text in re.findall(r'y="([\d.]+)"[^>]*>([^<>\n]+)</text>', drawn)}
    assert places["47.5"] == places["–"] < places["VIS"]  # noqa: RUF001
    assert not caplog.records


def test_names_come_from_files() -> None:
    assert 'aria-label="a &quot;b&quot; &lt;c&gt;" class' in bars(["VIS"], [], 'a "b" <c>', "y")
