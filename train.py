"""Command line: trains the dual-branch generator on a paired dataset. Options -> TrainingConfig -> training loop."""

import re
from pathlib import Path
from typing import Any

import click

from dnnlib.cli import Command, option
from dnnlib.files import atomic_write_json, make_folder, read_json
from dnnlib.logger import log_to
from torch_utils import distributed
from torch_utils.feature_file import FILE_NAME, load_features
from torch_utils.image_tree import PairedTree
from torch_utils.pair_check import check_features, check_pairs
from training.augment import AUGMENT_SETS
from training.config import PRESETS, DatasetFacts, TrainingConfig, TrainingOptions, build_training_config
from training.dataset import PairedFaces
from training.snapshots import latest_state, load_state
from training.trainer import Trainer
from training.training_loop import train


@click.command(cls=Command)
@option("--data", "--data-folder", required=True, metavar="DIR|ZIP", help="Pairs: a folder or zip with VIS/ and NIR/.")
@option("--outdir", required=True, metavar="DIR", help="Where runs are kept; each gets a numbered folder of its own.")
@option("--features", metavar="FILE", help=f"Identity features. [default: DATA/{FILE_NAME}]")
@option("--cfg", default="auto", type=click.Choice(list(PRESETS)), help="Preset; the options below override it.")
@option("--kimg", type=float, help="Thousands of real pairs to show. [default: the preset's]")
@option("--batch", type=int, help="Pairs in a batch. [default: the preset's]")
@option("--batch-gpu", type=int, help="Pairs handled at once; the batch is gathered in rounds. [default: all]")
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
@option("--augpipe", default="bgc", type=click.Choice(list(AUGMENT_SETS)), help="Which transforms.")
@option("--ada-signal", default="each", type=click.Choice(["each", "vis"]), help="Whose discriminator moves each p.")
@option("--mirror", type=click.BOOL, default=False, help="Show every pair flipped left to right as well.")
@option("--subset", type=int, help="Train on that many pairs only. [default: all]")
@option("--snap", default=50, help="Ticks between snapshots.")
@option("--tick", type=float, help="Thousands of pairs in a tick. [default: 4]")
@option("--workers", default=1, help="Processes that read pictures; 0 reads in the training process.")
@option("--device", default="auto", help="cpu, cuda, the number of a GPU, or auto.")
@option("--seed", default=0, help="Seed of everything random.")
@option(
    "--resume", metavar="FILE|latest", help="Training state to go on from; latest: the newest below --outdir, if any."
)
@option("--dry-run", is_flag=True, help="Print the configuration and leave.")
def main(
    data: str, outdir: str, features: str | None, resume: str | None, device: str, dry_run: bool, **options: Any
) -> None:
    """Train a generator of aligned VIS/NIR face pairs, conditioned on identity features."""
    torch_device = distributed.pick_device(device)
    tree = PairedTree(data)
    summary = check_pairs(tree)
    feature_set = load_features(features or Path(data) / FILE_NAME)
    check_features(feature_set, tree)
    facts = DatasetFacts(summary.resolution, summary.pairs, feature_set.features.shape[1])
    config = build_training_config(TrainingOptions(**options), facts)
    if dry_run:
        click.echo(config.to_text())
        return
    state_path = _state_path(resume, outdir)
    trainer = Trainer(config, torch_device)
    if state_path:
        trainer.load(load_state(state_path), f"--resume: {state_path}")
    if trainer.images_seen >= config.total_kimg * 1000:
        click.echo(f"Nothing to do: {state_path} has seen {config.total_kimg:g} kimg already.")
        return
    sources = {"data": str(Path(data).resolve()), "recognition_model": feature_set.model}
    run_dir = _run_folder(Path(outdir), state_path, config, sources, options["cfg"])
    metadata = {"recognition_model": feature_set.model, "feature_norm": feature_set.norm}
    dataset = PairedFaces(tree, feature_set, config.mirror, config.subset, config.seed)
    with log_to(run_dir / "log.txt"):
        click.echo(f"{len(dataset)} pairs of {summary.identities} people at {summary.resolution}x{summary.resolution}")
        click.echo(f"Writing to {run_dir}" + (f", going on from {state_path}" if state_path else ""))
        train(trainer, dataset, run_dir, metadata)
        click.echo(f"Done: {run_dir}")


def _state_path(resume: str | None, outdir: str) -> Path | None:
    if resume is None:
        return None
    return latest_state(outdir) if resume == "latest" else Path(resume)


def _run_folder(outdir: Path, state: Path | None, config: TrainingConfig, sources: dict[str, str], cfg: str) -> Path:
    """The folder of the state that is resumed, or the next numbered one, with its config.json."""
    described = {**sources, **config.to_json()}
    if state is not None and state.parent.parent.resolve() == outdir.resolve():
        known = read_json(state.parent / "config.json", "--resume")
        changed = sorted(key for key in described if known.get(key) != described[key])
        if changed:
            click.echo(f"Settings that differ from {state.parent}/config.json: {', '.join(changed)}")
        atomic_write_json(state.parent / "config.json", described)
        return state.parent
    numbers = [int(found[1]) for path in outdir.glob("*") if (found := re.match(r"(\d{5})-", path.name))]
    run_dir = outdir / f"{max(numbers, default=-1) + 1:05d}-{Path(sources['data']).stem}-{cfg}"
    make_folder(run_dir, "--outdir")
    atomic_write_json(run_dir / "config.json", described)
    return run_dir


if __name__ == "__main__":
    main()
