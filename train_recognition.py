#!/usr/bin/env python3
"""Command line: train a recognition model on a dataset and test it on people it never saw. The work is in
commands.train_recognition."""

from collections.abc import Callable
from typing import Any

import click

from arcface.choices import ARCHITECTURES, HEADS, PARTS, SPECTRA_CHOICES
from arcface.recognition_config import DEFAULT_EPOCHS, DEFAULTS, MILESTONES, PRECISIONS, SCHEDULES
from dnnlib.cli import Command, option

BACKBONES = ", ".join(ARCHITECTURES)
HEAD_DEFAULTS = {
    part: ", ".join(f"{name} {getattr(kind, part):g}" for name, kind in HEADS.items() if getattr(kind, part))
    for part in ("scale", "margin")
}


def augmentation_options(command: Callable[..., None]) -> Callable[..., None]:
    """An option for each part of the augmentation."""
    for name, part in reversed(PARTS.items()):
        flag = f"--{name.replace('_', '-')}"
        command = option(flag, type=float, default=part.default, help=f"Augmentation: {part.metadata['help']}")(command)
    return command


@click.command(cls=Command)
@option(
    "--data",
    "--data-folder",
    metavar="PATH",
    help="Pictures to train on: a dataset with VIS/ and NIR/, a folder with a folder a person, or an archive.",
)
@option("--outdir", required=True, metavar="RUN", help="Folder of this run; a run that was stopped there goes on.")
@option("--spectra", type=click.Choice(list(SPECTRA_CHOICES)), default=DEFAULTS.spectra, help="Pictures to train on.")
@option("--real", metavar="PATH", help="A second set to mix in, such as a real one; its people are other people.")
@option(
    "--real-spectra",
    type=click.Choice(list(SPECTRA_CHOICES)),
    help="Pictures of --real to train on. [default: those of --spectra that it has]",
)
@option(
    "--backbone", metavar="NAME", help=f"Network: {BACKBONES}; the n ones are narrow. [default: {DEFAULTS.backbone}]"
)
@option("--init-from", metavar="FILE", help="Begin with this recognition model's weights; the head is new.")
@option("--resolution", type=int, metavar="PIXELS", help="Input size, 32 to 112. [default: the pictures' own]")
@option("--head", type=click.Choice(list(HEADS)), default=DEFAULTS.head, help="Loss: softmax over which logits.")
@option("--scale", type=float, help=f"Scale of the head's cosines. [default: {HEAD_DEFAULTS['scale']}]")
@option("--margin", type=float, help=f"Margin of the head. [default: {HEAD_DEFAULTS['margin']}]")
@option("--epochs", type=float, help=f"Passes over the pictures. [default: {DEFAULT_EPOCHS}, or what --steps says]")
@option("--steps", type=int, help="Batches to train for, instead of --epochs.")
@option("--batch", type=int, default=DEFAULTS.batch, help="Pictures in a batch, of all processes together.")
@option("--lr", type=float, default=DEFAULTS.lr, help="Highest learning rate; it is not scaled with the batch.")
@option(
    "--schedule",
    type=click.Choice(SCHEDULES),
    default=DEFAULTS.schedule,
    help="Of the learning rate after the warm-up: half a cosine or a parabola to zero, or a tenth at milestones.",
)
@option(
    "--milestones",
    metavar="LIST",
    help="Epochs with commas between them, with --schedule step. [default: at "
    f"{', '.join(f'{share:.0%}' for share in MILESTONES)} of the training]",
)
@option("--warmup", type=float, default=DEFAULTS.warmup, help="Share of the steps in which the rate rises from 0.")
@option("--momentum", type=float, default=DEFAULTS.momentum, help="Of SGD, Nesterov's.")
@option("--weight-decay", type=float, default=DEFAULTS.weight_decay, help="Of matrices and kernels.")
@option("--dropout", type=float, default=DEFAULTS.dropout, help="Probability before an iResNet's last layer.")
@option("--clip", type=float, default=DEFAULTS.clip, help="Largest norm of the gradient; 0 does not clip.")
@augmentation_options
@option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="auto",
    help="Of the backbone on a GPU; auto is fp16. The head, and on the CPU everything, is fp32.",
)
@option("--allow-tf32", type=click.BOOL, default=False, help="Let float32 products round to TF32 on a GPU.")
@option("--holdout", type=int, default=0, help="People, the last of the sorted names, kept out and tested on.")
@option(
    "--benchmarks",
    multiple=True,
    metavar="PATH",
    help="Test on these benchmarks, too: a .bin file, a list of pairs, or a folder of such. Can be given again.",
)
@option("--rec-model", metavar="FILE", help="Without --data: test this model on --benchmarks; nothing is trained.")
@option("--rec-arch", metavar="NAME", help="Architecture of --rec-model. [default: what its file tells]")
@option("--eval-every", type=float, metavar="EPOCHS", help="Test on the way, too. [default: at the end alone]")
@option("--snap", type=int, default=DEFAULTS.snap, help="Steps between training states, of which the newest is kept.")
@option("--tick", type=int, default=DEFAULTS.tick, help="Steps between lines of stats.jsonl.")
@option("--workers", type=int, default=2, help="Processes that decode pictures, where memory cannot hold all of them.")
@option("--gpus", type=int, help="Processes, each on a GPU of its own. [default: 1, or what torchrun has started]")
@option("--device", "--gpu-device-number", default="auto", help="cpu, cuda, the number of a GPU, or auto.")
@option("--seed", type=int, default=DEFAULTS.seed, help="Of the weights, the order and the augmentation.")
@option("--overwrite", is_flag=True, help="Remove the run or the results that are in --outdir and start again.")
@option("--dry-run", "-n", is_flag=True, help="Check the inputs, print the configuration as JSON, and stop.")
def main(**options: Any) -> None:
    """Train a recognition model on visible, near-infrared or both pictures of a dataset.

    Writes RUN/recognition.safetensors, config.json, stats.jsonl, TensorBoard events, curves.png, log.txt and, with
    --holdout or --benchmarks, metrics.jsonl with the results and det.png. SIGTERM and SIGUSR1 save the state and leave
    with status 75; the same command goes on from there, as after a crash. With --rec-model in place of --data a model
    that is there is tested.
    """
    from commands.train_recognition import run

    run(**options)


if __name__ == "__main__":
    main()
