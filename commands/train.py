"""What train.py does: checks -> Plan -> training loop, in every process."""

import contextlib
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from arcface.alignment import sight, template_of
from arcface.weights import load_recognition
from dnnlib import console
from dnnlib.errors import UserError
from dnnlib.files import FolderLock, check_folder
from dnnlib.logger import log_to
from dnnlib.progress import progress
from generation.measuring import Instruments, network_side
from metrics.choices import DEFAULT_METRICS, WITH_INCEPTION
from metrics.folder_side import folder_side, tree_sources
from metrics.measure import SnapshotMetrics, check_metrics, refuse_conditions
from metrics.observers import Observer
from metrics.pictures import Side
from metrics.real import RealPictures
from metrics.registry import NONE, parse_metrics
from torch_utils import distributed
from torch_utils.backend import set_backend
from torch_utils.feature_file import FILE_NAME, FeatureSet, load_features, refuse_other_model
from torch_utils.image_tree import PairedTree, refuse_among_pictures
from torch_utils.launch import find_world, launch, launchers_place
from torch_utils.memory import keep_freed_memory
from torch_utils.ops import kernels
from torch_utils.pair_check import check_features, check_pairs
from torch_utils.readers import lost_reader_named
from torch_utils.stop_signals import EXIT_REQUEUE, StopSignals
from training.config import DatasetFacts, TrainingConfig, TrainingOptions, build_training_config, notices
from training.dataset import PairedFaces
from training.draw import Drawings
from training.estimate import estimate
from training.run_folder import latest_state, open_run_folder, refuse_other_features
from training.snapshots import check_state, load_generator, load_state
from training.trainer import Trainer
from training.training_loop import train
from training.transfer import check_weights, read_weights, transfer


def run(gpus: int | None, device: str, dry_run: bool, **options: Any) -> None:
    """Trains, or with dry_run tells what would be."""
    if dry_run:
        rank, size = launchers_place()
        if rank == 0:
            prepare(size if gpus is None else gpus, device, dry_run, **options)
        return
    world = find_world(gpus, device)
    launch(world, partial(prepare, world.size, device, dry_run, **options), work)


class Plan(NamedTuple):
    """What all processes must know to do the same work: settings and paths, checked."""

    config: TrainingConfig
    data: str
    features: Path
    device: str
    outdir: Path
    name: str  # of a new run, behind its number
    state: Path | None
    metrics: str  # names, or none
    instruments: Instruments  # that metrics look with
    digest: str  # of the pictures' content, where metrics need it
    notes: list[str]  # for the log
    warnings: list[str]  # likewise


def prepare(
    gpus: int,
    device: str,
    dry_run: bool,
    *,
    data: str,
    outdir: str,
    features: str | None,
    resume: str | None,
    metrics: str | None,
    rec_model: str | None,
    rec_arch: str | None,
    detector: tuple[str, ...],
    resize: str,
    **rest: Any,
) -> Plan | None:
    """Checks the inputs, in one process, before anything is made. None: there is nothing to train."""
    inception = Instruments(rec_model, rec_arch, None, 1, detector).has_inception(cached=False)
    wanted = metrics or (WITH_INCEPTION if inception else DEFAULT_METRICS if rec_model else NONE)
    chosen = parse_metrics(wanted)
    if not rest["cond"]:
        refuse_conditions(chosen)
    if rec_model is None and rec_arch is not None:
        raise UserError("--rec-arch: says what --rec-model is, and there is none")
    check_folder(outdir, "--outdir")
    refuse_among_pictures(outdir, "--outdir")
    tree = PairedTree(data)
    first = check_pairs(tree, tree.names[:1])  # what it tells of all; they are read when everything else is right
    path = Path(features) if features else Path(data) / FILE_NAME
    feature_set = load_features(path)
    check_features(feature_set, tree)
    alignment, seen = template_of(tree.description()), None
    if rec_model is not None:
        model = load_recognition(rec_model, arch=rec_arch)
        refuse_other_model(feature_set, f"--features: {path}", model.fingerprint, rec_model)
        seen = sight(alignment, model.alignment)
    facts = DatasetFacts(first.resolution, first.pairs, feature_set.features.shape[1])
    options = TrainingOptions(gpus=gpus, resume=resume, cuda=_on_gpu(device, dry_run), **rest)
    config = build_training_config(options, facts)
    instruments = Instruments(rec_model, rec_arch, alignment, config.batch_gpu, detector, resize)
    real = folder_side(tree_sources(tree), config.batch_gpu)
    few = check_metrics(chosen, real, None, instruments.open(chosen))
    notes = [*notices(options), *([seen] if seen else [])]
    if metrics is None and not chosen:
        notes.append("No metrics and no best network: --rec-model or --detector would bring what measures")
    state = latest_state(outdir) if resume == "latest" else Path(resume) if resume else None
    if state is not None:
        check_state(state)
    if state is not None and options.cond:
        refuse_other_features(state, feature_set.model, f"--features: {path}")
    if state is not None and config.init_from is not None:
        notes.append(f"--init-from: {config.init_from} is not read, for {state} holds the weights to go on from")
    elif config.init_from is not None:
        check_weights(read_weights(config.init_from), config)
    elif state is None and config.freeze_layers:
        raise UserError(f"--freezed: {outdir} holds no training state to go on from; --init-from would bring weights")
    with progress(tree.names, desc="check", unit="pair") as names:
        check_pairs(tree, names)
    if dry_run:
        if state is not None:
            load_state(state)
        found = estimate(config)
        console.result(config.to_json() | found, config.to_text(**found))
        for note in notes:
            console.tell(note)
        for warning in few:
            console.warn(warning)
        return None
    name, digest = f"{Path(data).resolve().stem}-{options.cfg}", tree.content_digest() if chosen else ""
    return Plan(config, data, path, device, Path(outdir), name, state, wanted, instruments, digest, notes, few)


