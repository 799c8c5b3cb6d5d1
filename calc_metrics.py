#!/usr/bin/env python3
"""Command line: measures pictures, of a network or on disk, against a real dataset. The work is in
commands.calc_metrics."""

from __future__ import annotations

from typing import Any

import click

from dnnlib.cli import Command, listed, option
from metrics.choices import METRICS, METRICS_FILE, OWN, PROTOCOLS, VIS_AND_NIR
from torch_utils.feature_file import FILE_NAME
from torch_utils.spectra import SPECTRA


@click.command(cls=Command)
@option("--gen-model", metavar="FILE", help="The network whose pictures are measured: a snapshot or a released .pkl.")
@option("--fake", metavar="PATH", help="Or pictures that are there: a dataset as generate_dataset.py writes it.")
@option("--data", "--data-folder", required=True, metavar="PATH", help="The real pictures to compare with.")
@option(
    "--metrics",
    shell_complete=listed(*METRICS),
    metavar="LIST",
    help="What to measure, with commas between. [default: where --detector or the cache has an Inception, fid50k_full "
    "of a network and fid of pictures; else fd_arcface, the same on a recognition model's features, which is no FID]",
)
@option(
    "--detector",
    multiple=True,
    metavar="FILE",
    help="An image network, for the metrics that look with one; may be repeated. pytorch-fid's Inception, "
    "torchvision's VGG16, lpips's weights on it, or StyleGAN2-ADA's TorchScript, a program, as FILE@sha256:HEX. "
    "[default: those that `python -m metrics.detectors fetch` has brought]",
)
@option(
    "--resize",
    type=click.Choice(PROTOCOLS),
    default=OWN,
    help="How image networks see pictures of other sizes: as in the public figures, as clean-fid does, as pytorch-fid.",
)
@option("--rec-model", metavar="FILE", help="Recognition model, for the metrics that look with one.")
@option("--rec-arch", metavar="NAME", help="Its architecture, where the weights' shapes leave it open.")
@option(
    "--features",
    metavar="FILE",
    help=f"Identity features that a network's conditions are drawn from. [default: DATA/{FILE_NAME}]",
)
@option("--spectra", type=click.Choice([VIS_AND_NIR, *SPECTRA]), default=VIS_AND_NIR, help="Pictures to measure.")
@option("--truncation", type=float, default=1.0, help="Truncation psi of a network's styles; 1 does not truncate.")
@option("--noise-mode", type=click.Choice(["const", "none"]), default="const", help="A network's noise inputs.")
@option("--out", metavar="FILE", help=f"Gets a line a result. [default: {METRICS_FILE} beside what is measured]")
@option("--overwrite", is_flag=True, help="Measure again what --out holds already, and append.")
@option("--batch", type=click.IntRange(1), default=32, help="Pictures at a time; it changes the speed only.")
@option("--workers", type=click.IntRange(0), help="Processes that read pictures. [default: one a processor, 8 at most]")
@option("--gpus", type=int, help="Processes, each on a GPU of its own. [default: 1, or what torchrun has started]")
@option("--device", "--gpu-device-number", default="auto", help="cpu, cuda, the number of a GPU, or auto.")
@option("--seed", type=int, default=0, help="Of what is drawn.")
def main(**options: Any) -> None:
    """Measure pictures of both spectra: quality, and whether pairs and people are what they should be.

    Prints a line for each metric and spectrum, and appends it with all that is needed to repeat it to metrics.jsonl.
    What is recorded there already is not measured again.
    """
    from commands.calc_metrics import run

    run(**options)


if __name__ == "__main__":
    main()
