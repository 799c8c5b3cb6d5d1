"""What generate_dataset.py does. Only wiring is here: inputs are checked in generation.inputs, the work is
generation.selection's, and what is written is described in generation.writers."""

import contextlib
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dnnlib import console
from dnnlib.errors import UserError
from dnnlib.files import FolderLock, read_json
from generation import inputs, networks, pipeline, storage, writers
from generation.candidates import CandidateMaker
from generation.choices import FEWEST_SLOTS, NO_DETECTOR, SLOTS_PER_IDENTITY
from generation.encoding import Encoder, default_workers
from generation.identity_sampling import build_sampler
from generation.networks import detector_of, embedder_of, renderer_of
from generation.parts import Parts
from generation.pilot import Pilot, in_words
from generation.presets import RuleOptions, build_rules, tries
from generation.pretrained import settled
from generation.real_people import RealPeople
from generation.records import Plan
from generation.references import Stopped
from generation.rules import Rule, Rules
from generation.selection import Selection
from generation.summary import table
from torch_utils.distributed import everywhere, from_rank_zero, local_size, pick_device, rank
from torch_utils.launch import find_world, launch, launchers_place
from torch_utils.memory import keep_freed_memory
from torch_utils.search import Gallery
from torch_utils.stop_signals import EXIT_REQUEUE, StopSignals


def run(gpus: int | None, **options: Any) -> None:
    """Generates a dataset, or with dry_run tells what would be."""
    options = settled(options)
    if options["dry_run"]:
        place, size = launchers_place()
        if place == 0:
            forecast(options, size if gpus is None else gpus)
        return
    world = find_world(gpus, options["device"])
    launch(world, partial(prepare, options), work)


class Job(NamedTuple):
    """What all processes must know to do the same work: checked, and small."""

    options: dict[str, Any]
    plan: Plan
    files: inputs.Files
    checked: inputs.Inputs
    stored: storage.Storage
    settings: dict[str, Any]


def prepare(options: dict[str, Any]) -> Job | None:
    """Checks the inputs and the folder, in one process, before anything is made. None: there is nothing to do."""
    keep_freed_memory()
    rules = build_rules(RuleOptions.of(options))
    files = inputs.Files(**{name: options[name] for name in inputs.Files._fields})
    if not {Rule.FACE, Rule.FRONTAL} & set(rules.active):
        files = files._replace(detector=NO_DETECTOR)
    checked = inputs.check_inputs(files, options["ids"], rules)
    plan = build_plan(options, rules, checked.given)
    stored = storage.choose(options["format"], options["image_format"], options["quality"], options["previews"], plan)
    chosen = {name: options[name] for name in ("seed", "truncation", "noise_mode")}
    settings = pipeline.settings_of(
        plan,
        checked.thresholds,
        checked.sources,
        **chosen,
        identities=options["identities"] if checked.given is None else "file",
        feature_norm=checked.feature_norm,
        privacy_check=Rule.PRIVATE in rules.active,
        storage=stored,
    )
    outdir = Path(options["outdir"])
    if writers.inspect(outdir, settings, options["overwrite"]) is writers.State.FINISHED:
        console.tell("All is done already")
        if not options["dry_run"]:
            Parts(outdir).discard()  # a kill after the summary may have left them
            show(read_json(outdir / writers.SUMMARY), outdir)
        return None
    for warning in checked.warnings:
        console.warn(warning)
    for line in checked.lines:
        console.tell(line)
    return Job(options, plan, files, checked, stored, settings)


