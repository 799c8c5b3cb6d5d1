"""The folder of a run: which one it is, what its files are called, and which of them may go."""

import math
import re
from pathlib import Path
from typing import Any

from dnnlib.errors import UserError
from dnnlib.files import FolderLock, StrPath, atomic_write_bytes, atomic_write_json, make_folder, read_json
from torch_utils.feature_file import UNKNOWN_MODEL
from training.snapshots import snapshot_images

CONFIG_FILE = "config.json"
STATS_FILE = "stats.jsonl"
BEST_NETWORK, BEST_FILE = "best-network.safetensors", "best.json"
BEST_KEYS = {"metric", "value", "higher_is_better", "snapshot", "images_seen"}

STATE = "training-state-{stamp}.pt"
NETWORK = "network-snapshot-{stamp}.safetensors"
GRID = "fakes-{stamp}"  # and -{spectrum}.png
STAMP = "{kimg:06d}"  # a second snapshot within the same kimg replaces the first


def stamp(images_seen: int) -> str:
    """What the files of a snapshot have in their names: thousands of pairs shown."""
    return STAMP.format(kimg=images_seen // 1000)


# ----------------------------------------------------------------------------
# Finding and making.


def latest_state(outdir: StrPath) -> Path | None:
    """The newest training state in or below `outdir`; None where there is none."""
    states = sorted(Path(outdir).glob("**/training-state-*.pt"), key=lambda path: (path.stat().st_mtime_ns, path))
    return states[-1] if states else None


def open_run_folder(
    outdir: Path, state: Path | None, described: dict[str, Any], name: str, lock: FolderLock | None = None
) -> tuple[Path, list[str]]:
    """The folder of the state that is resumed, if it is one of `outdir`'s, else a new one, numbered; with config.json.

    described: what config.json holds. name: of a new folder, behind its number. lock: is taken on the folder. Returns
    it and the names of the settings that config.json had otherwise. Unfinished files of a killed run are removed.
    """
    if state is not None and state.parent.parent.resolve() == outdir.resolve():
        run_dir = state.parent
        known = read_json(run_dir / CONFIG_FILE, "--resume")
        changed = sorted(key for key in described if known.get(key) != described[key])
    else:
        run_dir, changed = _new_folder(outdir, name), []
    if lock is not None:
        lock.take(run_dir, "--resume")
    for unfinished in run_dir.glob(".*.tmp"):
        unfinished.unlink(missing_ok=True)
    atomic_write_json(run_dir / CONFIG_FILE, described)
    return run_dir, changed


def refuse_other_features(state: Path, model: str, where: str) -> None:
    """Raises UserError, starting with `where`, for features of another recognition model than those that the run of
    `state` was conditioned on, as far as config.json beside the state says it."""
    path = state.parent / CONFIG_FILE
    known = read_json(path, "--resume") if path.is_file() else {}
    before = known.get("recognition_model", UNKNOWN_MODEL) if isinstance(known, dict) else UNKNOWN_MODEL
    if UNKNOWN_MODEL not in (before, model) and before != model:
        raise UserError(
            f"{where}: features of recognition model {model}, but the run of --resume {state} was conditioned on those "
            f"of {before}; give it those, or begin a run of its own with --init-from"
        )


def _new_folder(outdir: Path, name: str) -> Path:
    """Another run may be started at the same moment, so the number is taken by making the folder."""
    make_folder(outdir, "--outdir")
    while True:
        numbers = [int(found[1]) for path in outdir.glob("*") if (found := re.match(r"(\d{5})-", path.name))]
        run_dir = outdir / f"{max(numbers, default=-1) + 1:05d}-{name}"
        try:
            run_dir.mkdir()
            return run_dir
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"--outdir: {run_dir}: cannot be made a folder ({error.strerror})") from error


# ----------------------------------------------------------------------------
# Removing.


def prune(run_dir: Path, keep: int | None) -> None:
    """Removes states, network snapshots and grids older than those of the newest `keep` states (None: keeps all).

    The network that best.json names stays.
    """
    if keep is None:
        return
    states = sorted(run_dir.glob(STATE.format(stamp="*")), key=lambda path: (path.stat().st_mtime_ns, path))
    if len(states) <= keep:
        return
    kept = {_stamp_of(path) for path in states[-keep:]}
    oldest = states[-keep].stat().st_mtime_ns
    best = (read_best(run_dir) or {}).get("snapshot")
    for pattern in (STATE, NETWORK, GRID + "-*.png"):
        for path in run_dir.glob(pattern.format(stamp="*")):
            older = path.stat().st_mtime_ns < oldest
            if older and _stamp_of(path) not in kept and path.name != best:
                path.unlink(missing_ok=True)


def _stamp_of(path: Path) -> str:
    found = re.search(r"-(\d{6,})\b", path.name)
    return found[1] if found else ""


# ----------------------------------------------------------------------------
# The best network.


def read_best(run_dir: Path) -> dict[str, Any] | None:
    """best.json, with BEST_KEYS; None where there is none."""
    if not (run_dir / BEST_FILE).exists():
        return None
    known = read_json(run_dir / BEST_FILE, "--resume")
    if not isinstance(known, dict) or not set(known) >= BEST_KEYS:
        raise UserError(f"--resume: {run_dir / BEST_FILE}: does not describe a network; remove it to go on")
    return known


def offer_best(run_dir: Path, snapshot: Path, images_seen: int, metric: str, value: float, higher: bool) -> bool:
    """Makes `snapshot` the best network, if no other had as good a value of the same metric; says whether it did."""
    known, sign = read_best(run_dir), 1 if higher else -1
    comparable = known is not None and known["metric"] == metric and known["higher_is_better"] == higher
    if not math.isfinite(value) or (known is not None and comparable and sign * value <= sign * known["value"]):
        return False
    entry = {"metric": metric, "value": value, "higher_is_better": higher}
    atomic_write_json(run_dir / BEST_FILE, {**entry, "snapshot": snapshot.name, "images_seen": images_seen})
    copy_best(run_dir)
    return True


def copy_best(run_dir: Path) -> None:
    """Makes best-network.safetensors a copy of what best.json names, if it is not.

    Called at the start, too: a run may have been killed between the two. A later snapshot may bear the same name.
    """
    known = read_best(run_dir)
    if known is None or snapshot_images(run_dir / BEST_NETWORK) == known["images_seen"]:
        return
    source = run_dir / known["snapshot"]
    if source.exists() and snapshot_images(source) == known["images_seen"]:
        atomic_write_bytes(run_dir / BEST_NETWORK, source.read_bytes())
