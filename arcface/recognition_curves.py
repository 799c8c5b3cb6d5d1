"""curves.png of a recognition training: loss, accuracy, learning rate, and what was tested on the way."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from arcface.recognition_run import CURVES_FILE, METRICS_FILE, STATS_FILE
from dnnlib.files import atomic_path, read_lines

TESTED = ("accuracy", "eer")  # of metrics.jsonl, in this order


def draw_curves(outdir: Path) -> None:
    """Draws the lines of stats.jsonl and metrics.jsonl over the steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stats = read_lines(outdir / STATS_FILE) if (outdir / STATS_FILE).exists() else []
    curves = {name: {"": [(line["step"], line[name]) for line in stats]} for name in ("loss", "accuracy", "lr")}
    curves |= {f"{metric}, tested": lines for metric, lines in tested(outdir).items()}
    figure = Figure(figsize=(9, 2.4 * len(curves)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(curves), 1, squeeze=False, sharex=True)[:, 0]
    for axis, (title, lines) in zip(axes, curves.items(), strict=True):
        axis.set_ylabel(title)
        axis.grid(alpha=0.3)
        for name, points in lines.items():
            steps, values = zip(*points, strict=True) if points else ((), ())
            axis.plot(steps, values, marker="." if len(points) < 50 else None, linewidth=1, label=name or None)
        if any(lines):
            axis.legend(fontsize="small")
    axes[-1].set_xlabel("step")
    with atomic_path(outdir / CURVES_FILE) as temporary:
        figure.savefig(temporary, format="png", dpi=90)


def tested(outdir: Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """metric -> name of the test -> (step, value) of each evaluation."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    path = outdir / METRICS_FILE
    for line in read_lines(path) if path.exists() else []:
        if line["metric"] in TESTED:
            name = " ".join(str(line[key]) for key in ("benchmark", "spectrum") if key in line)
            found[line["metric"]][name].append((line["step"], line["value"]))
    return {metric: dict(found[metric]) for metric in TESTED if metric in found}
