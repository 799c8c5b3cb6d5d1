"""Recognition models on disk: arcface_torch state dicts (.pth, .pt), our .safetensors with a JSON header, and .onnx.

Nothing that is loaded here can run code: pickles are read with weights_only. What is wrong with a file is said
in one line that names it. The fingerprint (of names and values, not of the file; weights_onnx.py says why an .onnx
differs) travels with every feature, so that no later stage compares features of two models.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from arcface.alignment import ARCFACE_TEMPLATE, Template, template_of
from arcface.backbones import NUM_FEATURES, build_backbone, recognise_architecture
from arcface.choices import ARCHITECTURES, FULL_INPUT_SIZE
from arcface.preprocess import protocol
from arcface.weights_onnx import load_onnx
from dnnlib.errors import UserError
from dnnlib.files import StrPath, atomic_write_bytes, require_file

HEADER = "arcbiface_recognition"  # the only metadata key: the order of several would vary from write to write
COLOR_ORDERS = ("RGB", "BGR")
ONNX = "onnx"  # the architecture of a model whose file is a graph of its own


@dataclass
class RecognitionModel:
    """A backbone and all that must be known to use it.

    arch: key of ARCHITECTURES, or 'onnx'. input_size: pixels. color_order: 'RGB' or 'BGR'. fingerprint: 16 hex digits.
    backbone: the network, in evaluation mode. training: what it was trained on, as the header says (may be empty).
    num_features: length of a feature. alignment: of the faces that it was trained on; None: not known, it sees
    pictures as they are.
    """

    arch: str
    input_size: int
    color_order: str
    fingerprint: str
    backbone: nn.Module
    training: dict[str, Any]
    num_features: int = NUM_FEATURES
    alignment: Template | None = None

    @property
    def device(self) -> torch.device:
        """Where pictures must lie; an .onnx has no parameters here, and takes them on the CPU."""
        return next((parameter.device for parameter in self.backbone.parameters()), torch.device("cpu"))


def fingerprint(state: Mapping[str, torch.Tensor]) -> str:
    """16 hex digits over names, shapes and float32 values; the same whatever the file format and the order.

    Counters of batches that normalisation layers keep do not change what a network computes and do not count.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        if not name.endswith("num_batches_tracked"):
            values = state[name].detach().to("cpu", torch.float32).contiguous()
            digest.update(f"{name} {tuple(values.shape)}\n".encode())
            digest.update(values.numpy().tobytes())
    return digest.hexdigest()[:16]


# ----------------------------------------------------------------------------
# Reading.


def load_recognition(
    path: StrPath,
    device: str | torch.device = "cpu",
    arch: str | None = None,
    option: str = "--rec-model",
) -> RecognitionModel:
    """Loads a recognition model, ready to embed.

    Args:
        path: .safetensors of ours, an .onnx, or a .pth / .pt state dict with arcface_torch's names.
        device: where the backbone goes.
        arch: key of ARCHITECTURES; None: what the header says, or what the shapes tell.
        option: the option that error messages name.

    Raises:
        UserError: no such file, truncated, not a state dict, unknown or wrong architecture.
    """
    where = f"{option}: {path}"
    require_file(path, where, "a recognition model (.pth, .safetensors or .onnx) is needed")
    if arch is not None and arch not in ARCHITECTURES:
        raise UserError(f"--rec-arch: unknown architecture {arch!r}; known are {', '.join(ARCHITECTURES)}")
    suffix = Path(path).suffix.lower()
    if suffix == ".onnx":
        if arch is not None:
            raise UserError(f"--rec-arch: {arch} is not needed, for {path} is a graph of its own")
        network, size, features, mark = load_onnx(path, torch.device(device), where)
        return RecognitionModel(ONNX, size, "RGB", mark, network.eval(), {}, features, ARCFACE_TEMPLATE)
    header: dict[str, Any] = {}
    if suffix == ".safetensors":
        state, header = _read_safetensors(path, where)
        alignment = template_of(header, where)
    else:
        state = read_state_dict(Path(path).read_bytes(), where)
        alignment = ARCFACE_TEMPLATE  # as all public models are
    name = arch or header.get("arch") or recognise_architecture(state)
    if name is None:
        raise UserError(f"{where}: {len(state)} tensors of no known architecture; known are {', '.join(ARCHITECTURES)}")
    if name not in ARCHITECTURES:
        raise UserError(f"{where}: its header names the architecture {name!r}, which is not known here")
    size = _input_size(name, header, where)
    backbone = _fill_backbone(name, size, state, where)
    mark = fingerprint(state)
    if header.get("fingerprint", mark) != mark:
        raise UserError(
            f"{where}: its header says fingerprint {header['fingerprint']}, but its weights are {mark}; "
            "they were changed or damaged: save or fetch it again"
        )
    return RecognitionModel(
        arch=name,
        input_size=size,
        color_order=header.get("color_order", "RGB"),
        fingerprint=mark,
        backbone=backbone.to(device).to(memory_format=torch.channels_last).eval(),  # type: ignore[call-overload]
        training=header.get("training", {}),
        alignment=alignment,
    )


