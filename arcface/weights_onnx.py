"""Recognition models as .onnx, run by the optional package onnxruntime; to the rest of the house a backbone like any.

The file tells the input's size and layout and the length of the feature, but not the order of the colours: RGB is
taken, as InsightFace's models are (its programs swap OpenCV's BGR before the network). Models that were converted from
MXNet begin by normalising pixels of 0 to 255 themselves; their operators tell, and they get what they expect.

A file comes from others: weights in further files, loops, and more memory than a face needs are refused.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from arcface.choices import FULL_INPUT_SIZE
from arcface.onnx_file import OnnxContents, read_contents
from dnnlib.errors import UserError
from dnnlib.files import StrPath

MOST_FILE_BYTES = (2 << 30) - 1  # a protocol buffer cannot be larger
MOST_MEMORY = 6 << 30  # bytes for loading and for the first two pictures
MOST_SIDE = 1024  # pixels of the input
ENDLESS = {"Loop", "Scan"}
NORMALISING = {"Sub", "Mul", "Div", "Add", "BatchNormalization"}
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxBackbone(nn.Module):
    """A session of onnxruntime as a network: [N, 3, S, S] in [-1, 1] -> raw features [N, num_features], on the CPU's
    side (onnxruntime brings its data to the GPU itself).

    Args:
        channels_last: the input is [N, S, S, 3]. own_normalisation: it wants 0 to 255. one_by_one: its N is always 1.
    """

    def __init__(self, session: Any, channels_last: bool, own_normalisation: bool, one_by_one: bool) -> None:
        super().__init__()
        self._session = session
        self._input = session.get_inputs()[0].name
        self._type = TYPES[session.get_inputs()[0].type]
        self.channels_last, self.own_normalisation, self.one_by_one = channels_last, own_normalisation, one_by_one

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.own_normalisation:
            x = x * 127.5 + 127.5
        layout = x.permute(0, 2, 3, 1) if self.channels_last else x
        pictures = layout.detach().cpu().contiguous().numpy().astype(self._type, copy=False)
        parts = np.split(pictures, len(pictures)) if self.one_by_one else [pictures]
        found = [self._session.run(None, {self._input: part})[0] for part in parts]
        return torch.from_numpy(np.concatenate(found).astype(np.float32))  # [N, num_features]


def load_onnx(path: StrPath, device: torch.device, where: str) -> tuple[OnnxBackbone, int, int, str]:
    """Returns the network, its input size in pixels, the length of its feature, and its fingerprint.

    The fingerprint is of the file: the same weights in another graph compute something else.

    Raises UserError, starting with `where`, for a missing package and for all that is no recognition model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{where}: an .onnx file needs a package: pip install onnxruntime") from error
    if Path(path).stat().st_size > MOST_FILE_BYTES:
        raise UserError(f"{where}: more than 2 GiB, which no .onnx file can be")
    data = Path(path).read_bytes()
    contents = _checked_contents(data, where)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # what goes wrong is told below, in one line
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.add_session_config_entry("session.load_model_format", "ONNX")
    on_gpu = device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    provider = ("CUDAExecutionProvider", {"device_id": device.index or 0}) if on_gpu else "CPUExecutionProvider"
    try:
        with contextlib.nullcontext() if on_gpu else _memory_limit():
            session = onnxruntime.InferenceSession(data, settings, providers=[provider])
            size, channels_last, one_by_one = _input_layout(session, where)
            network = OnnxBackbone(session, channels_last, _normalises(contents), one_by_one)
            features = network(torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)))
    except UserError:
        raise
    except Exception as error:  # onnxruntime's errors have no class in common
        raise UserError(f"{where}: onnxruntime cannot run it ({_first_line(error)})") from error
    if features.ndim != 2 or len(features) != 2 or not features.isfinite().all():
        raise UserError(f"{where}: gives {list(features.shape)} for two pictures; a finite feature for each is needed")
    return network, size, features.shape[1], hashlib.sha256(data).hexdigest()[:16]


def _checked_contents(data: bytes, where: str) -> OnnxContents:
    try:
        contents = read_contents(data)
    except ValueError as error:
        raise UserError(f"{where}: truncated or not an ONNX model ({error}); fetch or export it again") from error
    if contents.external:
        raise UserError(f"{where}: refused: its weights lie in other files; export it into one file")
    if endless := ENDLESS.intersection(contents.operators):
        raise UserError(f"{where}: refused: a recognition network needs no {sorted(endless)[0]}")
    return contents


def _normalises(contents: OnnxContents) -> bool:
    """Whether the graph subtracts and scales before its first convolution, as MXNet's models do."""
    before = contents.operators[: contents.operators.index("Conv")] if "Conv" in contents.operators else []
    arithmetic = [operator for operator in before if operator != "Constant"]
    return arithmetic[:1] == ["Sub"] and NORMALISING.issuperset(arithmetic)


def _input_layout(session: Any, where: str) -> tuple[int, bool, bool]:
    """(side in pixels, channels last, always one picture). A side that is left open is 112."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = list(inputs[0].shape) if inputs else []
    if len(inputs) != 1 or len(outputs) != 1 or len(shape) != 4 or inputs[0].type not in TYPES:
        told = ", ".join(f"{one.name} {one.shape} {one.type}" for one in inputs)
        raise UserError(f"{where}: takes {told} and gives {len(outputs)} results; one batch of pictures -> one feature")
    batch, *rest = (value if isinstance(value, int) and value > 0 else None for value in shape)
    channels_last = rest[2] == 3 and rest[0] != 3
    height, width = (rest[0], rest[1]) if channels_last else (rest[1], rest[2])
    channels = rest[2] if channels_last else rest[0]
    side = height or width or FULL_INPUT_SIZE
    if channels != 3 or {height, width} - {None, side} or side > MOST_SIDE or batch not in (None, 1):
        raise UserError(f"{where}: takes {shape}; [N, 3, S, S] or [N, S, S, 3], N open or 1, is needed")
    return side, channels_last, batch == 1


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


@contextlib.contextmanager
def _memory_limit() -> Iterator[None]:
    """Inside the block this process gets no more than MOST_MEMORY beyond what it has (Linux; elsewhere no limit):
    a graph may ask for any amount, and a failed request is an error where a granted one would end other programs."""
    status = Path("/proc/self/status")
    if not status.exists():
        yield
        return
    import resource

    used = next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmData"))
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = used + MOST_MEMORY
    ceilings = [value for value in (wanted, soft, hard) if value != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(ceilings), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
