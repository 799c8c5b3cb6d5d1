"""The folder of a recognition training: what its files are called, how it is opened, gone on with and removed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch

from arcface.recognition_config import RecognitionConfig
from arcface.weights import read_checkpoint
from dnnlib.errors import UserError
from dnnlib.files import (
    FolderLock,
    atomic_write_bytes,
    atomic_write_json,
    check_folder,
    keep_lines,
    make_folder,
    read_json,
    read_lines,
)
from torch_utils.image_tree import refuse_among_pictures

MODEL_FILE = "recognition.safetensors"
METRICS_FILE = "metrics.jsonl"
STATS_FILE = "stats.jsonl"
CONFIG_FILE = "config.json"
LOG_FILE = "log.txt"
CURVES_FILE = "curves.png"
DET_FILE = "det.png"
STATE_FILE = "training-state-{step:08d}.pt"
STATE_PATTERN = "training-state-*.pt"
EVENTS_PATTERN = "events.out.tfevents.*"

MAY_CHANGE = {"gpus", "precision", "tick", "snap"}  # from one sitting to the next; all else makes another run


def check_run(config: RecognitionConfig, outdir: Path, overwrite: bool = False) -> None:
    """Raises UserError where `outdir` holds a run with another configuration, or one of another program.

    overwrite: the first does not matter.
    """
    check_folder(outdir, "--outdir")
    refuse_among_pictures(outdir, "--outdir")
    if not (outdir / CONFIG_FILE).exists():
        return
    before = _read_config(outdir)
    if overwrite:
        return
    values, before = _without_paths(json.loads(json.dumps(config.to_json()))), _without_paths(before)
    changed = sorted(key for key in {*values, *before} if values.get(key) != before.get(key) and key not in MAY_CHANGE)
    if changed:
        raise UserError(
            f"--outdir: {outdir} holds a run with another {changed[0]}; choose another folder or use --overwrite"
        )


def _without_paths(value: Any) -> Any:
    """Pictures and weights may move (to a node's own disk): their digests tell whether they are the same."""
    if not isinstance(value, dict):
        return value
    return {key: _without_paths(part) for key, part in value.items() if key != "path"}


def open_run(config: RecognitionConfig, outdir: Path) -> None:
    """Makes the folder and writes config.json, or checks that the one there is the same."""
    check_run(config, outdir)
    make_folder(outdir, "--outdir")
    for unfinished in outdir.glob(".*.tmp"):
        unfinished.unlink(missing_ok=True)
    atomic_write_json(outdir / CONFIG_FILE, config.to_json())


def check_test(outdir: Path, overwrite: bool) -> None:
    """Raises UserError where a test without training cannot have its folder: it holds a run, or is none, or holds
    another test's results that are not to be overwritten."""
    check_folder(outdir, "--outdir")
    refuse_among_pictures(outdir, "--outdir")
    if (outdir / CONFIG_FILE).exists():
        raise UserError(f"--outdir: {outdir} holds a run; choose another folder for a test without training")
    if (outdir / METRICS_FILE).exists() and not overwrite:
        raise UserError(f"--outdir: {outdir} holds the results of a test; choose another folder or use --overwrite")


def write_metrics(outdir: Path, lines: list[dict[str, Any]], before: bytes = b"") -> None:
    """metrics.jsonl, of a test without training or with the lines of earlier ones before these, all or none."""
    text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
    atomic_write_bytes(outdir / METRICS_FILE, before + text.encode())


def enter_run(outdir: Path, lock: FolderLock, overwrite: bool) -> None:
    """Makes the folder, takes its lock, and removes the run that is there if that is wanted."""
    make_folder(outdir, "--outdir")
    lock.take(outdir, "--outdir")
    if overwrite:
        remove_run(outdir)


def remove_run(outdir: Path) -> None:
    """Removes what a run of recognition training wrote, and nothing else (--overwrite).

    Raises UserError where the folder holds something else's run.
    """
    if (outdir / CONFIG_FILE).exists():
        _read_config(outdir)
    names = (MODEL_FILE, METRICS_FILE, STATS_FILE, CONFIG_FILE, LOG_FILE, CURVES_FILE, DET_FILE)
    patterns = (STATE_PATTERN, EVENTS_PATTERN)
    for path in [*(outdir / name for name in names), *(path for pattern in patterns for path in outdir.glob(pattern))]:
        path.unlink(missing_ok=True)


def _read_config(outdir: Path) -> dict[str, Any]:
    config = read_json(outdir / CONFIG_FILE, "--outdir")
    if not isinstance(config, dict) or "backbone" not in config:
        raise UserError(f"--outdir: {outdir} holds a run of another program; choose another folder")
    return config


# ----------------------------------------------------------------------------
# States.


def save_state(outdir: Path, state: dict[str, Any]) -> None:
    """Writes the state of state["step"] and removes older ones."""
    target = outdir / STATE_FILE.format(step=state["step"])
    buffer = io.BytesIO()  # torch.save into a file reports a full disk as an error of its own
    torch.save(state, buffer)
    atomic_write_bytes(target, buffer.getbuffer())
    for old in outdir.glob(STATE_PATTERN):
        if old != target:
            old.unlink(missing_ok=True)


def latest_state(outdir: Path) -> tuple[Any, str] | None:
    """The newest state's content and what messages call it; None where there is none."""
    files = sorted(outdir.glob(STATE_PATTERN))
    if not files:
        return None
    where = f"--outdir: {files[-1]}"
    return read_checkpoint(files[-1].read_bytes(), where), where


# ----------------------------------------------------------------------------
# Lines.


def forget_later(outdir: Path, step: int) -> None:
    """Drops the lines behind the state that training goes on from: those steps come again."""
    for name in (STATS_FILE, METRICS_FILE):
        keep_lines(outdir / name, lambda line: line["step"] <= step)


def evaluated_steps(outdir: Path) -> set[int]:
    """The steps whose evaluations are in metrics.jsonl."""
    path = outdir / METRICS_FILE
    return {line["step"] for line in read_lines(path)} if path.exists() else set()


def note_metrics(outdir: Path, step: int, lines: list[dict[str, Any]]) -> None:
    """Adds an evaluation's lines to metrics.jsonl, all or none: what is there is complete."""
    path = outdir / METRICS_FILE
    before = path.read_bytes() if path.exists() else b""
    write_metrics(outdir, [{"step": step, **line} for line in lines], before)
