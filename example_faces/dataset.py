"""The example dataset on disk: VIS/ and NIR/ with dataset.json beside them (docs: "The files between the stages")."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm import tqdm

from dnnlib.errors import UserError
from dnnlib.files import StrPath, atomic_write_bytes, atomic_write_json, claim_folder, sha256_bytes
from dnnlib.progress import progress as progress_bar
from example_faces.anatomy import sample_person
from example_faces.camera import TEMPLATE, TEMPLATE_NAME
from example_faces.render import MAX_RESOLUTION, MIN_RESOLUTION, map_chunks, render_pair
from example_faces.shots import sample_shot
from torch_utils.description import DESCRIPTION, describe
from torch_utils.image_tree import content_digest, encode_png, refuse_among_pictures, split_name
from torch_utils.spectra import SPECTRA

MARKER = "example.json"  # what the folder's pictures were rendered from
RENDERER = 3  # raised whenever the same seed gives other pictures

Hashes = list[tuple[str, str]]


def picture_name(identity: int, sample: int, samples: int) -> str:
    """File name of a picture: 4 digits of identity, 2 or more of sample, so that sorted names are in order."""
    return f"{identity:04d}_{sample:0{max(2, len(str(samples - 1)))}d}.png"


MAX_PAIRS = 100_000_000  # names of so many fit into memory


def picture_names(identities: int, samples: int, first_identity: int = 0) -> tuple[list[str], list[str]]:
    """Names of all pairs of a dataset, in order, and the identity of each. Raises UserError for too many."""
    _check_size(identities, samples)
    people = range(first_identity, first_identity + identities)
    names = [picture_name(person, sample, samples) for person in people for sample in range(samples)]
    return names, [split_name(name)[0] for name in names]


def _write_chunk(seed: int, identity: int, first: int, count: int, resolution: int, root: str, samples: int) -> Hashes:
    """Renders and writes some pictures of one person; those already there stay. Runs in a worker."""
    person = sample_person(seed, identity)
    hashes: Hashes = []
    for sample in range(first, first + count):
        name = picture_name(identity, sample, samples)
        paths = {spectrum: Path(root, SPECTRA[spectrum].folder, name) for spectrum in SPECTRA}
        if not all(path.is_file() for path in paths.values()):
            pair = render_pair(person, sample_shot(seed, identity, sample), resolution)
            for spectrum, path in paths.items():
                atomic_write_bytes(path, encode_png(pair[spectrum]))
        hashes += [(f"{path.parent.name}/{name}", sha256_bytes(path.read_bytes())) for path in paths.values()]
    return hashes


def _check_size(identities: int, samples: int) -> None:
    if identities * samples > MAX_PAIRS:
        raise UserError(f"--identities: {identities} with {samples} samples each; {MAX_PAIRS} pairs are the most")


def _check_arguments(identities: int, samples: int, resolution: int, first_identity: int) -> None:
    for option, value in (("--identities", identities), ("--samples", samples)):
        if value < 1:
            raise UserError(f"{option}: {value} is too few; 1 or more is needed")
    _check_size(identities, samples)
    if first_identity < 0:
        raise UserError(f"--first-identity: {first_identity} is negative; 0 or more is needed")
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        raise UserError(f"--resolution: {resolution} is outside {MIN_RESOLUTION} to {MAX_RESOLUTION} pixels")


def write_dataset(
    dest_dir: StrPath,
    seed: int,
    identities: int,
    samples: int,
    resolution: int,
    first_identity: int = 0,
    workers: int = 2,
    progress: bool = True,
) -> dict[str, Any]:
    """Renders a dataset into `dest_dir` and returns what dataset.json says of it.

    A second run with the same arguments goes on where the first stopped. Raises UserError for unusable arguments and
    for a folder that holds anything else. The bytes do not depend on `workers`.
    """
    _check_arguments(identities, samples, resolution, first_identity)
    root = Path(dest_dir)
    parameters = {
        "renderer": RENDERER,
        "seed": seed,
        "identities": identities,
        "samples": samples,
        "resolution": resolution,
        "first_identity": first_identity,
    }
    refuse_among_pictures(root, "--dest")
    claim_folder(root, MARKER, parameters, "an example dataset")
    hashes: Hashes = []
    chunks = map_chunks(
        _write_chunk, seed, identities, samples, resolution, first_identity, workers, str(root), samples
    )
    bar: tqdm[Any] = progress_bar(desc="example faces", total=identities * samples, unit="pair", show=progress)
    with bar:
        for _, _, done in chunks:
            hashes += done
            bar.update(len(done) // len(SPECTRA))
    description = {
        **describe(resolution, identities, identities * samples),
        "resize": "rendered",
        "alignment": TEMPLATE_NAME,
        "alignment_points": TEMPLATE.tolist(),
        "content_digest": content_digest(hashes),
        "source": {"example_faces": parameters},
    }
    atomic_write_json(root / DESCRIPTION, description)
    return description
