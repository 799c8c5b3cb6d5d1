"""Command line: train a recognition model on a dataset and test it on people it never saw. Wiring only; the work is
in arcface/ (training, embedding) and metrics/ (error rates)."""

from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from arcface.backbones import ARCHITECTURES
from arcface.embed import embed
from arcface.preprocess import protocol
from arcface.recognition_config import DEFAULT_EPOCHS, DEFAULTS, RecognitionConfig, build_config
from arcface.recognition_data import SPECTRA_CHOICES, PictureSet, check_testable, load_pictures, split_identities
from arcface.recognition_loop import METRICS_FILE, MODEL_FILE, Evaluation, remove_run, train_recognition
from arcface.weights import RecognitionModel
from dnnlib.cli import Command, option
from dnnlib.files import make_folder, read_lines
from dnnlib.logger import log_to
from metrics.identity import eer, fmr_fnmr_at, mated_nonmated
from torch_utils.distributed import pick_device
from torch_utils.image_tree import PairedTree

BACKBONES = ", ".join(ARCHITECTURES)


@click.command(cls=Command)
@option("--data", "--data-folder", required=True, metavar="DIR|ZIP", help="Dataset with VIS/ and NIR/ to train on.")
@option("--outdir", required=True, metavar="RUN", help="Folder of this run; a run that was stopped there goes on.")
@option("--spectra", type=click.Choice(list(SPECTRA_CHOICES)), default=DEFAULTS.spectra, help="Pictures to train on.")
@option("--backbone", metavar="NAME", default=DEFAULTS.backbone, help=f"Network: {BACKBONES}; the n ones are narrow.")
@option("--resolution", type=int, metavar="PIXELS", help="Input size, 32 to 112. None: the pictures' own.")
@option("--epochs", type=float, help=f"Passes over the pictures. None: {DEFAULT_EPOCHS}, or what --steps says.")
@option("--steps", type=int, help="Batches to train for, instead of --epochs.")
@option("--batch", type=int, default=DEFAULTS.batch, help="Pictures in a batch.")
@option("--lr", type=float, default=DEFAULTS.lr, help="Highest learning rate.")
@option("--scale", type=float, default=DEFAULTS.scale, help="Scale of the ArcFace head.")
@option("--margin", type=float, default=DEFAULTS.margin, help="Margin of the ArcFace head in radians.")
@option("--holdout", type=int, default=0, help="People, the last of the sorted names, kept out and tested on.")
@option("--seed", type=int, default=DEFAULTS.seed, help="Of the weights, the order and the augmentation.")
@option("--device", "--gpu-device-number", default="auto", help="cpu, cuda, the number of a GPU, or auto.")
@option("--overwrite", is_flag=True, help="Remove the run that is in --outdir and start again.")
@option("--dry-run", is_flag=True, help="Check the inputs, print the configuration, and stop.")
def main(**options: Any) -> None:
    """Train a recognition model (ArcFace) on visible, near-infrared or both pictures of a dataset.

    Writes RUN/recognition.safetensors, config.json, stats.jsonl, log.txt and, with --holdout, metrics.jsonl with the
    equal error rate and the mated and non-mated scores of people who were not trained on.
    """
    tree = PairedTree(options["data"])
    learned, unseen = split_identities(tree, options["holdout"])
    pictures = load_pictures(tree, options["spectra"], learned)
    held_out = load_pictures(tree, options["spectra"], unseen) if unseen else None
    if held_out is not None:
        check_testable(held_out)
    config = configure(pictures, len(unseen), options)
    outdir = Path(options["outdir"])
    if options["dry_run"]:
        print(config)
        return
    device = pick_device(options["device"])
    if options["overwrite"]:
        remove_run(outdir)
    launch(config, pictures, held_out, outdir, device)


def configure(pictures: PictureSet, holdout: int, options: dict[str, Any]) -> RecognitionConfig:
    """The options and what was found in the data -> the configuration."""
    names = ("spectra", "backbone", "resolution", "epochs", "steps", "batch", "lr", "scale", "margin", "seed")
    record = {
        "path": str(options["data"]),
        "digest": pictures.digest(),
        "identities": len(pictures.identities),
        "pictures": len(pictures),
        "holdout": holdout,
    }
    return build_config(
        pictures=len(pictures),
        picture_size=pictures.resolution,
        data=record,
        **{name: options[name] for name in names},
    )


def launch(
    config: RecognitionConfig, pictures: PictureSet, held_out: PictureSet | None, outdir: Path, device: torch.device
) -> None:
    """Trains, with what is printed kept in RUN/log.txt, and prints what came out."""
    if (outdir / MODEL_FILE).exists():
        train_recognition(config, pictures, outdir)  # refuses where the run is another one
        print(f"{outdir / MODEL_FILE}: all is done; --overwrite starts again")
    else:
        make_folder(outdir, "--outdir")
        with log_to(outdir / "log.txt"):
            print(
                f"{config.backbone} at {config.input_size}x{config.input_size} on {len(pictures)} {config.spectra} "
                f"pictures of {len(pictures.identities)} people: {config.steps} steps of {config.batch}, {device}"
            )
            train_recognition(config, pictures, outdir, device, holdout_test(held_out, config.seed))
    if (outdir / METRICS_FILE).exists():
        for line in read_lines(outdir / METRICS_FILE):
            print(f"{line['spectrum']:4} {line['metric']:24} {line['value']:.4f}")
    print(f"Model: {outdir / MODEL_FILE}")


def holdout_test(held_out: PictureSet | None, seed: int) -> Evaluation | None:
    """The test on people who were kept out, for the end of the training."""
    if held_out is None:
        return None

    def evaluate(model: RecognitionModel) -> list[dict[str, Any]]:
        lines = []
        for spectrum, images in held_out.images.items():
            features = embed(model, images, batch_size=256)
            for metric, value in identity_scores(features, held_out.labels.numpy()).items():
                lines.append(
                    {
                        "metric": metric,
                        "spectrum": spectrum,
                        "value": value,
                        "num_real": len(features),
                        "num_identities": len(held_out.identities),
                        "detector": model.arch,
                        "detector_sha256": model.fingerprint,
                        "resize": protocol(model.input_size, model.color_order),
                        "seed": seed,
                    }
                )
        return lines

    return evaluate


def identity_scores(features: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """EER, the moments of both kinds of scores, and the error rates at the filter's threshold, mean - 2 sd."""
    mated, nonmated = mated_nonmated(features, labels)
    point = fmr_fnmr_at(mated, nonmated, mated.mean() - 2 * mated.std())
    return {
        "eer": eer(mated, nonmated),
        "mated_mean": float(mated.mean()),
        "mated_sd": float(mated.std()),
        "nonmated_mean": float(nonmated.mean()),
        "nonmated_sd": float(nonmated.std()),
        "fmr_at_mean_minus_2sd": point.fmr,
        "fnmr_at_mean_minus_2sd": point.fnmr,
    }


if __name__ == "__main__":
    main()
