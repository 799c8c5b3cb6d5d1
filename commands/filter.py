"""What filter.py does. Wiring only; the work is in generation/."""

import contextlib
from pathlib import Path
from typing import Any

from arcface.alignment import sight, template_of
from arcface.embed import embed_dataset
from arcface.weights import load_recognition
from dnnlib import console
from dnnlib.errors import UserError, option_named
from dnnlib.files import FolderLock, check_place, read_json
from generation import inputs, writers
from generation.apply_files import Run, Source, settings_of
from generation.apply_inputs import check_apply_inputs
from generation.audit_files import Dataset, check_places
from generation.audit_run import run_audit
from generation.calibration_plot import draw_calibration
from generation.choices import NO_DETECTOR
from generation.presets import RuleOptions, build_rules
from generation.real_people import thresholds_of
from generation.rules import Rule
from generation.summary import table
from generation.thresholds import Thresholds, from_scores, save_thresholds
from metrics.score_counts import count_scores
from torch_utils.backend import set_backend
from torch_utils.distributed import pick_device
from torch_utils.feature_file import FeatureSet, load_features, refuse_other_model
from torch_utils.image_tree import PairedTree
from torch_utils.memory import keep_freed_memory
from torch_utils.original_tree import open_pairs


def prepare() -> None:
    """Features are float32 ones, as those that generate_dataset.py compares."""
    keep_freed_memory()
    set_backend(cudnn_benchmark=False)


def calibrate(**options: Any) -> None:
    """Thresholds from a real set."""
    prepare()
    out = Path(options["out"])
    plot = out.with_suffix(".png")
    if plot == out:
        raise UserError(f"--out: {out}: is where the plot goes; name a .json")
    for path in (out, plot):
        check_place(path, "--out")
        if path.exists() and not options["overwrite"]:
            raise UserError(f"--out: {path}: exists; name another file or give --overwrite")
    features = real_features(options)
    scores = count_scores(features.features, features.identities)
    try:
        thresholds = from_scores(*scores, features.model, options["unique_fmr"])
    except ValueError as error:
        raise UserError(f"--data: {options['data']}: {error}") from error
    with option_named("--out", out):
        draw_calibration(plot, *scores, thresholds)
        save_thresholds(out, thresholds)
    for warning in thresholds.warnings:
        console.warn(warning)
    value = {**thresholds.as_dict(), "out": str(out), "plot": str(plot)}
    console.result(value, f"{describe(thresholds)}\nThresholds: {out}\nPlot: {plot}")


def apply(**options: Any) -> None:
    """A new dataset from one that exists."""
    prepare()
    outdir = Path(options["outdir"])
    apart(options["data"], outdir)
    rules = build_rules(RuleOptions.of(options))
    source = Source.of(open_pairs(options["data"]))
    device = pick_device(options["device"])
    model = load_recognition(options["rec_model"], device, options["rec_arch"])
    alignment = template_of(source.pairs.description())
    chosen = check_apply_inputs(
        model,
        options["rec_model"],
        options["real_features"],
        options["thresholds"],
        rules,
        options["detector"] if {Rule.FACE, Rule.FRONTAL} & set(rules.active) else NO_DETECTOR,
        alignment,
    )
    settings = settings_of(source, rules, chosen, options["min_samples"])
    if writers.inspect(outdir, settings, options["overwrite"]) is writers.State.FINISHED:
        console.tell("All is done already")
        show(read_json(outdir / writers.SUMMARY), outdir)
        return
    for warning in chosen.warnings:
        console.warn(warning)
    if line := sight(alignment, model.alignment):
        console.tell(line)
    with contextlib.closing(FolderLock()) as lock:
        writers.claim(outdir, settings, options["overwrite"], lock)
        run = Run(source, outdir, settings, chosen, rules, options["min_samples"])
        summary = run(options["workers"], options["copy"])
        writers.release(outdir)
    show(summary, outdir)


def show(summary: dict[str, Any], outdir: Path) -> None:
    """The last words of a filtered dataset."""
    console.result({**summary, "dataset": str(outdir)}, f"{table(summary)}\nDataset: {outdir}")


def audit(**options: Any) -> None:
    """What a dataset gives away."""
    prepare()
    found = {name: options[name] for name in ("data", "real_data", "heldout_data") if options[name] is not None}
    opened = {name: Dataset.open(path, f"--{name.replace('_', '-')}", options["spectrum"])
              for name, path in found.items()}  # fmt: skip
    data, others = opened["data"], [opened[name] for name in found if name != "data"]
    outdir = Path(options["outdir"] or default_outdir(data.path))
    check_places(data, others, outdir, options["overwrite"])
    model = load_recognition(options["rec_model"], pick_device(options["device"]), options["rec_arch"])
    thresholds = None
    if options["thresholds"] is not None:
        thresholds = thresholds_of(options["thresholds"], model, options["rec_model"])
    rows = None
    if options["real_features"] is not None:
        features = load_features(options["real_features"], "--real-features")
        where = f"--real-features: {options['real_features']}"
        refuse_other_model(features, where, model.fingerprint, options["rec_model"])
        rows = opened["real_data"].rows_of(features)
    seen = {
        name: one.look(model, options["workers"], rows if name == "real_data" else None) for name, one in opened.items()
    }
    described = {name: one.record() for name, one in opened.items()}
    described |= {
        "recognition_model": inputs.model_record(options["rec_model"], model),
        "spectrum": options["spectrum"],
    }
    told = run_audit(opened, seen, thresholds, described, outdir, model.device)
    for notice in told.notices:
        console.warn(notice)
    console.result(told.figures, "\n".join(told.lines))


def apart(data: str, outdir: Path) -> None:
    """Neither may lie in the other: nothing in --data is changed."""
    theirs, ours = Path(data).resolve(), outdir.resolve()
    if ours == theirs or theirs in ours.parents or ours in theirs.parents:
        raise UserError(f"--outdir: {outdir}: lies in --data {data} or around it; name a folder beside it")


def default_outdir(data: Path) -> Path:
    return data / writers.AUDIT if data.is_dir() else data.with_name(f"{data.stem}-audit")


def real_features(options: dict[str, Any]) -> FeatureSet:
    """Features of every picture of the real set, from the file or embedded now."""
    tree = PairedTree(options["data"])
    model = load_recognition(options["rec_model"], pick_device(options["device"]), options["rec_arch"])
    path = options["real_features"]
    if path is None:
        if line := sight(template_of(tree.description()), model.alignment):
            console.tell(line)
        return embed_dataset(model, tree, mode="all")
    features = load_features(path, "--real-features")
    refuse_other_model(features, f"--real-features: {path}", model.fingerprint, options["rec_model"])
    if missing := sorted(set(features.names) - set(tree.names)):
        raise UserError(f"--real-features: {path}: {missing[0]} is not in {options['data']} ({len(missing)} such)")
    features.model = model.fingerprint
    return features


def describe(thresholds: Thresholds) -> str:
    """The calibration for a terminal."""
    lines = [
        f"  mated       {thresholds.mated_scores:,}, mean {thresholds.mated_mean:.4f}, sd {thresholds.mated_sd:.4f}",
        f"  non-mated   {thresholds.nonmated_scores:,}, mean {thresholds.nonmated_mean:.4f}",
        f"  EER         {thresholds.eer:.2%}",
    ]
    points = {f"FMR {text}": point for text, point in thresholds.fmr_points.items()}
    for name, point in (thresholds.error_rates | points).items():
        lines.append(f"  {name:<11} {point.threshold:.4f}  FMR {point.fmr:.3g}  FNMR {point.fnmr:.3g}")
    return "\n".join(lines)
