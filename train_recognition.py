"""Command line: train a recognition model on a dataset and test it on people it never saw. Wiring only; the work is
in arcface/ (training, embedding) and metrics/ (error rates)."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from arcface.alignment import sight
from arcface.backbones import ARCHITECTURES
from arcface.benchmarks import Benchmark, check_pictures, find_benchmarks
from arcface.heads import HEADS
from arcface.recognition_augment import PARTS
from arcface.recognition_config import DEFAULT_EPOCHS, DEFAULTS, MILESTONES, PRECISIONS, SCHEDULES
from arcface.recognition_data import SPECTRA_CHOICES, PictureSet
from arcface.recognition_loop import Evaluation, train_recognition
from arcface.recognition_plan import Plan, describe, make_plan
from arcface.recognition_run import (
    DET_FILE,
    LOG_FILE,
    METRICS_FILE,
    MODEL_FILE,
    check_test,
    enter_run,
    write_metrics,
)
from arcface.recognition_tests import embed_people, repeatable
from arcface.verification import score_benchmarks
from arcface.weights import RecognitionModel, load_recognition
from dnnlib.cli import Command, option, refuse_others
from dnnlib.errors import UserError
from dnnlib.files import FolderLock, make_folder, read_lines
from dnnlib.logger import log_to
from metrics.identity import error_rates, mated_nonmated, mated_nonmated_across
from metrics.verification import draw_det, verify
from torch_utils import distributed
from torch_utils.backend import set_backend
from torch_utils.launch import find_world, launch, launchers_place
from torch_utils.memory import keep_freed_memory
from torch_utils.stop_signals import EXIT_REQUEUE, StopSignals

TEST_OPTIONS = {"rec_model", "rec_arch", "benchmarks", "outdir", "device", "seed", "overwrite", "dry_run"}
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
def main(
    gpus: int | None, device: str, dry_run: bool, rec_model: str | None, rec_arch: str | None, **options: Any
) -> None:
    """Train a recognition model on visible, near-infrared or both pictures of a dataset.

    Writes RUN/recognition.safetensors, config.json, stats.jsonl, TensorBoard events, curves.png, log.txt and, with
    --holdout or --benchmarks, metrics.jsonl with the results and det.png. SIGTERM and SIGUSR1 save the state and leave
    with status 75; the same command goes on from there, as after a crash. With --rec-model in place of --data a model
    that is there is tested.
    """
    if (options["data"] is None) == (rec_model is None):
        raise UserError("--data: one of --data, to train on, and --rec-model, to test with, is needed")
    if rec_model is not None:
        refuse_others(TEST_OPTIONS, "says how to train, and --rec-model is only tested; leave one of them out")
        model = load_recognition(rec_model, distributed.pick_device(device), rec_arch)
        names = ("benchmarks", "outdir", "seed", "overwrite")
        test_model(model, dry_run=dry_run, **{name: options[name] for name in names})
        return
    if rec_arch is not None:
        raise UserError("--rec-arch: says what --rec-model is, and there is none; --backbone chooses what is trained")
    if dry_run:
        rank, size = launchers_place()
        if rank == 0:
            plan = make_plan(options, size if gpus is None else gpus, device, dry_run)
            click.echo(json.dumps(describe(plan), indent=2))
        return
    world = find_world(gpus, device)
    launch(world, partial(make_plan, options, world.size, device), work)


def work(plan: Plan, stop: StopSignals) -> None:
    """Trains; called by every process. Rank 0 alone prints and makes files."""
    config, pictures, outdir = plan.config, plan.pictures, plan.outdir
    say = click.echo if distributed.rank() == 0 else _silent
    device = distributed.everywhere(partial(distributed.pick_device, plan.device))
    keep_freed_memory()
    set_backend(plan.allow_tf32)
    lock = FolderLock()
    distributed.from_rank_zero(partial(enter_run, outdir, lock, plan.overwrite))
    with contextlib.closing(lock):
        if distributed.from_rank_zero((outdir / MODEL_FILE).exists):
            say(f"{outdir / MODEL_FILE}: all is done; --overwrite starts again")
        else:
            logged = log_to(outdir / LOG_FILE) if distributed.rank() == 0 else contextlib.nullcontext()
            with logged:
                say(
                    f"{config.backbone} at {config.input_size}x{config.input_size} with {config.head} on "
                    f"{len(pictures)} {config.spectra} pictures of {pictures.classes} people: {config.steps} steps of "
                    f"{config.batch}, {device}, {config.precision}"
                )
                if pictures.alignment is None and any(part.alignment for part in pictures.sets):
                    say("One of --data and --real does not say how it is aligned, so the model will not say it")
                test = all_tests(plan.held_out, plan.benchmarks, outdir, config.seed, plan.workers)
                model = train_recognition(config, pictures, outdir, device, test, stop, plan.workers)
                if model is None:
                    say(f"Asked to stop: saved in {outdir}; the same command goes on from there")
            if model is None:
                sys.exit(EXIT_REQUEUE)
    if distributed.rank() == 0 and (outdir / METRICS_FILE).exists():
        lines = read_lines(outdir / METRICS_FILE)
        show([line for line in lines if line["step"] == config.steps])
    say(f"Model: {outdir / MODEL_FILE}")


def _silent(text: str) -> None:
    pass


# ----------------------------------------------------------------------------
# Tests.


def all_tests(
    held_out: PictureSet | None, benchmarks: Sequence[str], outdir: Path, seed: int, workers: int | None
) -> Evaluation | None:
    """The tests on people who were kept out and on benchmarks, as one that returns all lines."""
    if held_out is None and not benchmarks:
        return None
    found: list[Benchmark] = []  # read by the process that tests, when it does

    def evaluate(model: RecognitionModel) -> list[dict[str, Any]]:
        lines = people_lines(model, held_out, seed, workers) if held_out else []
        if not found:
            found.extend(benchmark for path in benchmarks for benchmark in find_benchmarks(path))
        return lines + (benchmark_lines(model, found, outdir, seed, workers) if found else [])

    return evaluate


def people_lines(model: RecognitionModel, people: PictureSet, seed: int, workers: int | None) -> list[dict[str, Any]]:
    """Error rates on people: within each spectrum, and across the two."""
    began, found = time.perf_counter(), embed_people(model, people, workers=workers)
    scores = {name: mated_nonmated(own.features, own.identities) for name, own in found.items()}
    if len(found) > 1:
        first, second = found.values()
        scores["-".join(found)] = mated_nonmated_across(first, second)
    constant = {
        "num_real": sum(len(own.names) for own in found.values()),
        "num_identities": len(people.identities),
        "seconds": round(time.perf_counter() - began, 2),
        **repeatable(model, seed, people.alignment),
    }
    return [
        {"metric": metric, "spectrum": spectrum, "value": value, **constant}
        for spectrum, (mated, nonmated) in scores.items()
        if len(mated) and len(nonmated)
        for metric, value in error_rates(mated, nonmated).items()
    ]


def benchmark_lines(
    model: RecognitionModel, benchmarks: list[Benchmark], outdir: Path, seed: int, workers: int | None
) -> list[dict[str, Any]]:
    """Figures of each benchmark; what its pairs are too few to tell is left out. Draws det.png of all."""
    lines = []
    scored = score_benchmarks(model, benchmarks, workers=workers)
    for one in scored:
        found = verify(one.scores, one.same, one.folds)
        seen = sight(one.alignment, model.alignment) if one.alignment else None
        for note in [*found.notes(), *([seen] if seen else [])]:
            click.echo(f"{one.name}: {note}", err=True)
        counts = {"num_real": one.pictures, "num_pairs": len(one.same), "num_folds": len(found.fold_accuracies)}
        constant = {**counts, "seconds": round(one.seconds, 2), **repeatable(model, seed, one.alignment)}
        for metric, value in found.figures().items():
            if value is not None:
                named = {"metric": metric, "benchmark": one.name, "spectrum": one.spectra, "value": value}
                lines.append({**named, **constant})
    draw_det(outdir / DET_FILE, [(one.name, one.scores, one.same) for one in scored])
    return lines


def test_model(
    model: RecognitionModel, benchmarks: Sequence[str], outdir: str, seed: int, overwrite: bool, dry_run: bool
) -> None:
    """The benchmarks alone, on a model that is there. dry_run: only checks, and prints what it would do as JSON."""
    folder = Path(outdir)
    if not benchmarks:
        raise UserError("--rec-model: is tested on --benchmarks; name some, or --data to train a model")
    found = [one for where in benchmarks for one in find_benchmarks(where)]
    check_pictures(found)
    check_test(folder, overwrite)
    if dry_run:
        counts = {one.name: {"spectra": one.spectra, "pairs": len(one.same)} for one in found}
        click.echo(json.dumps({"model": model.fingerprint, "backbone": model.arch, "benchmarks": counts}, indent=2))
        return
    make_folder(folder, "--outdir")
    lines = benchmark_lines(model, found, folder, seed, workers=None)
    write_metrics(folder, lines)
    show(lines)


def show(lines: list[dict[str, Any]]) -> None:
    """A line a result."""
    for line in lines:
        name = f"{line.get('benchmark', 'held out')} {line['spectrum']}"
        click.echo(f"{name:24} {line['metric']:24} {line['value']:.4f}")


if __name__ == "__main__":
    main()
