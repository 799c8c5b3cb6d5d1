#!/usr/bin/env python3
"""Command line: a trained generator -> a filtered dataset of VIS/NIR pairs of people who do not exist, and its report.
The work is in commands.generate_dataset."""

from typing import Any

import click

from dnnlib.cli import Command, option
from generation.choices import (
    DEFAULT_DETECTOR,
    DEFAULT_QUALITY,
    FEWEST_SLOTS,
    FULL_COLOUR_FROM,
    IMAGE_FORMATS,
    KINDS,
    LAYOUTS,
    SLOTS_PER_IDENTITY,
)
from generation.pretrained import DEFAULTS, SUITED
from generation.rule_options import MOST, rule_options

MOST_ROUND = 4096  # a round is in memory as a whole


@click.command(cls=Command)
@option(
    "--gen-model",
    metavar="FILE",
    help="Trained generator: a network-snapshot-*.safetensors of train.py, or a released .pkl of ArcBiFaceGAN. "
    " [default: pretrained/generator.safetensors, with all that belongs to it]",
)
@option(
    "--rec-model",
    metavar="FILE",
    help="Recognition model that the filter sees with (.safetensors or .pth). "
    " [default: pretrained/recognition.safetensors, where --gen-model is not given either]",
)
@option("--rec-arch", metavar="NAME", help="Its architecture, where the weights' shapes leave it open.")
@option(
    "--real-features",
    "--training-ids",
    multiple=True,
    metavar="FILE",
    help="Features of the real people whom nobody may resemble: identity_features.safetensors of the training "
    "data, or ArcBiFaceGAN's .json. Every feature in it is compared with every sample. May be given several times, "
    "for the features of both spectra, say; the first file is the one that --thresholds and --identities fall back on.",
)
@option(
    "--thresholds",
    metavar="FILE",
    help="Thresholds from filter.py calibrate. Without it they are calibrated on --real-features.",
)
@option(
    "--outdir",
    required=True,
    metavar="DIR",
    help="Folder of the dataset: new, empty, or of the same run, which then goes on.",
)
@option("--ids", type=click.IntRange(1, MOST), default=100, help="Identities in the dataset.")
@option("--samples-per-id", type=click.IntRange(1, MOST), default=32, help="Pairs of each identity.")
@option(
    "--truncation",
    type=click.FloatRange(0, 2),
    help="Truncation psi: less gives more typical and more alike faces.  "
    f"[default: {DEFAULTS['truncation']:g}; {SUITED['truncation']:g} with the pretrained models]",
)
@option(
    "--noise-mode",
    type=click.Choice(["const", "none"]),
    default="const",
    help="Noise in the synthesis layers: the same for every picture, or none, which suits a generator trained briefly.",
)
@option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    help="Seed of the whole dataset: the same seed and settings give the same bytes.",
)
@option(
    "--identities",
    metavar=f"{'|'.join(KINDS)}|FILE",
    help="Where identity features come from: random directions (the paper's way), directions that are pushed apart "
    "within the real features' distribution, a Gaussian like the real features, or a file of your own "
    "(.safetensors, ArcBiFaceGAN's .json, or a .npy of rows), of which row i is slot i, at the length that the "
    f"generator knows.  [default: {DEFAULTS['identities']}; {SUITED['identities']} with the pretrained models]",
)
@option(
    "--detector",
    metavar="none|DIR",
    default=DEFAULT_DETECTOR,
    help="Face detector for each identity's first sample: the installed facenet-pytorch package's weights, a "
    "folder or wheel with them, or none.",
)
@rule_options
@option(
    "--max-slots",
    type=click.IntRange(1, MOST),
    help=f"People that are tried at most.  [default: {SLOTS_PER_IDENTITY} for each identity, at least {FEWEST_SLOTS}]",
)
@option(
    "--round",
    "round_size",
    type=click.IntRange(1, MOST_ROUND),
    default=16,
    help="Candidates that go through the networks together. Part of the dataset's settings.",
)
@option(
    "--batch",
    type=click.IntRange(min=1),
    default=32,
    help="Candidates in memory at a time, in whole rounds: those that are drawn and those that wait to be encoded. "
    "Changes nothing in the dataset.",
)
@option(
    "--format",
    type=click.Choice(LAYOUTS),
    default="folder",
    help="How the dataset lies on disk: VIS/ and NIR/ with a folder a person, ArcBiFaceGAN's tree, WebDataset shards "
    "of 100 people, or RecordIO.",
)
@option("--image-format", type=click.Choice(IMAGE_FORMATS), default="png", help="Files of the pictures.")
@option(
    "--quality",
    type=click.IntRange(1, 100),
    help=f"Quality of JPEG; colour has its full resolution from {FULL_COLOUR_FROM} on.  [default: {DEFAULT_QUALITY}]",
)
@option(
    "--previews",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Draw the samples of the first N people small, VIS over NIR, into previews/.",
)
@option(
    "--workers",
    type=click.IntRange(min=0),
    help="Processes that encode pictures while the next ones are drawn. Changes nothing in the dataset.  "
    "[default: none on a CPU, beside a GPU as many as keep up]",
)
@option("--strict", is_flag=True, help="End the run, with status 2, as soon as it can hardly succeed, and say why.")
@option(
    "--dry-run",
    "-n",
    is_flag=True,
    help="Draw some 64 candidates, print settings and the whole run's acceptance, time, disk and memory as JSON, and "
    "leave.",
)
@option("--device", "--gpu-device-number", default="auto", help="cpu, cuda, the number of a GPU, or auto.")
@option("--gpus", type=int, help="Processes, each on a GPU of its own. [default: 1, or what torchrun has started]")
@option("--overwrite", is_flag=True, help="Delete the run that is in --outdir first.")
def main(**options: Any) -> None:
    """Generate a recognition dataset of paired visible-light and near-infrared faces of people who do not exist.

    Identity features are drawn, a trained generator renders pairs, and the privacy-and-diversity filter lets in those
    that show one person each, nobody real, nobody twice and no copies. A run that was stopped goes on with the same
    command, on any number of processes. The folder then holds the pictures (--format), manifest.jsonl, summary.json,
    settings.json, report.html and datasheet.md. SIGTERM and SIGUSR1 store what is finished and leave with status 75.
    """
    from commands.generate_dataset import run

    run(**options)


if __name__ == "__main__":
    main()
