"""Command line: the paper's experiment end to end, and what it says of the paper's claims. Wiring only; the work is in
reproduction/, and in the scripts whose command lines are its stages."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import torch

from arcface.benchmarks import check_pictures, find_benchmarks
from dnnlib.cli import Command, option, refuse_others
from dnnlib.errors import UserError
from dnnlib.files import FolderLock, check_folder, make_folder
from reproduction import mini, paper
from reproduction.claims import judge
from reproduction.costs import plan_text
from reproduction.experiment import Experiment, inception_of
from reproduction.outcome import REPORT, write
from reproduction.results import gather
from reproduction.runner import Asked, Runner, StageFailed
from reproduction.stages import Record, Stage
from torch_utils.stop_signals import EXIT_REQUEUE, StopSignals

SCALES = ("mini", "paper")
SCRIPTS = Path(__file__).resolve().parent
OF_PAPER = {"data", "rec_model", "rec_arch", "heldout_data", "ids", "samples_per_id", "kimg", "gpus"}


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
def main(scale: str, outdir: str, dry_run: bool, cores: int | None, gpus: int, **options: Any) -> None:
    """Run the paper's experiment: a generator learns from real people, a dataset is generated and filtered, recognition
    models learn from real, unfiltered and filtered people, and the paper's claims are held against what came out.

    Stages are the other scripts' command lines, in stages.json with inputs and seconds, their output in logs/. A second
    run goes on where the first stopped. Writes results.json, results.md, claims.json and report.html.
    """
    folder = Path(outdir)
    check_folder(folder, "--outdir")
    facts = {"scale": scale}
    record = Record(folder, facts)
    experiment = build(scale, cores, gpus, options)
    slots = (cores or max(os.cpu_count() or 1, mini.CORES)) if scale == "mini" else gpus
    if dry_run:
        stages = experiment.stages()
        done = [stage.name for stage in stages if record.finished(stage)]
        click.echo(plan_text(experiment, stages, done, slots))
        return
    if scale == "paper" and torch.cuda.device_count() < gpus:
        raise UserError(f"--gpus: {gpus}, but this machine has {torch.cuda.device_count()} usable GPUs")
    make_folder(folder, "--outdir")
    with contextlib.closing(FolderLock()) as lock, StopSignals().caught() as stop:
        lock.take(folder, "--outdir")
        record = Record(folder, facts)  # as it is now that nobody else is at work
        record.save()
        try:
            run(folder, experiment, record, slots, lambda: stop.received is not None)
        except StageFailed as failed:
            click.echo(f"Error: {failed}", err=True)
            sys.exit(failed.status)
        except Asked:
            click.echo("Asked to stop: what is finished is stored; the same command goes on from there", err=True)
            sys.exit(EXIT_REQUEUE)


def run(outdir: Path, experiment: Experiment, record: Record, slots: int, stopped: Callable[[], bool]) -> None:
    """All stages that are not finished, and then what they say."""
    environment = threads_of if experiment.scale == "mini" else gpus_of
    Runner(outdir, record, experiment.stages(), slots, environment, SCRIPTS, stopped=stopped, say=tell).run()
    results = gather(outdir, experiment, record)
    claims = judge(results)
    write(outdir, experiment, results, claims)
    for claim in claims:
        click.echo(f"{claim.verdict:16} {claim.claim}")
    click.echo(f"Report: {outdir / REPORT}")


def tell(line: str) -> None:
    click.echo(line, err=True)


def build(scale: str, cores: int | None, gpus: int, options: dict[str, Any]) -> Experiment:
    """The experiment that was asked for, its inputs checked."""
    benchmarks = options["benchmarks"]
    for place in benchmarks:
        check_pictures(find_benchmarks(place))
    if scale == "mini":
        refuse_others({*click.get_current_context().params} - OF_PAPER, "is for --scale paper; leave it out")
        places = tuple(str(Path(place).resolve()) for place in benchmarks)
        return mini.build(benchmarks=places, inception=inception_of(options["inception"]))
    if cores is not None:
        raise UserError("--cores: is for --scale mini; --gpus says what the paper's scale works on")
    for name, what in (("data", "a real paired set"), ("rec_model", "a recognition model")):
        if options[name] is None:
            raise UserError(f"--{name.replace('_', '-')}: {what} is needed with --scale paper")
    if not benchmarks:
        raise UserError("--benchmarks: verification benchmarks are needed with --scale paper, such as a folder of .bin")
    names = ("data", "rec_model", "rec_arch", "benchmarks", "inception", "ids", "kimg")
    same = {name: options[name] for name in names}
    given = paper.Given(heldout=options["heldout_data"], samples=options["samples_per_id"], gpus=gpus, **same)
    return paper.build(given)


def threads_of(stage: Stage, slots: Sequence[int]) -> Mapping[str, str]:
    """A stage has as many threads as it is planned for, on any machine: sums depend on it in their last bits."""
    return {"OMP_NUM_THREADS": str(stage.slots), "MKL_NUM_THREADS": str(stage.slots), "OMP_WAIT_POLICY": "PASSIVE"}


def gpus_of(stage: Stage, slots: Sequence[int]) -> Mapping[str, str]:
    """The GPUs with these numbers, of those that this process may use."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = allowed.split(",") if allowed else [str(number) for number in range(max(slots) + 1)]
    return {"CUDA_VISIBLE_DEVICES": ",".join(names[number] for number in slots)}


if __name__ == "__main__":
    main()
