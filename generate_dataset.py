"""Command line: a trained generator -> a filtered dataset of VIS/NIR pairs of people who do not exist, and its report.

Only wiring is here: inputs are checked in generation.inputs, the work is generation.selection's, and what is written
is described in generation.writers.
"""

import sys
from pathlib import Path
from typing import Any

import click
import numpy as np

from arcface.alignment import sight
from dnnlib.cli import Command, option
from dnnlib.files import read_json
from generation import inputs, pipeline, writers
from generation.candidates import CandidateMaker
from generation.identity_sampling import KINDS, build_sampler
from generation.networks import detector_of, embedder_of, renderer_of
from generation.privacy_diversity import MIN_FACE_PROBABILITY, Rules, unit_rows
from generation.records import Plan
from generation.selection import Selection
from generation.summary import table
from torch_utils.distributed import pick_device
from torch_utils.memory import keep_freed_memory

SLOTS_PER_IDENTITY, FEWEST_SLOTS = 50, 1000


@click.command(cls=Command)
@option(
    "--gen-model",
    required=True,
    metavar="FILE",
    help="Trained generator: a network-snapshot-*.safetensors of train.py, or a released .pkl of ArcBiFaceGAN.",
)
@option(
    "--rec-model",
    required=True,
    metavar="FILE",
    help="Recognition model that the filter sees with (.safetensors or .pth).",
)
@option("--rec-arch", metavar="NAME", help="Its architecture, where the weights' shapes leave it open.")
@option(
    "--real-features",
    "--training-ids",
    metavar="FILE",
    help="Features of the real people whom nobody may resemble: identity_features.safetensors of the training "
    "data, or ArcBiFaceGAN's .json. Every feature in it is compared with every sample.",
)
@option(
    "--thresholds",
    metavar="FILE",
    help="Thresholds from filter.py calibrate. Without it they are calibrated on --real-features.",
)
@option(
    "--outdir",
    required=True,
    metavar="DIR",
    help="Folder of the dataset: new, empty, or of the same run, which then goes on.",
)
@option("--ids", type=click.IntRange(min=1), default=100, help="Identities in the dataset.")
@option("--samples-per-id", type=click.IntRange(min=1), default=32, help="Pairs of each identity.")
@option(
    "--truncation",
    type=click.FloatRange(0, 2),
    default=0.7,
    help="Truncation psi: less gives more typical and more alike faces.",
)
@option(
    "--noise-mode",
    type=click.Choice(["const", "none"]),
    default="const",
    help="Noise in the synthesis layers: the same for every picture, or none, which suits a generator trained briefly.",
)
@option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    help="Seed of the whole dataset: the same seed and settings give the same bytes.",
)
@option(
    "--identities",
    type=click.Choice(KINDS),
    default="random",
    help="Where identity features come from: random directions (the paper's way), or a Gaussian like the real "
    "features.",
)
@option(
    "--detector",
    metavar="none|DIR",
    default=inputs.DEFAULT_DETECTOR,
    help="Face detector for each identity's first sample: the installed facenet-pytorch package's weights, a "
    "folder or wheel with them, or none.",
)
@option(
    "--min-face-prob",
    type=click.FloatRange(0, 1),
    default=MIN_FACE_PROBABILITY,
    help="Lowest detection probability of the first sample's face.",
)
@option(
    "--tries",
    type=click.IntRange(min=1),
    default=2500,
    help="Candidates of an identity before it is dropped and another takes its place.",
)
@option(
    "--max-slots",
    type=click.IntRange(min=1),
    help=f"People that are tried at most.  [default: {SLOTS_PER_IDENTITY} for each identity, at least {FEWEST_SLOTS}]",
)
@option(
    "--round",
    "round_size",
    type=click.IntRange(min=1),
    default=16,
    help="Candidates that go through the networks together. Part of the dataset's settings.",
)
@option(
    "--batch",
    type=click.IntRange(min=1),
    default=64,
    help="Candidates in memory at a time, in whole rounds. Changes nothing in the dataset.",
)
@option(
    "--absolute",
    is_flag=True,
    help="Take the absolute value of the cosine in the private and unique rules, as the original did.",
)
@option("--no-privacy-check", is_flag=True, help="Do not compare with real people.")
@option("--device", "--gpu-device-number", default="auto", help="cpu, cuda, the number of a GPU, or auto.")
@option("--overwrite", is_flag=True, help="Delete the run that is in --outdir first.")
def main(**options: Any) -> None:
    """Generate a recognition dataset of paired visible-light and near-infrared faces of people who do not exist.

    Identity features are drawn, a trained generator renders pairs, and the privacy-and-diversity filter lets in those
    that show one person each, nobody real, nobody twice and no copies. A run that was stopped goes on with the same
    command. The folder then holds VIS/, NIR/, manifest.jsonl, summary.json, settings.json and report.html.
    """
    run(options)


