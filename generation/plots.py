"""The report's charts as inline SVG: text stays text, and colours are CSS variables, so they follow light and dark."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Matplotlib writes these stand-ins, and the finished SVG gets the variables that report_template.html defines.
VARIABLES = {
    "#010101": "var(--ink)",
    "#020202": "var(--soft)",
    "#030303": "var(--mated)",
    "#040404": "var(--nonmated)",
    "#050505": "var(--kept)",
    "#060606": "var(--refused)",
    "#070707": "var(--limit)",
    "#080808": "var(--card)",
}
COLOR = {variable[6:-1]: stand_in for stand_in, variable in VARIABLES.items()}
STYLE = {
    "svg.fonttype": "none",
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": COLOR["soft"],
    "axes.labelcolor": COLOR["soft"],
    "text.color": COLOR["ink"],
    "xtick.color": COLOR["soft"],
    "ytick.color": COLOR["soft"],
}
WIDTH, HEIGHT = 5.2, 2.9  # inches; a phone shows it at about three quarters
BINS = 60


class Series(NamedTuple):
    """One histogram of a chart. color: a key of COLOR. counts: how often each value is there; None: once."""

    label: str
    values: NDArray[np.float64]
    color: str
    counts: NDArray[np.int64] | None = None

    def shares(self) -> NDArray[np.float64]:
        """What each value weighs, in %."""
        counts = np.ones(len(self.values)) if self.counts is None else self.counts
        return np.asarray(100 * counts / counts.sum())


class Limit(NamedTuple):
    """A threshold, drawn as a vertical line with its name."""

    label: str
    value: float


def histogram(
    series: Sequence[Series],
    limits: Sequence[Limit],
    name: str,
    stacked: bool = False,
    xlabel: str = "cosine similarity",
    ylabel: str = "% of comparisons",
) -> str:
    """SVG of overlaid (each normalised to its own share) or stacked (counts) histograms over cosine similarity.

    name: names the chart for screen readers and keeps its ids apart from other charts on the page.
    """
    filled = [part for part in series if len(part.values)]
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        edges = _edges([part.values for part in filled], [limit.value for limit in limits])
        if stacked:
            axes.hist(
                [part.values for part in filled],
                bins=list(edges),
                stacked=True,
                color=[COLOR[part.color] for part in filled],
                label=[part.label for part in filled],
            )
            axes.set_ylabel("candidates")
        for part in [] if stacked else filled:
            weights = part.shares()
            axes.hist(part.values, bins=list(edges), weights=weights, color=COLOR[part.color], alpha=0.35)
            axes.hist(
                part.values,
                bins=list(edges),
                weights=weights,
                color=COLOR[part.color],
                histtype="step",
                linewidth=1.4,
                label=part.label,
            )
            axes.set_ylabel(ylabel)
        top = axes.get_ylim()[1]
        axes.set_ylim(0, top * 1.28)  # room for the names of the limits
        for step, limit in enumerate(sorted(limits, key=lambda limit: limit.value)):
            axes.axvline(limit.value, color=COLOR["limit"], linewidth=1.2, linestyle=(0, (4, 3)), ymax=0.82)
            right = limit.value > (edges[0] + edges[-1]) / 2
            axes.text(
                limit.value,
                top * (1.19 - 0.11 * (step % 2)),
                f"{limit.label} {limit.value:.2f}",
                color=COLOR["limit"],
                ha="right" if right else "left",
                fontsize=9,
            )
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(xlabel)
        axes.tick_params(length=0)
        axes.grid(axis="y", color=COLOR["soft"], alpha=0.18, linewidth=0.8)
        axes.set_axisbelow(True)
        return _svg(figure, name)


class Bars(NamedTuple):
    """One colour of a bar chart: a value and its spread (None: not known) for each group."""

    label: str
    values: Sequence[float]
    spreads: Sequence[float | None]
    color: str


def bars(groups: Sequence[str], series: Sequence[Bars], name: str, ylabel: str, floor: float = 0.0) -> str:
    """SVG of grouped bars with their spread as a line, from `floor` upwards; each bar's value stands above it, and
    where it is below `floor`, or not a number, in its place.

    name: as for `histogram`.
    """
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        width = 0.8 / max(1, len(series))
        top = floor
        for number, part in enumerate(series):
            x = np.arange(len(groups)) + (number - (len(series) - 1) / 2) * width
            values, spreads = np.asarray(part.values), np.array([spread or 0.0 for spread in part.spreads])
            heights = np.fmax(values, floor)  # floor for what is not a number
            axes.bar(x, heights - floor, 0.9 * width, bottom=floor, color=COLOR[part.color], alpha=0.75)
            known = (spreads > 0) & np.isfinite(values)
            axes.errorbar(
                x[known], values[known], spreads[known], fmt="none", ecolor=COLOR["ink"], elinewidth=1.2, capsize=2.5
            )
            tops = np.fmax(values + spreads, floor)
            for place, value, height in zip(x, values, tops, strict=True):
                words = f"{value:.3g}" if np.isfinite(value) else "–"  # noqa: RUF001
                axes.text(place, height, words, ha="center", va="bottom", fontsize=8)
            top = max([top, *tops])
        axes.set_ylim(floor, floor + 1.12 * max(top - floor, 1e-9))
        axes.set_xticks(range(len(groups)), list(groups))
        axes.set_ylabel(ylabel)
        axes.tick_params(length=0)
        axes.grid(axis="y", color=COLOR["soft"], alpha=0.18, linewidth=0.8)
        axes.set_axisbelow(True)
        return _svg(figure, name)


def _edges(values: Sequence[NDArray[np.float64]], limits: Sequence[float]) -> NDArray[np.float64]:
    """Bin edges over everything drawn, with some air, within what a cosine can be."""
    everything = np.concatenate([*values, np.asarray(limits, dtype=np.float64)]) if values or limits else np.zeros(1)
    low, high = float(everything.min()), float(everything.max())
    air = max(0.04 * (high - low), 0.02)
    return np.linspace(max(low - air, -1.0), min(high + air, 1.02), BINS + 1, dtype=np.float64)


def _svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element that scales with its container."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for stand_in, variable in VARIABLES.items():
        text = text.replace(stand_in, variable)
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(name)}" class="plot" ', 1)
