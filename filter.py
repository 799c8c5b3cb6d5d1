"""Command line: the privacy-and-diversity filter on datasets that exist. Wiring only; the work is in generation/."""

import sys
from pathlib import Path
from typing import Any

import click

from arcface.alignment import sight, template_of
from arcface.embed import embed_dataset
from arcface.weights import load_recognition
from dnnlib.cli import Group, option
from dnnlib.errors import UserError
from dnnlib.files import check_place
from generation.calibration_plot import draw_calibration
from generation.thresholds import Thresholds, from_scores, save_thresholds
from metrics.score_counts import count_scores
from torch_utils.distributed import pick_device
from torch_utils.feature_file import FeatureSet, load_features, refuse_other_model
from torch_utils.image_tree import PairedTree


@click.group(cls=Group)
def main() -> None:
    """Calibrate the privacy-and-diversity filter."""


@main.command("calibrate")
@option("--data", required=True, metavar="DIR|ZIP", help="Real dataset with VIS/ and NIR/, several pictures a person.")
@option("--rec-model", required=True, metavar="FILE", help="Recognition model that the filter will see with.")
@option("--rec-arch", metavar="NAME", help="Its architecture, where the weights' shapes leave it open.")
@option("--out", required=True, metavar="FILE", help="The thresholds.json to write.")
@option(
    "--real-features",
    metavar="FILE",
    help="Features of --data under that model, mode all, so that nothing is embedded again.",
)
@option(
    "--unique-fmr",
    type=click.FloatRange(0, 1),
    help="Take `unique` where at most this share of real strangers match, instead of mean - 2 sd. For "
    "recognition models so weak that mean - 2 sd calls many strangers the same person.",
)
@option("--device", "--gpu-device-number", default="auto", help="cpu, cuda, the number of a GPU, or auto.")
@option("--overwrite", is_flag=True, help="Replace --out.")
def calibrate_command(**options: Any) -> None:
    """Measure how alike pictures of one real person are, and derive the filter's thresholds from it.

    unique = same = mean - 2 sd and repeat = mean + sd of the mated scores, with the false match and false non-match
    rates of the real set at each; a plot of the scores lies beside --out.
    """
    out = Path(options["out"])
    plot = out.with_suffix(".png")
    if plot == out:
        raise UserError(f"--out: {out}: is where the plot goes; name a .json")
    for path in (out, plot):
        check_place(path, "--out")
        if path.exists() and not options["overwrite"]:
            raise UserError(f"--out: {path}: exists; name another file or give --overwrite")
    features = real_features(options)
    scores = count_scores(features.features, features.identities)
    try:
        thresholds = from_scores(*scores, features.model, options["unique_fmr"])
    except ValueError as error:
        raise UserError(f"--data: {options['data']}: {error}") from error
    draw_calibration(plot, *scores, thresholds)
    save_thresholds(out, thresholds)
    for warning in thresholds.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    print(f"{describe(thresholds)}\nThresholds: {out}\nPlot: {plot}")


def real_features(options: dict[str, Any]) -> FeatureSet:
    """Features of every picture of the real set, from the file or embedded now."""
    tree = PairedTree(options["data"])
    model = load_recognition(options["rec_model"], pick_device(options["device"]), options["rec_arch"])
    path = options["real_features"]
    if path is None:
        if line := sight(template_of(tree.description()), model.alignment):
            print(line)
        return embed_dataset(model, tree, mode="all")
    features = load_features(path, "--real-features")
    refuse_other_model(features, f"--real-features: {path}", model.fingerprint, options["rec_model"])
    if missing := sorted(set(features.names) - set(tree.names)):
        raise UserError(f"--real-features: {path}: {missing[0]} is not in {options['data']} ({len(missing)} such)")
    features.model = model.fingerprint
    return features


def describe(thresholds: Thresholds) -> str:
    """The calibration for a terminal."""
    lines = [
        f"  mated       {thresholds.mated_scores:,}, mean {thresholds.mated_mean:.4f}, sd {thresholds.mated_sd:.4f}",
        f"  non-mated   {thresholds.nonmated_scores:,}, mean {thresholds.nonmated_mean:.4f}",
        f"  EER         {thresholds.eer:.2%}",
    ]
    points = {f"FMR {text}": point for text, point in thresholds.fmr_points.items()}
    for name, point in (thresholds.error_rates | points).items():
        lines.append(f"  {name:<11} {point.threshold:.4f}  FMR {point.fmr:.3g}  FNMR {point.fnmr:.3g}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
