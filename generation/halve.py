"""Command line: a recognition model or a generator -> the same in float16, half as large, to ship.

python -m generation.halve recognition|generator SOURCE DEST

A rounded recognition model is another model, with a fingerprint of its own: features and thresholds are made with it,
not with what it was rounded from.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import click
import torch
from torch import nn

from arcface.weights import ONNX, load_recognition, save_recognition
from dnnlib import console
from dnnlib.cli import Command
from dnnlib.errors import UserError
from training.snapshots import load_generator, save_generator

Network = TypeVar("Network", bound=nn.Module)


def halve_recognition(source: str, dest: str) -> None:
    """Raises UserError for what cannot be read, is an .onnx, or does not fit into float16."""
    model = load_recognition(source, option="SOURCE")
    if model.arch == ONNX:
        raise UserError(f"SOURCE: {source}: an .onnx stays as it is; a .safetensors or .pth can be halved")
    network = rounded(model.backbone, source)
    save_recognition(dest, network, model.arch, model.input_size, model.color_order, model.training, model.alignment)


def halve_generator(source: str, dest: str) -> None:
    """Raises UserError for what cannot be read or does not fit into float16."""
    generator = load_generator(source, option="SOURCE")
    save_generator(dest, rounded(generator, source), generator.metadata)


def rounded(network: Network, source: str) -> Network:
    """The network itself, in float16; counters stay whole numbers. Raises UserError where a value is too large."""
    network.half()
    for name, values in network.state_dict().items():
        if not torch.isfinite(values).all():
            raise UserError(f"SOURCE: {source}: {name} holds values that float16 cannot")
    return network


KINDS = {"recognition": halve_recognition, "generator": halve_generator}


@click.command(cls=Command)
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("source")
@click.argument("dest")
def main(kind: str, source: str, dest: str) -> None:
    """Write the recognition model or generator SOURCE in float16 as DEST."""
    if Path(dest).exists():
        raise UserError(f"DEST: {dest} exists; name a new file")
    if not Path(dest).parent.is_dir():
        raise UserError(f"DEST: {Path(dest).parent}: no such folder; make it first")
    KINDS[kind](source, dest)
    size = Path(dest).stat().st_size
    console.result({"path": dest, "bytes": size}, f"{dest}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