def read_state_dict(data: bytes, where: str) -> dict[str, torch.Tensor]:
    """Tensors by name out of a PyTorch file, read with weights_only.

    A dict that holds the state dict (arcface_torch's training checkpoints) is opened, and the prefix that
    DistributedDataParallel adds is taken off. Raises UserError, starting with `where`, for anything else.
    """
    content = read_checkpoint(data, where)
    if isinstance(content, dict):
        for key in ("state_dict_backbone", "state_dict"):
            content = content[key] if isinstance(content.get(key), dict) else content
    if not isinstance(content, dict) or not content or not all(_is_entry(*entry) for entry in content.items()):
        raise UserError(f"{where}: not a state dict (a mapping of names to tensors)")
    return {name.removeprefix("module."): values for name, values in content.items()}


BROKEN_CHECKPOINT = (  # what torch raises for a damaged file; its reader looks before it leaps nowhere
    RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError,
    MemoryError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


def read_checkpoint(data: bytes, where: str) -> Any:
    """What a PyTorch file holds: tensors, numbers, strings, lists and dicts of them, and nothing that runs.

    Raises UserError, starting with `where`, for a file that is truncated, no PyTorch file, or wants more than that.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's doubts about other protocols of pickles, between our lines
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        advice = "torch.save(model.state_dict(), FILE) writes weights alone"
        raise UserError(f"{where}: refused: not a file of weights only, or no PyTorch file at all; {advice}") from error
    except BROKEN_CHECKPOINT as error:
        raise UserError(f"{where}: truncated or not a PyTorch file; fetch or copy it again") from error


def _is_entry(name: object, values: object) -> bool:
    return isinstance(name, str) and isinstance(values, torch.Tensor)


def _read_safetensors(path: StrPath, where: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{where}: truncated or not a safetensors file ({error})") from error
    if HEADER not in metadata:
        raise UserError(
            f"{where}: a safetensors file, but not a recognition model's; train_recognition.py writes those"
        )
    return state, _read_header(metadata[HEADER], where)


def _read_header(text: str, where: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
        sound = isinstance(header["arch"], str) and isinstance(header["input_size"], int)
        sound = sound and header["color_order"] in COLOR_ORDERS and isinstance(header.get("training", {}), dict)
    except (KeyError, ValueError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise UserError(f"{where}: its header is broken; save the model again")
    ours = protocol(header["input_size"], header["color_order"])
    if header.get("preprocessing", ours) != ours:  # files of before say nothing, and are meant like this
        raise UserError(f"{where}: wants pictures prepared as {header['preprocessing']}, which is not {ours}")
    return header


def _input_size(arch: str, header: Mapping[str, Any], where: str) -> int:
    if "input_size" in header:
        return header["input_size"]
    if ARCHITECTURES[arch].narrow:
        raise UserError(f"{where}: a narrow {arch} does not tell its input size; use the .safetensors of its training")
    return FULL_INPUT_SIZE


def _fill_backbone(arch: str, input_size: int, state: Mapping[str, torch.Tensor], where: str) -> nn.Module:
    """Builds the backbone and loads it strictly; the error counts what does not fit and names the first."""
    try:
        with torch.device("meta"):
            backbone = build_backbone(arch, input_size)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    wanted = backbone.state_dict()
    faults = [f"{name} is missing" for name in wanted if name not in state]
    faults += [f"{name} is not expected" for name in state if name not in wanted]
    faults += [
        f"{name} is {tuple(values.shape)}, {tuple(wanted[name].shape)} is needed"
        for name, values in state.items()
        if name in wanted and values.shape != wanted[name].shape
    ]
    if faults:
        raise UserError(f"{where}: not a {arch}: {len(faults)} tensors do not fit, the first: {faults[0]}")
    backbone.load_state_dict(
        {name: values.to(wanted[name].dtype) for name, values in state.items()}, strict=True, assign=True
    )
    broken = next((name for name, values in backbone.state_dict().items() if not values.isfinite().all()), None)
    if broken:
        raise UserError(f"{where}: {broken} holds NaN or infinity")
    return backbone


# ----------------------------------------------------------------------------
# Writing.


def save_recognition(
    path: StrPath,
    backbone: nn.Module,
    arch: str,
    input_size: int,
    color_order: str = "RGB",
    training: Mapping[str, Any] | None = None,
    alignment: Template | None = None,
) -> str:
    """Writes a model as .safetensors, atomically.

    Args:
        training: what it was trained on (data path, digest, spectra, identities, ...), any JSON values.
        alignment: of the faces that it was trained on; None: not known.

    Returns:
        The fingerprint.
    """
    state = {name: values.detach().cpu().contiguous() for name, values in backbone.state_dict().items()}
    mark = fingerprint(state)
    header = {
        "arch": arch,
        "input_size": input_size,
        "color_order": color_order,
        "preprocessing": protocol(input_size, color_order),
        "fingerprint": mark,
        "training": dict(training or {}),
        **(alignment.record() if alignment is not None else {}),
    }
    atomic_write_bytes(path, save(state, metadata={HEADER: json.dumps(header, allow_nan=False)}))
    return mark