def run(options: dict[str, Any]) -> None:
    """Check everything, generate, tell the result."""
    keep_freed_memory()
    device = pick_device(options["device"])
    privacy_check = not options["no_privacy_check"]
    names = ("gen_model", "rec_model", "rec_arch", "real_features", "thresholds", "detector", "identities")
    loaded = inputs.load_inputs(**{name: options[name] for name in names}, privacy_check=privacy_check, device=device)
    plan = build_plan(options)
    chosen = {name: options[name] for name in ("seed", "truncation", "noise_mode", "identities")}
    settings = pipeline.settings_of(
        plan,
        loaded.thresholds,
        loaded.sources,
        **chosen,
        feature_norm=loaded.feature_norm,
        privacy_check=privacy_check,
    )
    outdir = Path(options["outdir"])
    state = writers.inspect(outdir, settings, options["overwrite"])
    report = outdir / writers.REPORT
    if state is writers.State.FINISHED:
        print(f"All is done already:\n{table(read_json(outdir / writers.SUMMARY))}\nReport: {report}")
        return
    for warning in loaded.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    if line := sight(loaded.alignment, loaded.model.alignment):
        print(line)
    writers.begin(outdir, settings, state)
    selection = build_selection(options, plan, loaded, writers.FolderStore(outdir), device)
    summary, notices = pipeline.generate(selection, outdir, settings, loaded.warnings)
    for notice in notices[len(loaded.warnings) :]:
        print(f"Warning: {notice}", file=sys.stderr)
    print(f"{table(summary)}\nReport: {report}")


def build_plan(options: dict[str, Any]) -> Plan:
    """The options that say what is wanted."""
    names = ("ids", "samples_per_id", "tries", "round_size", "batch")
    slots = options["max_slots"] or max(FEWEST_SLOTS, SLOTS_PER_IDENTITY * options["ids"])
    rules = Rules(min_face_prob=options["min_face_prob"], absolute=options["absolute"])
    return Plan(**{name: options[name] for name in names}, rules=rules, max_slots=slots)


def build_selection(
    options: dict[str, Any], plan: Plan, loaded: inputs.Inputs, store: writers.FolderStore, device: Any
) -> Selection:
    """Networks, sampler and filter put together."""
    generator, real = loaded.generator, loaded.real
    maker = CandidateMaker(
        renderer_of(generator, options["truncation"], device, options["noise_mode"]),
        embedder_of(loaded.model, plan.round_size, loaded.alignment),
        detector_of(loaded.detector) if loaded.detector is not None else None,
        seed=options["seed"],
        chunk=plan.round_size,
        latent_size=generator.z_dim,
    )
    features = None if real is None else real.features
    sampler = build_sampler(options["identities"], options["seed"], loaded.feature_norm, features, generator.c_dim)
    nobody = np.empty((0, generator.c_dim), dtype=np.float32)
    compared = unit_rows(nobody if features is None or options["no_privacy_check"] else features)
    return Selection(plan, loaded.thresholds, compared, sampler, maker, store)


if __name__ == "__main__":
    main()
