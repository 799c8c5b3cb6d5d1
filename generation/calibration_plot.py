"""The picture beside thresholds.json: what the thresholds stand among."""

from __future__ import annotations

import numpy as np

from dnnlib.files import StrPath, atomic_path
from generation.thresholds import Thresholds
from metrics.score_counts import ScoreCounts

BINS = 200
COLOR = {"mated": "#14877a", "nonmated": "#8a6fc4", "limit": "#c02f4c", "fmr": "0.45"}


def draw_calibration(path: StrPath, mated: ScoreCounts, nonmated: ScoreCounts, thresholds: Thresholds) -> None:
    """A PNG with both histograms, above as they are and below with logarithmic counts, where the few strangers that
    come near can be seen; thresholds and the FMR's points are lines."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True)
    low = min(mated.lowest, nonmated.lowest) - 0.02
    edges = np.linspace(max(low, -1), 1.0, BINS + 1, dtype=np.float64)
    for kind, label, scores in (("nonmated", "different people", nonmated), ("mated", "same person", mated)):
        places, counts = scores.occupied()
        text = f"{label} ({'non-mated' if kind == 'nonmated' else kind}, {scores.total:,})"
        for axes, weights in ((upper, counts * (100 / scores.total)), (lower, counts)):
            axes.hist(places, bins=list(edges), weights=weights, color=COLOR[kind], alpha=0.45, label=text)
    lines = [(f"FMR {text}", point.threshold, "fmr") for text, point in thresholds.fmr_points.items()]
    names: dict[float, list[str]] = {}
    for name in ("unique", "same", "repeat"):
        names.setdefault(getattr(thresholds, name), []).append(name)
    lines += [(" = ".join(alike), value, "limit") for value, alike in names.items()]
    for axes in (upper, lower):
        for text, value, kind in lines:
            style = (0, (4, 3)) if kind == "limit" else (0, (1, 2))
            axes.axvline(value, color=COLOR[kind], linewidth=1.1, linestyle=style)
            if axes is upper:
                place = (value, 0.98)
                axes.annotate(
                    f"{text} {value:.3f} ",
                    place,
                    xycoords=("data", "axes fraction"),
                    color=COLOR[kind],
                    fontsize=8,
                    rotation=90,
                    ha="right",
                    va="top",
                )
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(axis="y", color="0.9", linewidth=0.7)
    upper.set_ylabel("% of comparisons")
    upper.legend(frameon=False, fontsize=9, loc="upper center")
    lower.set(yscale="log", ylabel="comparisons", xlabel="cosine similarity", xlim=(edges[0], 1.0))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
