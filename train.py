#!/usr/bin/env python3
"""Command line: trains the dual-branch generator on a paired dataset. The work is in commands.train."""

from typing import Any

import click

from dnnlib.cli import Command, listed, option
from metrics.choices import DEFAULT_METRICS, METRICS, OWN, PROTOCOLS, WITH_INCEPTION
from torch_utils.feature_file import FILE_NAME
from training.choices import AUGMENT_SETS
from training.config import (
    ADA_SIGNAL,
    AUGPIPE,
    PRECISIONS,
    PRESETS,
)


@click.command(cls=Command)
@option("--data", "--data-folder", required=True, metavar="DIR|ZIP", help="Pairs: a folder or zip with VIS/ and NIR/.")
@option("--outdir", required=True, metavar="DIR", help="Where runs are kept; each gets a numbered folder of its own.")
@option("--features", metavar="FILE", help=f"Identity features. [default: DATA/{FILE_NAME}]")
@option("--cfg", default="auto", type=click.Choice(list(PRESETS)), help="Preset; the options below override it.")
@option("--kimg", type=float, help="Thousands of real pairs to show. [default: the preset's]")
@option("--batch", type=int, help="Pairs in a batch. [default: the preset's]")
@option(
    "--batch-gpu",
    type=int,
    help="Pairs a process handles at once; its share of the batch is gathered in rounds. [default: the share; with a "
    "preset's own batch, no more than on the GPUs that the preset was made for]",
)
@option("--gamma", type=float, help="Weight of R1. [default: the preset's]")
@option("--lr", type=float, help="Learning rate of all networks. [default: the preset's]")
@option("--fmaps", type=float, help="Width of the networks: channel_base / 32768. [default: the preset's]")
@option("--nir-weight", "--NIR_loss_weight", default=1.0, help="Weight of NIR in the generator's loss.")
@option(
    "--nir-r1", type=click.BOOL, default=True, help="R1 on the NIR discriminator; false is ArcBiFaceGAN's behaviour."
)
@option("--cond", type=click.BOOL, default=True, help="Condition on identity features.")
@option("--cond-nir", type=click.BOOL, default=False, help="Condition the NIR discriminator as well.")
@option(
    "--aug", default="ada", type=click.Choice(["ada", "noaug", "fixed"]), help="Augmentation: adaptive, none, fixed."
)
@option("--p", type=float, help="Probability of the transforms, with --aug fixed.")
@option("--target", type=float, help="Target of sign(D(real)), with --aug ada. [default: 0.6]")
@option("--augpipe", type=click.Choice(list(AUGMENT_SETS)), help=f"Which transforms. [default: {AUGPIPE}]")
@option(
    "--ada-signal",
    type=click.Choice(["each", "vis"]),
    help=f"Whose discriminator moves each p, with --aug ada. [default: {ADA_SIGNAL}]",
)
@option("--mirror", type=click.BOOL, default=False, help="Show every pair flipped left to right as well.")
@option("--subset", type=int, help="Train on that many pairs only. [default: all]")
@option("--snap", default=50, help="Ticks between snapshots.")
@option(
    "--keep",
    type=int,
    help="Newest training states to keep, with their snapshots; the best network stays. [default: all]",
)
@option(
    "--metrics",
    shell_complete=listed(*METRICS),
    metavar="LIST|none",
    help="Measures of each network snapshot, with commas between them: fd_arcface, the Frechet distance of both "
    "spectra's pictures to the real ones under the recognition model, as many drawn as there are real ones, or "
    "fd_arcface5k with that many; fid50k_full and all others of calc_metrics.py. The first decides which network is "
    f"the best. [default: {WITH_INCEPTION} where --detector has an Inception; else {DEFAULT_METRICS}, which is no FID, "
    "where --rec-model is given; else none]",
)
@option("--detector", multiple=True, metavar="FILE", help="Image networks for --metrics, as in calc_metrics.py.")
@option("--resize", type=click.Choice(PROTOCOLS), default=OWN, help="How they see pictures, as in calc_metrics.py.")
@option("--rec-model", metavar="FILE", help="The recognition model of the identity features, for --metrics.")
@option("--rec-arch", metavar="NAME", help="Its architecture, where the weights' shapes leave it open.")
@option("--tick", type=float, help="Thousands of pairs in a tick. [default: 4]")
@option("--workers", default=1, help="Processes that read pictures; 0 reads in the training process.")
@option("--device", default="auto", help="cpu, cuda, the number of a GPU, or auto.")
@option("--seed", default=0, help="Seed of everything random.")
@option(
    "--resume", metavar="FILE|latest", help="Training state to go on from; latest: the newest below --outdir, if any."
)
@option("--gpus", type=int, help="Processes, each on a GPU of its own. [default: 1, or what torchrun has started]")
@option(
    "--init-from",
    metavar="FILE",
    help="Begin with the weights of a released .pkl, a training state or a network snapshot, with fresh optimisers, "
    "counters and p. With --resume latest it counts until there is a state.",
)
@option(
    "--freezed", default=0, help="So many layers of each discriminator, from the picture on, stay as they were loaded."
)
@option(
    "--precision",
    default="auto",
    type=click.Choice(PRECISIONS),
    help="Of the highest resolutions; auto is fp16 on a GPU. On the CPU everything is fp32.",
)
@option("--fp32", type=click.BOOL, default=False, help="The same as --precision fp32.")
@option(
    "--nhwc", type=click.BOOL, default=False, help="Accepted and without effect: the layout is always channels_last."
)
@option("--allow-tf32", type=click.BOOL, default=False, help="Let float32 products round to TF32 on a GPU.")
@option("--nobench", type=click.BOOL, default=False, help="Do not let cuDNN try its algorithms for the fastest.")
@option("--dry-run", "-n", is_flag=True, help="Print the configuration, parameters and memory as JSON, and leave.")
def main(**options: Any) -> None:
    """Train a generator of aligned VIS/NIR face pairs, conditioned on identity features.

    SIGTERM and SIGUSR1 save the training state and leave with status 75; --resume latest goes on from there.
    """
    from commands.train import run

    run(**options)


if __name__ == "__main__":
    main()
