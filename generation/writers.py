"""The output folder: who may write into it, what is finished in it, and the dataset itself.

    OUT/VIS/{identity}/{sample}.png, OUT/NIR/...   the pairs
    OUT/manifest.jsonl                             a line a judged candidate, by slot and attempt
    OUT/settings.json                              everything the dataset depends on; first file of a run
    OUT/dataset.json                               what every dataset says of itself, its alignment above all
    OUT/report.html, OUT/summary.json              the last files: with summary.json the run is finished
    OUT/.parts/                                    finished work of a run that is under way

Every file is written whole or not at all, and a person's part is written after the person's pictures, so whatever
moment a run is killed at, what is there is right. A second run with the same settings goes on from the parts
(generation.parts); while one works, it holds a lock, and another is refused.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from dnnlib.errors import UserError
from dnnlib.files import (
    LOCK,
    FolderLock,
    StrPath,
    atomic_path,
    atomic_write_bytes,
    atomic_write_json,
    make_folder,
    read_json,
)
from generation.datasheet import DATASHEET
from generation.layouts import PACKED, Layout, Places, packed_file
from generation.parts import PARTS
from generation.previews import PREVIEWS
from generation.records import Record
from generation.rules import KEPT
from torch_utils.description import DESCRIPTION, describe, describe_packed
from torch_utils.distributed import rank
from torch_utils.image_tree import refuse_among_pictures
from torch_utils.spectra import SPECTRA

MADE_BY = "generate_dataset.py"
SETTINGS, MANIFEST, SUMMARY, REPORT = "settings.json", "manifest.jsonl", "summary.json", "report.html"
ENDS = ("tar.json", "rec", "idx", "rec.json")
FOLDERS = [spectrum.folder for spectrum in SPECTRA.values()]
PICTURES = (
    *FOLDERS,
    "id_[0-9]*",
    f"{PACKED}-[0-9]*.tar",
    *(f"{PACKED}.{end}" for end in ENDS),
    PREVIEWS,
)  # all layouts
AUDIT = "audit"  # what filter.py audit has found
OURS = (
    PARTS,
    AUDIT,
    SUMMARY,
    REPORT,
    DATASHEET,
    DESCRIPTION,
    MANIFEST,
    *PICTURES,
    SETTINGS,
)  # patterns, as they are deleted
TOKEN = "token"  # among the parts
DECIMALS = 6  # of similarities in the manifest: beyond what float32 embeddings hold


class State(Enum):
    """What an output folder is for the run that wants it."""

    NEW = "new"
    CONTINUE = "continue"
    FINISHED = "finished"


# ----------------------------------------------------------------------------
# Whose folder it is.


def inspect(outdir: StrPath, settings: dict[str, Any], overwrite: bool = False) -> State:
    """Look at the folder and touch nothing. Raises UserError where the run may not write into it."""
    root = Path(outdir)
    where = f"--outdir: {root}"
    refuse_among_pictures(root, "--outdir")
    if not root.exists():
        above = next(parent for parent in root.absolute().parents if parent.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise UserError(f"{where}: {above} is not a folder that can be written into")
        return State.NEW
    if not root.is_dir():
        raise UserError(f"{where}: is a file; name a folder")
    present = [path.name for path in root.iterdir() if not _is_left_over(path)]
    if not present:
        return State.NEW
    known = read_json(root / SETTINGS, "--outdir") if SETTINGS in present else None
    if not isinstance(known, dict) or known.get("made_by") != settings["made_by"]:
        raise UserError(f"{where}: holds files that {settings['made_by']} did not make; name a new or empty folder")
    if overwrite:
        return State.NEW
    different = sorted(key for key in {*known, *settings} if known.get(key) != settings.get(key))
    if different:
        first = different[0]
        raise UserError(
            f"{where}: holds another run ({', '.join(different)} differ; {first} was {json.dumps(known.get(first))}); "
            "name another folder, or give --overwrite to delete that run"
        )
    return State.FINISHED if SUMMARY in present else State.CONTINUE


def begin(outdir: StrPath, settings: dict[str, Any], state: State) -> None:
    """Make the folder this run's own: a NEW one is emptied of an older run's files and gets its settings.json."""
    root = Path(outdir)
    if state is State.NEW and root.exists():
        for pattern in OURS:  # the parts and the summary first, the settings after them
            for path in sorted(root.glob(pattern)):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
    if state is State.NEW:
        make_folder(root, "--outdir")
        atomic_write_json(root / SETTINGS, settings)
    for folder, _, files in os.walk(root):
        for name in files:
            if _is_left_over(Path(name)) and name != LOCK:
                Path(folder, name).unlink()


def claim(outdir: StrPath, settings: dict[str, Any], overwrite: bool, lock: FolderLock) -> State:
    """Look again, holding the lock, and make the folder this run's own, if it is not finished. In one process.

    Raises UserError where the run may not write into it, or another is at work in it.
    """
    make_folder(outdir, "--outdir")
    lock.take(outdir, "--outdir")
    state = inspect(outdir, settings, overwrite)
    if state is not State.FINISHED:
        begin(outdir, settings, state)
    return state


def release(outdir: StrPath) -> None:
    """The run is finished: no lock is left behind."""
    (Path(outdir) / LOCK).unlink(missing_ok=True)


def leave_token(outdir: StrPath) -> str:
    """Write something into the parts that nobody can know, and return it; for `check_shared`."""
    token = secrets.token_hex(16)
    atomic_write_bytes(Path(outdir) / PARTS / TOKEN, token.encode())
    return token


def check_shared(outdir: StrPath, token: str, patience: float = 60.0) -> None:
    """Raises UserError where this process does not see what another has left: its folder is another machine's.

    patience: seconds; file systems on a network may remember for so long that there was no such file (NFS's acdirmax).
    """
    path, until = Path(outdir) / PARTS / TOKEN, time.monotonic() + patience
    while not path.is_file() or path.read_bytes() != token.encode():
        if time.monotonic() > until:
            raise UserError(
                f"--outdir: {outdir}: process {rank()} does not see there what process 0 has written; a folder on a "
                "file system that all machines share is needed"
            )
        time.sleep(0.1)


@contextlib.contextmanager
def outdir_named() -> Iterator[None]:
    """Puts --outdir before what a full or broken disk makes dnnlib.files raise, which knows the file alone."""
    try:
        yield
    except UserError as error:
        if isinstance(error.__cause__, OSError) and not str(error).startswith("--"):
            raise UserError(f"--outdir: {error}") from error.__cause__
        raise


def _is_left_over(path: Path) -> bool:
    """A temporary file of a write that was killed, or a lock that nobody need hold (dnnlib.files)."""
    return path.name == LOCK or (path.name.startswith(".") and path.name.endswith(".tmp"))


# ----------------------------------------------------------------------------
# The dataset.


def manifest_line(record: Record, places: Places | None = None) -> dict[str, Any]:
    """A record as it stands in manifest.jsonl: places for a kept pair only, null for what was not compared."""
    line: dict[str, Any] = {key: getattr(record, key) for key in ("identity", "sample", "slot", "seed")}
    line |= places or {}
    for key in ("sim_reference", "max_sim_real", "max_sim_other", "max_sim_same"):
        line[key] = _rounded(getattr(record, key))
    if record.checked is not None:
        kinds = record.checked.items()
        line["checked"] = {name: {key: _rounded(value) for key, value in found.items()} for name, found in kinds}
    return {**line, "verdict": record.verdict}


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), DECIMALS)


def write_manifest(outdir: StrPath, records: Iterable[Record], layout: Layout) -> None:
    """OUT/manifest.jsonl, atomically, a line at a time. layout: which has been finished."""

    def places(record: Record) -> Places | None:
        if record.verdict != KEPT:
            return None
        assert record.identity is not None and record.sample is not None, "a kept pair has its place"
        return layout.places(record.identity, record.sample)

    with atomic_path(Path(outdir) / MANIFEST) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        file.writelines(json.dumps(manifest_line(record, places(record))) + "\n" for record in records)


def write_description(outdir: StrPath, settings: dict[str, Any], identities: Sequence[int], pairs: int) -> None:
    """OUT/dataset.json, atomically, and what lies beside a packed file; the alignment is that of the generator's
    pictures, as far as it is known."""
    root, layout = Path(outdir), settings["layout"]
    description: dict[str, Any] = {
        **describe(settings["generator"].get("resolution"), len(identities), pairs),
        "resize": "generated",
        "format": layout,
        **{key: settings[key] for key in ("alignment", "alignment_points") if key in settings},
    }
    if packed := packed_file(layout):
        people = [str(identity) for identity in identities]
        beside = describe_packed(layout, settings["made_by"], description, pairs, people)
        atomic_write_json(root / f"{packed}.json", beside)
    atomic_write_json(root / DESCRIPTION, description)
