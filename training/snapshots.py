"""What training writes: generators that others load, states to go on from, grids to look at."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dnnlib.errors import UserError
from dnnlib.files import StrPath, atomic_write_bytes, require_file
from torch_utils.distributed import to_device
from torch_utils.image_tree import encode_png
from torch_utils.images import image_grid, to_uint8
from training.generator import Generator
from training.import_pkl import import_generator, is_pickle
from training.weights import build_generator, load_strictly, refuse_broken

GENERATOR_FORMAT = "arcbifacegan-generator-1"
STATE_FORMAT = "arcbifacegan-state-1"

# What a generator's metadata says about its conditions.
METADATA_KEYS = ("recognition_model", "feature_norm", "images_seen")


# ----------------------------------------------------------------------------
# Generators: safetensors with a JSON header, no code.


def save_generator(path: StrPath, generator: Generator, metadata: dict[str, Any]) -> None:
    """Writes weights, constructor arguments and `metadata` (METADATA_KEYS at least), atomically."""
    missing = [key for key in METADATA_KEYS if key not in metadata]
    assert not missing, f"metadata lacks {missing}"
    # One key: safetensors writes several in an order that changes from run to run.
    header = {GENERATOR_FORMAT: json.dumps({"init_kwargs": generator.init_kwargs, "metadata": metadata})}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    atomic_write_bytes(path, save(tensors, metadata=header))


def load_generator(path: StrPath, device: torch.device | str = "cpu", option: str = "--gen-model") -> Generator:
    """Reads a generator of ours, or that of a released pickle, in float32, ready to draw; `.metadata` is the file's.

    Raises UserError that names `option` and the file where it is neither.
    """
    where = f"{option}: {path}"
    wanted = "a network-snapshot-*.safetensors of train.py or a released .pkl is needed"
    require_file(path, where, wanted)
    if is_state(path):
        raise UserError(f"{where}: a training state, or another file of torch.save; {wanted}")
    generator = import_generator(path, option)[0] if is_pickle(path) else _read_generator(path, where)
    return to_device(generator.eval().requires_grad_(False), device)


def _read_generator(path: StrPath, where: str) -> Generator:
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get(GENERATOR_FORMAT)
            if text is None:
                raise UserError(f"{where}: a safetensors file, but not a generator's; train.py writes those")
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        header = json.loads(text)
        kwargs, metadata = dict(header["init_kwargs"]), dict(header["metadata"])
        # A released network does not say them.
        known = [metadata[key] for key in ("feature_norm", "images_seen") if metadata[key] is not None]
        if not all(math.isfinite(float(value)) for value in known):
            raise ValueError("feature_norm or images_seen is not finite")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: not a readable safetensors file, and no pickle ({error})") from error
    refuse_broken(state, where)
    generator = build_generator(kwargs, where)
    load_strictly(generator, state, where, assign=True)
    generator.metadata = metadata
    return generator


def snapshot_images(path: StrPath) -> int | None:
    """images_seen in a generator's header; None where it cannot be read."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return int(json.loads((file.metadata() or {})[GENERATOR_FORMAT])["metadata"]["images_seen"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None


# ----------------------------------------------------------------------------
# Training states.


def save_state(path: StrPath, state: dict[str, Any]) -> None:
    """Writes a state of tensors, numbers, strings and plain containers, atomically."""
    # By way of memory: torch.save into a file reports a full disk as an error of its own.
    buffer = io.BytesIO()
    torch.save({"format": STATE_FORMAT, **state}, buffer)
    atomic_write_bytes(path, buffer.getbuffer())


def is_state(path: StrPath) -> bool:
    """Whether a file's first bytes are those of what torch.save writes, as training states are."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PK\3\4"
    except OSError:
        return False


def check_state(path: StrPath, option: str = "--resume") -> None:
    """Raises UserError naming `option` and the file for what, at a glance, is no training state."""
    where = f"{option}: {path}"
    if is_pickle(path):
        raise UserError(f"{where}: not a training state of ours; --init-from begins a new run with a released .pkl")
    require_file(path, where, "a training-state-*.pt of train.py, or latest, is needed")
    if Path(path).suffix == ".safetensors":
        raise UserError(
            f"{where}: not a training state but a network; its training-state-*.pt, or --init-from, is needed"
        )


def load_state(path: StrPath, option: str = "--resume") -> dict[str, Any]:
    """Reads a state on the CPU; nothing in the file can run code. Raises UserError naming `option` and the file."""
    where = f"{option}: {path}"
    check_state(path, option)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise UserError(f"{where}: {error.strerror}") from error
    except Exception as error:  # torch.load raises many kinds for a broken or hostile file, and advises to run its code
        raise UserError(f"{where}: not a training state of train.py, or damaged") from error
    if not isinstance(state, dict) or state.get("format") != STATE_FORMAT:
        raise UserError(f"{where}: not a training state of this version; training-state-*.pt of train.py is needed")
    return state


# ----------------------------------------------------------------------------
# Grids.


def grid_shape(resolution: int) -> tuple[int, int]:
    """(columns, rows) of a preview: about 1600 x 900 pixels of pictures, but no more than 16 x 9 small ones."""
    if resolution <= 64:
        return 16, 9
    return max(1600 // resolution, 4), max(900 // resolution, 3)


def save_grids(folder: Path, name: str, images: dict[str, torch.Tensor], columns: int) -> None:
    """Writes {folder}/{name}-{spectrum}.png for pictures {spectrum: float [N, C, H, W] in [-1, 1]}."""
    for spectrum, batch in images.items():
        pixels = to_uint8(batch).cpu().numpy().transpose(0, 2, 3, 1)  # [N, H, W, C]
        atomic_write_bytes(
            folder / f"{name}-{spectrum}.png", encode_png(np.ascontiguousarray(image_grid(pixels, columns)))
        )
