"""What train_recognition.py does. Wiring only; the work is in arcface/ (training, embedding) and metrics/ (error
rates)."""

import contextlib
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from arcface.alignment import sight
from arcface.benchmarks import Benchmark, check_pictures, find_benchmarks
from arcface.recognition_data import PictureSet
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
from dnnlib import console
from dnnlib.cli import refuse_others
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


def run(
    gpus: int | None, device: str, dry_run: bool, rec_model: str | None, rec_arch: str | None, **options: Any
) -> None:
    """Trains and tests a model, or tests one that is there; with dry_run only checks, and tells what would be."""
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
            found = describe(plan)
            console.result(found, json.dumps(found, indent=2))
        return
    world = find_world(gpus, device)
    launch(world, partial(make_plan, options, world.size, device), work)


def work(plan: Plan, stop: StopSignals) -> None:
    """Trains; called by every process. Rank 0 alone prints and makes files."""
    config, pictures, outdir = plan.config, plan.pictures, plan.outdir
    say = console.tell if distributed.rank() == 0 else _silent
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
    if distributed.rank() == 0:
        lines = read_lines(outdir / METRICS_FILE) if (outdir / METRICS_FILE).exists() else []
        show([line for line in lines if line["step"] == config.steps])
        console.result({"model": str(outdir / MODEL_FILE)}, f"Model: {outdir / MODEL_FILE}")


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
            console.tell(f"{one.name}: {note}")
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
        planned = {"model": model.fingerprint, "backbone": model.arch, "benchmarks": counts}
        console.result(planned, json.dumps(planned, indent=2))
        return
    make_folder(folder, "--outdir")
    lines = benchmark_lines(model, found, folder, seed, workers=None)
    write_metrics(folder, lines)
    show(lines)


def show(lines: list[dict[str, Any]]) -> None:
    """A line a result."""
    for line in lines:
        name = f"{line.get('benchmark', 'held out')} {line['spectrum']}"
        console.result(line, f"{name:24} {line['metric']:24} {line['value']:.4f}")
