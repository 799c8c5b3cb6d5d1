#!/usr/bin/env python3
"""Command line: makes and checks paired datasets, and their identity features."""

from pathlib import Path
from typing import Any

import click

from dnnlib import console
from dnnlib.cli import Command, Group, option
from dnnlib.errors import UserError
from dnnlib.files import check_place
from dnnlib.progress import progress
from torch_utils.feature_file import FILE_NAME, FeatureSet, load_features, save_features
from torch_utils.image_tree import PairedTree
from torch_utils.pair_check import check_features, check_pairs
from torch_utils.spectra import SPECTRA


@click.group(cls=Group)
def main() -> None:
    """Make and check datasets of aligned VIS/NIR face pairs."""


@main.command(cls=Command)
@option("--dest", required=True, metavar="DIR", help="Folder of the dataset; a stopped run goes on there.")
@option("--identities", default=200, help="People.")
@option("--samples", default=10, help="Pairs of each person.")
@option("--resolution", default=64, help="Side of the pictures, 16 to 1024 pixels.")
@option("--seed", default=0, help="Seed; the same seed gives the same bytes.")
@option("--first-identity", default=0, help="Number of the first person: other numbers are other people.")
@option("--workers", default=2, type=click.IntRange(0), help="Rendering processes.")
@option(
    "--pairs",
    type=int,
    metavar="N",
    help="Also list N pairs of pictures for verification within each spectrum and across: a multiple of 20. "
    "[default: no lists]",
)
def example(
    dest: str,
    identities: int,
    samples: int,
    resolution: int,
    seed: int,
    first_identity: int,
    workers: int,
    pairs: int | None,
) -> None:
    """Render example faces: people who do not exist, drawn by a program, in both spectra.

    With --pairs, DEST/pairs-vis-vis.txt, pairs-nir-nir.txt and pairs-vis-nir.txt are a benchmark in ten folds that have
    nobody in common, half of the pairs of one person.
    """
    from example_faces.dataset import picture_names, write_dataset
    from torch_utils.pair_files import check_list, draw_lists, write_pairs

    lists = {} if pairs is None else draw_lists(*picture_names(identities, samples, first_identity), pairs, seed)
    for name, drawn in lists.items():
        check_list(Path(dest) / name, drawn)
    write_dataset(Path(dest), seed, identities, samples, resolution, first_identity, workers)
    for name, drawn in lists.items():
        write_pairs(Path(dest) / name, drawn)
    made = {"pairs": identities * samples, "identities": identities, "resolution": resolution, "dest": dest}
    text = f"{identities * samples} pairs of {identities} people at {resolution}x{resolution} in {dest}"
    text += f"\nBenchmarks of {pairs} pairs each: {', '.join(lists)}" if lists else ""
    console.result({**made, "benchmarks": list(lists)}, text)


@main.command(cls=Command)
@option("--vis", required=True, metavar="DIR|ZIP", help="Raw visible-light captures: PNG, JPEG, BMP or TIFF.")
@option("--nir", required=True, metavar="DIR|ZIP", help="Raw near-infrared captures; may be the same as --vis.")
@option("--dest", required=True, metavar="DIR|ZIP", help="Dataset to write; a stopped run goes on there.")
@option("--resolution", default=256, help="Side of the pictures in pixels.")
@option(
    "--align",
    default="portrait",
    type=click.Choice(["portrait", "arcface", "none"]),
    help="Whole head for generation, the 112x112 template's face for recognition, or the centre square.",
)
@option("--filter", default="lanczos", type=click.Choice(["lanczos", "area"]), help="Resize filter.")
@option(
    "--layout",
    type=click.Choice(["generic", "tufts", "casia-nir-vis-2"]),
    help="How names tell people and pairs. [default: generic]",
)
@option("--pairs", metavar="CSV", help="The pairs, instead of a layout: columns vis, nir, identity and maybe sample.")
@option("--register", is_flag=True, help="Detect on NIR too, where both were not taken through one lens at once.")
@option("--min-probability", default=0.9, help="Faces that the detector finds less likely do not count.")
@option("--max-outside", default=0.25, help="Share of an aligned picture that may lie beyond the capture.")
@option("--detector", metavar="PATH", help="MTCNN's weights: a folder or wheel. [default: installed facenet-pytorch]")
@option("--workers", default=2, help="Processes.")
def prepare(
    vis: str, nir: str, dest: str, layout: str | None, pairs: str | None, workers: int, align: str, **options: Any
) -> None:
    """Make a dataset of raw captures: pair them, find the faces, align, crop and resize."""
    from arcface.alignment import ARCFACE_TEMPLATE
    from arcface.captures import find_captures
    from arcface.prepare import Settings
    from arcface.prepare import prepare as prepare_captures
    from torch_utils.image_tree import CAPTURES, ImageTree

    settings = Settings(align=ARCFACE_TEMPLATE.name if align == "arcface" else align, **options)
    settings.check()
    if pairs is not None and layout is not None:
        raise UserError("--layout: tells pairs by their names, and --pairs lists them; leave one out")
    layout = layout or "generic"
    trees = {name: ImageTree(path, option=f"--{name}", kinds=CAPTURES) for name, path in (("vis", vis), ("nir", nir))}
    found = find_captures(trees["vis"], trees["nir"], layout, pairs)
    done = prepare_captures(trees, found, dest, settings, "pairs" if pairs else layout, workers)
    value = {"pairs": done.pairs, "identities": done.identities, "resolution": settings.resolution, "dest": dest}
    value |= {"failures": dict(done.failures), "failures_file": str(done.failures_file)}
    console.result(value, f"{done.summary()}; {settings.resolution}x{settings.resolution} in {dest}")