def _on_gpu(device: str, dry_run: bool) -> bool:
    """A dry run believes what --device says: it may be for another machine."""
    pick = distributed.named_device if dry_run and device != "auto" else distributed.pick_device
    return pick(device).type == "cuda"


def work(plan: Plan, stop: StopSignals) -> None:
    """Trains; called by every process. Rank 0 alone prints and makes files."""
    config, say = plan.config, console.tell if distributed.rank() == 0 else _silent
    device, dataset, features, observers = distributed.everywhere(partial(_open, plan))
    keep_freed_memory()
    kernels.prepare(device)
    set_backend(config.allow_tf32, config.cudnn_benchmark)
    trainer = Trainer(config, device)
    lines = distributed.everywhere(partial(_load_weights, trainer, plan))
    if trainer.images_seen >= config.total_kimg * 1000:
        say(f"Nothing to do: {plan.state} has seen {config.total_kimg:g} kimg already.")
        if plan.state is not None:
            show(plan.state.parent, trainer)
        return
    sources = {"data": str(Path(plan.data).resolve()), "recognition_model": features.model, "metrics": plan.metrics}
    described = {**sources, **config.to_json()}
    lock = FolderLock()
    run_dir, changed = distributed.from_rank_zero(
        partial(open_run_folder, plan.outdir, plan.state, described, plan.name, lock)
    )
    logged = log_to(run_dir / "log.txt") if distributed.rank() == 0 else contextlib.nullcontext()
    with contextlib.closing(lock), logged:
        people = len(set(dataset.tree.identities))
        say(f"{len(dataset)} pairs of {people} people at {config.resolution}x{config.resolution}")
        say(f"Writing to {run_dir}" + (f", going on from {plan.state}" if plan.state else ""))
        for line in lines:
            say(line)
        if changed:
            say(f"Settings that differ from those of the state's run: {', '.join(changed)}")
        for note in filter(None, (*plan.notes, trainer.change_of_processes())):
            say(note)
        if distributed.rank() == 0:
            for warning in plan.warnings:
                console.warn(warning)
        alignment = plan.instruments.alignment
        aligned = alignment.record() if alignment is not None else {}
        metadata = {"recognition_model": features.model, "feature_norm": features.norm, **aligned}
        pairs = PairedFaces(dataset.tree, features)
        measured = _metrics(plan, pairs, observers, run_dir) if plan.metrics != NONE else None
        if measured:
            measured.forget_later(trainer.images_seen)
            lost_reader_named(measured.prepare)
        best_by = measured.best_by if measured else None
        finished = lost_reader_named(partial(train, trainer, dataset, run_dir, metadata, measured, best_by, stop))
        if not finished:
            say(f"Asked to stop: saved in {run_dir}; --resume latest goes on from there")
        else:
            show(run_dir, trainer)
    if not finished:
        sys.exit(EXIT_REQUEUE)


def show(run_dir: Path, trainer: Trainer) -> None:
    """The last words of a run that is finished."""
    if distributed.rank() == 0:
        console.result({"run": str(run_dir), "kimg": trainer.images_seen / 1000}, f"Done: {run_dir}")


def _silent(text: str) -> None:
    pass


def _open(plan: Plan) -> tuple[torch.device, PairedFaces, FeatureSet, dict[str, Observer]]:
    """This process's device and its view of the inputs, which `prepare` has checked."""
    features = load_features(plan.features)
    config = plan.config
    dataset = PairedFaces(PairedTree(plan.data), features, config.mirror, config.subset, config.seed)
    device = distributed.pick_device(plan.device)
    return device, dataset, features, plan.instruments.open(parse_metrics(plan.metrics), device)


def _metrics(plan: Plan, pairs: PairedFaces, observers: dict[str, Observer], run_dir: Path) -> SnapshotMetrics:
    """--metrics of each snapshot: each process draws and looks at its share; all real pairs count, none mirrored."""
    config, device = plan.config, distributed.pick_device(plan.device)

    def fake_of(snapshot: Path) -> Side:
        generator = load_generator(snapshot, device)
        return network_side(Drawings(generator, pairs.features, config.seed, config.batch_gpu))

    real = folder_side(tree_sources(pairs.tree), config.batch_gpu, config.workers, digest=plan.digest)
    metrics = parse_metrics(plan.metrics)
    return SnapshotMetrics(metrics, RealPictures(real, observers), fake_of, run_dir, config.seed, device)


def _load_weights(trainer: Trainer, plan: Plan) -> list[str]:
    """The state to go on from, or else the weights to begin with; returns lines for the log."""
    if plan.state is not None:
        trainer.load(load_state(plan.state), f"--resume: {plan.state}")
    elif plan.config.init_from is not None:
        return transfer(read_weights(plan.config.init_from), trainer)
    return []
