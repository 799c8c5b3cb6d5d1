"""What reproduce.py does. Wiring only; the work is in reproduction/, and in the scripts whose command lines are its
stages."""

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
from dnnlib import console
from dnnlib.cli import refuse_others
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

SCRIPTS = Path(__file__).resolve().parents[1]
OF_PAPER = {"data", "rec_model", "rec_arch", "heldout_data", "ids", "samples_per_id", "kimg", "gpus"}


def run(scale: str, outdir: str, dry_run: bool, cores: int | None, gpus: int, **options: Any) -> None:
    """Does what is left of the experiment, or with dry_run tells what would be."""
    folder = Path(outdir)
    check_folder(folder, "--outdir")
    facts = {"scale": scale}
    record = Record(folder, facts)
    experiment = build(scale, cores, gpus, options)
    slots = (cores or max(os.cpu_count() or 1, mini.CORES)) if scale == "mini" else gpus
    if dry_run:
        stages = experiment.stages()
        done = [stage.name for stage in stages if record.finished(stage)]
        plan = [{"stage": one.name, "command": one.line(), "slots": one.slots} for one in stages]
        console.result({"scale": scale, "stages": plan, "done": done}, plan_text(experiment, stages, done, slots))
        return
    if scale == "paper" and torch.cuda.device_count() < gpus:
        raise UserError(f"--gpus: {gpus}, but this machine has {torch.cuda.device_count()} usable GPUs")
    make_folder(folder, "--outdir")
    with contextlib.closing(FolderLock()) as lock, StopSignals().caught() as stop:
        lock.take(folder, "--outdir")
        record = Record(folder, facts)  # as it is now that nobody else is at work
        record.save()
        try:
            run_stages(folder, experiment, record, slots, lambda: stop.received is not None)
        except StageFailed as failed:
            console.fail(str(failed))
            sys.exit(failed.status)
        except Asked:
            console.tell("Asked to stop: what is finished is stored; the same command goes on from there")
            sys.exit(EXIT_REQUEUE)


def run_stages(outdir: Path, experiment: Experiment, record: Record, slots: int, stopped: Callable[[], bool]) -> None:
    """All stages that are not finished, and then what they say."""
    environment = threads_of if experiment.scale == "mini" else gpus_of
    Runner(outdir, record, experiment.stages(), slots, environment, SCRIPTS, stopped=stopped, say=console.tell).run()
    results = gather(outdir, experiment, record)
    claims = judge(results)
    write(outdir, experiment, results, claims)
    for claim in claims:
        console.result(claim._asdict(), f"{claim.verdict:16} {claim.claim}")
    console.result({"report": str(outdir / REPORT)}, f"Report: {outdir / REPORT}")


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