@main.command(cls=Command)
@option("--data", "--data-folder", required=True, metavar="DIR|ZIP", help="Pairs: a folder or zip with VIS/ and NIR/.")
@option(
    "--rec-model", required=True, metavar="FILE", help="Recognition model: .safetensors, arcface_torch's .pth, .onnx."
)
@option("--rec-arch", metavar="NAME", help="Its architecture, where the weights' shapes leave it open.")
@option(
    "--mode",
    "--all-or-one",
    default="all",
    type=click.Choice(["all", "one"]),
    help="A feature a picture, or the most typical of each person.",
)
@option(
    "--out", metavar="FILE", help=f"Features file (.safetensors, or ArcBiFaceGAN's .json). [default: DATA/{FILE_NAME}]"
)
@option("--spectrum", default="vis", type=click.Choice(list(SPECTRA)), help="The pictures that are embedded.")
@option("--batch", default=64, type=click.IntRange(1), help="Pictures at a time; it changes the speed only.")
@option(
    "--workers",
    type=click.IntRange(0),
    help="Processes that read pictures; 0 is none besides this one. [default: one a processor, 8 at most]",
)
@option("--device", "--gpu-device-number", default="auto", help="cpu, cuda, the number of a GPU, or auto.")
@option("--overwrite", is_flag=True, help="Replace a features file that exists.")
def features(
    data: str,
    rec_model: str,
    rec_arch: str | None,
    mode: str,
    out: str | None,
    spectrum: str,
    batch: int,
    workers: int | None,
    device: str,
    overwrite: bool,
) -> None:
    """Compute the ArcFace identity features that training is conditioned on."""
    from arcface.alignment import sight, template_of
    from arcface.embed import embed_dataset
    from arcface.weights import load_recognition
    from torch_utils.backend import set_backend
    from torch_utils.distributed import pick_device

    set_backend(cudnn_benchmark=False)
    tree = PairedTree(data)
    if out is None and not Path(data).is_dir():
        raise UserError(f"--out: needed, because --data {data} is a zip")
    target = Path(out) if out else Path(data) / FILE_NAME
    check_place(target, "--out")
    model = load_recognition(rec_model, device=str(pick_device(device)), arch=rec_arch)
    if target.exists() and not overwrite:
        known = load_features(target, "--out")
        if (known.model, known.mode, known.spectrum) != (model.fingerprint, mode, spectrum):
            raise UserError(
                f"--out: {target}: holds mode {known.mode} of {known.spectrum} pictures by model {known.model}, "
                f"and {rec_model} is {model.fingerprint}; --overwrite replaces it"
            )
        check_features(known, tree, "--out")
        show_features(known, target, f"Nothing to do: {target} holds the features of this model already.")
        return
    if line := sight(template_of(tree.description()), model.alignment):
        console.tell(line)
    found = embed_dataset(model, tree, spectrum, mode, batch, workers=workers)
    save_features(target, found)
    text = f"{len(found)} features, mean norm {found.norm:.2f}, of model {found.model} in {target}"
    show_features(found, target, text)


