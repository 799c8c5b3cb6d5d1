#!/usr/bin/env python3
"""Command line: the paper's experiment end to end, and what it says of the paper's claims. The work is in
commands.reproduce."""

from __future__ import annotations

from typing import Any

import click

from dnnlib.cli import Command, option

SCALES = ("mini", "paper")


@click.command(cls=Command)
@option("--scale", type=click.Choice(SCALES), default="mini", help="Example faces on a CPU, or the paper's experiment.")
@option("--outdir", required=True, metavar="OUT", help="Folder of the experiment; one that was stopped there goes on.")
@option(
    "--benchmarks",
    multiple=True,
    metavar="PATH",
    help="Test recognition on these, too: a folder with LFW, CFP-FP, AgeDB-30, CALFW and CPLFW as .bin, say. Can be "
    "given again. Needed with --scale paper.",
)
@option(
    "--inception",
    metavar="FILE",
    help="Inception network, for FID, KID and IS beside their arcface "
    "relatives; a TorchScript program as FILE@sha256:HEX.",
)
@option("--cores", type=click.IntRange(1), help="Scale mini: cores to keep busy.  [default: all, 2 at least]")
@option("--data", "--data-folder", metavar="DIR|ZIP", help="Scale paper: the real paired set, at 256x256.")
@option("--rec-model", metavar="FILE", help="Scale paper: the recognition model of the features, ArcFace's r100.")
@option("--rec-arch", metavar="NAME", help="Its architecture, where the weights' shapes leave it open.")
@option(
    "--heldout-data",
    metavar="DIR|ZIP",
    help="Scale paper: pairs of other people, taken in the same way. Without them there is nothing to compare drawn "
    "pictures with, and no membership test.",
)
@option("--ids", type=click.IntRange(2), default=100, help="Scale paper: people in the synthetic sets.")
@option("--samples-per-id", type=click.IntRange(2), default=32, help="Scale paper: pairs of each.")
@option(
    "--kimg",
    type=click.FloatRange(0, min_open=True),
    help="Scale paper: thousands of pairs to train on.  [default: the preset's]",
)
@option("--gpus", type=click.IntRange(1), default=1, help="Scale paper: GPUs to keep busy.")
@option("--dry-run", "-n", is_flag=True, help="Check the inputs, print each stage's command and cost, and stop.")
def main(**options: Any) -> None:
    """Run the paper's experiment: a generator learns from real people, a dataset is generated and filtered, recognition
    models learn from real, unfiltered and filtered people, and the paper's claims are held against what came out.

    Stages are the other scripts' command lines, in stages.json with inputs and seconds, their output in logs/. A second
    run goes on where the first stopped. Writes results.json, results.md, claims.json and report.html.
    """
    from commands.reproduce import run

    run(**options)


if __name__ == "__main__":
    main()