def work(job: Job, stop: StopSignals) -> None:
    """Generates; called by every process. Rank 0 alone prints."""
    keep_freed_memory()
    options, outdir = job.options, Path(job.options["outdir"])
    device = everywhere(partial(pick_device, options["device"]))
    workers = default_workers(device.type, local_size()) if options["workers"] is None else options["workers"]
    with contextlib.closing(FolderLock()) as lock, Encoder(job.stored.encoding, workers) as encoder:
        networks.prepare(device)
        opened, real = everywhere(partial(_open, job, device))
        state = from_rank_zero(partial(writers.claim, outdir, job.settings, options["overwrite"], lock))
        if state is writers.State.FINISHED:
            return  # another run has done it in the meantime
        everywhere(partial(writers.check_shared, outdir, from_rank_zero(partial(writers.leave_token, outdir))))
        selection = build_selection(job, opened, real, device, encoder, stop)
        try:
            made = pipeline.generate(selection, outdir, job.settings, job.checked.warnings, strict=options["strict"])
        except Stopped:
            if rank() == 0:
                console.tell("Asked to stop: what is finished is stored; the same command goes on from there")
            sys.exit(EXIT_REQUEUE)
        if made is not None:
            writers.release(outdir)
    if made is not None:
        summary, notices = made
        for notice in notices[len(job.checked.warnings) :]:
            console.warn(notice)
        show(summary, outdir)


def forecast(options: dict[str, Any], processes: int) -> None:
    """What --dry-run tells: JSON for programs, lines for people; nothing is made."""
    job = prepare(options)
    if job is None:
        return
    device = pick_device(options["device"])
    networks.prepare(device)
    opened, real = _open(job, device)
    with Encoder(job.stored.encoding) as encoder:
        run = build_selection(job, opened, real, device, encoder, StopSignals())
        pilot = Pilot(*run.inputs).run()
    found = pilot.forecast(run.layout.spare, processes)
    value = {**job.settings, "forecast": found}
    console.result(value, json.dumps(value, indent=2))
    for line in in_words(found, run.plan):
        console.tell(line)
    if found["infeasible"]:
        console.warn(found["infeasible"])


def show(summary: dict[str, Any], outdir: Path) -> None:
    """The last words."""
    report = outdir / writers.REPORT
    console.result({**summary, "report": str(report)}, f"{table(summary)}\nReport: {report}")


def _open(job: Job, device: torch.device) -> tuple[inputs.Networks, RealPeople]:
    """This process's view of the inputs, which `prepare` has checked."""
    return inputs.load_networks(job.files, device), RealPeople.load(job.files.real_features)


def build_plan(options: dict[str, Any], rules: Rules, given: int | None) -> Plan:
    """The options that say what is wanted. given: features in the file of --identities."""
    names = ("ids", "samples_per_id", "round_size", "batch")
    slots = options["max_slots"] or max(FEWEST_SLOTS, SLOTS_PER_IDENTITY * options["ids"])
    most = tries(RuleOptions.of(options))
    for name, allowed, wanted in (("max_slots", slots, "ids"), ("tries", most, "samples_per_id")):
        if allowed < options[wanted]:
            first, second = (f"--{word.replace('_', '-')}" for word in (name, wanted))
            raise UserError(
                f"{first}: {allowed} is less than {second} {options[wanted]}; that many are needed at least"
            )
    return Plan(
        **{name: options[name] for name in names},
        tries=most,
        rules=rules,
        max_slots=min(slots, given or slots),
        given=given,
    )


def build_selection(
    job: Job,
    opened: inputs.Networks,
    real: RealPeople,
    device: torch.device,
    encoder: Encoder,
    stop: StopSignals,
) -> Selection:
    """Networks, sampler and filter put together."""
    options, plan, generator = job.options, job.plan, opened.generator
    maker = CandidateMaker(
        renderer_of(generator, options["truncation"], device, options["noise_mode"]),
        embedder_of(opened.model, plan.round_size, job.checked.alignment),
        detector_of(opened.detector) if opened.detector is not None else None,
        seed=options["seed"],
        chunk=plan.round_size,
        latent_size=generator.z_dim,
        embedded=("vis", *plan.rules.checked),
        stored=encoder.stored,
    )
    parts, layout = Parts(options["outdir"]), job.stored.build(options["outdir"], plan)
    given = inputs.load_identities(job.files, generator)
    sampler = build_sampler(
        options["identities"],
        options["seed"],
        job.checked.feature_norm,
        real.sets[0].features if real else None,
        generator.c_dim,
        given=None if given is None else given.features,
        cache=None if options["dry_run"] else parts,
    )
    rows = Gallery.of(real.compared(plan.rules, opened.model.num_features), device)
    return Selection(plan, job.checked.thresholds, rows, sampler, maker, encoder, parts, layout, stop=stop)