def show_features(found: FeatureSet, path: Path, text: str) -> None:
    console.result(
        {"features": len(found), "norm": found.norm, "model": found.model, "mode": found.mode, "path": str(path)}, text
    )


@main.command(cls=Command)
@option("--data", required=True, metavar="DIR|ZIP", help="Pairs: a folder or zip with VIS/ and NIR/.")
@option("--features", metavar="FILE", help=f"Identity features. [default: DATA/{FILE_NAME} where it exists]")
def check(data: str, features: str | None) -> None:
    """Read every picture and feature of a dataset, and name the first fault."""
    tree = PairedTree(data)
    tree.description()  # refuses one that is broken
    summary = check_pairs(tree, progress(tree.names, desc="check", unit="pair"))
    size = f"{summary.resolution}x{summary.resolution}"
    console.result(summary._asdict(), f"{summary.pairs} pairs of {summary.identities} people at {size}, all sound")
    path = Path(features) if features else Path(data) / FILE_NAME
    if features or path.is_file():
        found = load_features(path)
        check_features(found, tree)
        show_features(
            found, path, f"{len(found)} features of model {found.model}, mode {found.mode}, mean norm {found.norm:.2f}"
        )


@main.command(cls=Command)
@option("--data", required=True, metavar="DIR|ZIP", help="Dataset with VIS/ and NIR/, or a folder a person.")
@option("--dest", required=True, metavar="FILE", help="File to write: .zip, .rec, .tar or .bin.")
@option(
    "--format",
    "kind",
    required=True,
    type=click.Choice(["zip", "rec", "webdataset", "bin"]),
    help="Archive, RecordIO, WebDataset shards, or a benchmark of the pairs in --pairs.",
)
@option("--spectra", type=click.Choice(["vis", "nir", "vis+nir"]), help="Pictures to pack. [default: vis+nir]")
@option("--shard-size", type=click.IntRange(1), metavar="N", help="Samples a shard. [default: one shard]")
@option("--pairs", metavar="FILE", help="With --format bin: LFW's pairs.txt, or lines of two pictures and 1 or 0.")
@option("--resolution", type=int, metavar="PIXELS", help="With --format bin: side of the pictures. [default: 112]")
@option("--align", is_flag=True, help="With --format bin: find the faces and bring them onto ArcFace's template.")
@option("--detector", metavar="PATH", help="MTCNN's weights: a folder or wheel. [default: installed facenet-pytorch]")
@option("--overwrite", is_flag=True, help="Replace what is there.")
def pack(
    data: str,
    dest: str,
    kind: str,
    spectra: str | None,
    shard_size: int | None,
    pairs: str | None,
    resolution: int | None,
    align: bool,
    detector: str | None,
    overwrite: bool,
) -> None:
    """Put a dataset, or a verification benchmark, into one file that others read, too (docs/formats.md)."""
    from torch_utils import packing

    given = {"--spectra": spectra, "--shard-size": shard_size, "--pairs": pairs, "--resolution": resolution}
    packing.check_options(kind, {**given, "--align": align or None, "--detector": detector})
    packing.check_target(dest, kind, overwrite)
    if kind == "bin":
        from arcface.detection import FaceDetector
        from arcface.pack_benchmark import pack_benchmark

        faces = FaceDetector.load(detector) if align else None
        count = pack_benchmark(data, pairs or "", dest, 112 if resolution is None else resolution, faces)
        console.result({"pairs": count, "dest": dest}, f"{count} pairs in {dest}")
        return
    found = packing.open_packable(data, (spectra or "vis+nir").split("+"))
    if kind == "webdataset":
        files = packing.pack_shards(found, dest, shard_size)
        dest = str(files[0]) if len(files) == 1 else f"{files[0]} to {files[-1].name}"
    else:
        (packing.pack_zip if kind == "zip" else packing.pack_rec)(found, dest)
    counts = {"samples": len(found.order), "identities": len(found.identities), "spectra": spectra or "vis+nir"}
    text = f"{counts['samples']} samples of {counts['identities']} people, {counts['spectra']}, in {dest}"
    console.result({**counts, "dest": dest}, text)


if __name__ == "__main__":
    main()
